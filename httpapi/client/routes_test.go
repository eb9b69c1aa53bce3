package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client"
)

func TestWorkerEventsTakesEveryPage(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.Atoi(r.URL.Query().Get("after"))
		require.NoError(t, err)
		page := ""
		for seq := after + 1; seq <= min(after+2, 5); seq++ {
			if page != "" {
				page += ","
			}
			page += fmt.Sprintf(`{"seq":%d,"type":"log","new_field":1}`, seq)
		}
		writeJSON(w, 200, `{"events":[`+page+`],"next":""}`)
	})
	events, err := c.WorkerEvents(testContext(t), "w", 0)
	require.NoError(t, err)
	require.Len(t, events, 5)
	for i, e := range events {
		require.Equal(t, uint64(i+1), e.Value.Seq)
		require.Contains(t, string(e.Raw), "new_field")
	}
}

// A server that ignores "after" must not make the client ask for ever.
func TestWorkerEventsEnds(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, `{"events":[{"seq":1,"type":"log"}]}`)
	})
	events, err := c.WorkerEvents(testContext(t), "w", 1)
	require.NoError(t, err)
	require.Len(t, events, 1)
}

func TestWorkerLog(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s\n", r.URL.RequestURI())
		if r.URL.Query().Get("follow") == "true" {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	for uri, o := range map[string]client.LogOptions{
		"/v1/workers/w/logs":         {Tail: -1},
		"/v1/workers/w/logs?tail=0":  {Tail: 0},
		"/v1/workers/w/logs?tail=20": {Tail: 20},
	} {
		body, err := c.WorkerLog(testContext(t), "w", o)
		require.NoError(t, err)
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.Equal(t, uri+"\n", string(text))
	}
	body, err := c.WorkerLog(testContext(t), "w", client.LogOptions{Tail: -1, Follow: true})
	require.NoError(t, err)
	defer body.Close()
	text, err := io.ReadAll(body)
	require.Equal(t, "/v1/workers/w/logs?follow=true\n", string(text))
	require.ErrorIs(t, err, client.ErrUnreachable, "a log that is cut off must not look complete")
}

func TestWorkerLogOfNobody(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, 404, "not_found", "no worker w") })
	_, err := c.WorkerLog(testContext(t), "w", client.LogOptions{Tail: -1})
	require.ErrorIs(t, err, client.ErrNotFound)
}

// "..": the URL would be that of another route.
func TestDotSegmentsAreSentNowhere(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, name := range []string{".", ".."} {
		_, err := c.Worker(t.Context(), name)
		require.ErrorIs(t, err, client.ErrNotFound)
		_, err = c.Cancel(t.Context(), name)
		require.ErrorIs(t, err, client.ErrNotFound)
		_, err = c.WorkerLog(t.Context(), name, client.LogOptions{})
		require.ErrorIs(t, err, client.ErrNotFound)
	}
}
