package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// readSSE reads a job's event stream to its end, as a browser would.
func readSSE(t *testing.T, body io.Reader) (events []wire.Event) {
	t.Helper()
	for ev, err := range sse.Read(body, nil) {
		require.NoError(t, err)
		var e wire.Event
		require.NoError(t, json.Unmarshal([]byte(ev.Data), &e))
		require.NotNil(t, e.JobSeq)
		require.Equal(t, strconv.FormatUint(*e.JobSeq, 10), ev.LastEventID)
		require.Equal(t, e.Type, ev.Type)
		events = append(events, e)
	}
	return events
}

func TestEventsOfASpawn(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.submit(`{"operation":"worker_spawn","worker":"cpu"}`)
	resp := r.open("/v1/jobs/" + sub.JobID + "/events")
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	all := readSSE(t, resp.Body)
	require.GreaterOrEqual(t, len(all), 3)
	last := all[len(all)-1]
	require.Equal(t, "end", last.Type)
	require.JSONEq(t, `{"state":"succeeded","error":null}`, string(last.Data))
	for i, ev := range all {
		require.EqualValues(t, i+1, *ev.JobSeq)
		require.True(t, i == 0 || ev.Seq > all[i-1].Seq)
	}

	// Where a client left off, in both forms; the header is newer than the URL.
	middle := *all[len(all)/2].JobSeq
	want := all[len(all)/2+1:]
	path := "/v1/jobs/" + sub.JobID + "/events"
	require.Equal(t, want, readSSE(t, r.open(fmt.Sprintf("%s?after=%d", path, middle)).Body))
	require.Equal(t, want, readSSE(t, r.open(path, "Last-Event-ID", fmt.Sprint(middle)).Body))
	require.Equal(t, want, readSSE(t, r.open(path+"?after=0", "Last-Event-ID", fmt.Sprint(middle)).Body))

	// Nothing can follow: anything but 204 makes a browser come back for ever.
	resp, body := r.send(http.MethodGet, path, "", "Last-Event-ID", fmt.Sprint(*last.JobSeq))
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Empty(t, body)
}

// Several may watch a job while it runs, and it ends for all of them.
func TestRunningJobHasManyListeners(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	r.awaitWorker("never", "loading")
	seen := make(chan []wire.Event, 2)
	for range 2 {
		resp := r.open("/v1/jobs/" + sub.JobID + "/events")
		go func() { seen <- readSSE(t, resp.Body) }()
	}
	text := r.open("/v1/jobs/" + sub.JobID + "/stream")
	resp, body := r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	a, b := <-seen, <-seen
	require.Equal(t, a, b)
	require.Equal(t, "end", a[len(a)-1].Type)
	require.ErrorIs(t, keeperReads(t, text.Body).err, errKeeperCancelled)
}

// rbee's keeper gives up after 30 s; a model may load for minutes. The spawn has
// started its worker, which is all that rbee's own spawn says.
func TestStreamOfALoadingWorkerEndsPolitely(t *testing.T) {
	// The stream outlives the limits of an ordinary request.
	r := newRig(t, rigOptions{streamWait: 2 * time.Second, limit: time.Second}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	r.awaitWorker("never", "loading")
	v := r.keeper(sub.JobID)
	require.NoError(t, v.err)
	require.Equal(t, 1, v.complete)
	var result wire.Spawned
	v.webView(t, &result)
	require.Equal(t, "starting", result.Status)
	require.Equal(t, r.ports.First, result.Port)

	job := decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID, http.StatusOK))
	require.Equal(t, "running", job.State, "the job goes on")
	w := decode[wire.Worker](t, r.get("/v1/workers/"+result.WorkerID, http.StatusOK))
	require.Equal(t, *w.PID, *result.PID)
	require.Equal(t, *w.LeaseID, *result.LeaseID)
}

// Anything else has not happened yet after that time, so it is no success; and
// the text keeps people from submitting it twice.
func TestStreamOfAnUnfinishedStopIsNoSuccess(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits for a grace of 5 s")
	}
	stubborn := entry(t, "stubborn", "--ignore-term")
	grace := 5 * time.Second
	stubborn.Stop.Grace = &grace
	r := newRig(t, rigOptions{streamWait: 300 * time.Millisecond}, stubborn)
	w := r.spawn("stubborn")
	sub := r.submit(`{"operation":"worker_stop","worker_id":"` + w.WorkerID + `"}`)
	v := r.keeper(sub.JobID)
	require.ErrorIs(t, v.err, errKeeperFailed)
	require.Contains(t, v.lines[len(v.lines)-1], "job "+sub.JobID+" is still running and continues")
	require.Zero(t, v.complete)
	job := decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID+"?wait=50s", http.StatusOK))
	require.Equal(t, "succeeded", job.State)
	require.NoError(t, r.keeper(sub.JobID).err)
}

func TestLogs(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.spawn("cpu")
	path := "/v1/workers/" + w.WorkerID + "/logs"
	whole := r.get(path, http.StatusOK)
	require.Contains(t, whole, "listening on 127.0.0.1")
	lines := strings.SplitAfter(strings.TrimSuffix(whole, "\n"), "\n")
	require.Equal(t, lines[len(lines)-1]+"\n", r.get(path+"?tail=1", http.StatusOK))
	require.Empty(t, r.get(path+"?tail=0", http.StatusOK))

	follow := r.open(path + "?follow=1&tail=0")
	require.Equal(t, "text/plain; charset=utf-8", follow.Header.Get("Content-Type"))
	job := r.do(`{"operation":"worker_stop","worker_id":"` + w.WorkerID + `"}`)
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	added, err := io.ReadAll(follow.Body) // ends because the worker has
	require.NoError(t, err)
	require.Contains(t, string(added), "draining")
	require.Equal(t, whole+string(added), r.get(path, http.StatusOK), "also after its death")
	require.Equal(t, whole+string(added), r.get(path+"?follow", http.StatusOK))
}

// Nothing that is open keeps a shutdown waiting, and what is cut short does not
// look complete.
func TestShutdownEndsStreams(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	w := r.awaitWorker("never", "loading")
	events := r.open("/v1/jobs/" + sub.JobID + "/events")
	text := r.open("/v1/jobs/" + sub.JobID + "/stream")
	logs := r.open("/v1/workers/" + w.WorkerID + "/logs?follow=1")
	waited := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest(http.MethodGet, r.url+"/v1/jobs/"+sub.JobID+"?wait=50s", nil)
		resp, err := r.client.Do(req)
		if err != nil {
			waited <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		waited <- string(body)
	}()
	require.Eventually(t, func() bool { return r.active() == 4 }, 10*time.Second, time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, r.server.Shutdown(ctx))
	require.Equal(t, "running", decode[wire.Job](t, <-waited).State)
	v := keeperReads(t, text.Body)
	require.ErrorIs(t, v.err, errKeeperFailed)
	require.Contains(t, v.lines[len(v.lines)-1], "hive is shutting down")
	_, err := io.ReadAll(logs.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a part of a log is not the whole")
	rest, err := io.ReadAll(events.Body)
	require.NoError(t, err)
	require.NotContains(t, string(rest), "event: end", "a browser comes back for the rest")
}

func TestEventStreamKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		events := make(chan store.Event)
		done := make(chan error, 1)
		go func() { done <- httpapi.SendEvents(rec, events) }()
		events <- store.Event{Seq: 1, JobSeq: 1, Type: store.EventState, Message: "running"}
		<-time.After(40 * time.Second)
		events <- store.Event{Seq: 2, JobSeq: 2, Type: store.EventEnd}
		close(events)
		require.NoError(t, <-done)
		require.Equal(t, 2, strings.Count(rec.Body.String(), ": keep-alive\n\n"))
		require.Len(t, readSSE(t, rec.Body), 2, "comments are no events")
	})
}
