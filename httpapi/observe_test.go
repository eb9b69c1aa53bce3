package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

// access is one line of the access log.
type accessLine struct {
	Level     string  `json:"level"`
	Msg       string  `json:"msg"`
	RequestID string  `json:"request_id"`
	Method    string  `json:"method"`
	Route     string  `json:"route"`
	Path      string  `json:"path"`
	Status    int     `json:"status"`
	TookMS    float64 `json:"took_ms"`
	Bytes     int64   `json:"bytes"`
	Remote    string  `json:"remote"`
	Aborted   string  `json:"aborted"`
}

// accessLog makes a server with a log of JSON, and returns what it holds of requests.
func accessLog(t *testing.T, level logrus.Level) (*httpapi.Server, func() []accessLine) {
	t.Helper()
	log, logged := captureLog()
	log.SetFormatter(&logrus.JSONFormatter{})
	log.SetLevel(level)
	return httpapi.New(httpapi.Options{Access: anyone(), Log: log, Shutdown: func() {}}), func() []accessLine { return accesses(t, logged()) }
}

func accesses(t *testing.T, logged string) (all []accessLine) {
	t.Helper()
	for line := range strings.Lines(logged) {
		var a accessLine
		require.NoError(t, json.Unmarshal([]byte(line), &a), line)
		if a.Msg == "request" {
			all = append(all, a)
		}
	}
	return all
}

func TestAccessLog(t *testing.T) {
	s, lines := accessLog(t, logrus.InfoLevel)
	h := s.Wrap(s.Router())
	r := localRequest(http.MethodGet, "/openapi.yaml")
	r.Header.Set("X-Request-Id", "mine")
	r.RemoteAddr = "192.0.2.7:4711"
	rec := serve(h, r)
	all := lines()
	require.Len(t, all, 1)
	require.Positive(t, all[0].TookMS)
	all[0].TookMS = 0
	require.Equal(t, accessLine{
		Level: "info", Msg: "request", RequestID: "mine", Method: http.MethodGet, Route: "/openapi.yaml", Path: "/openapi.yaml",
		Status: http.StatusOK, Bytes: int64(rec.Body.Len()), Remote: "192.0.2.7:4711",
	}, all[0])
	require.Positive(t, rec.Body.Len())
	serve(h, localRequest(http.MethodHead, "/openapi.yaml"))
	require.Equal(t, []any{http.MethodHead, "/openapi.yaml", int64(0)}, []any{lines()[1].Method, lines()[1].Route, lines()[1].Bytes})

	for _, tt := range []struct {
		method, target, host, route string
		status                      int
	}{
		{http.MethodGet, "/v1/nothing", "", "other", http.StatusNotFound},
		{http.MethodGet, "/v1/hive", "evil.example", "other", http.StatusForbidden}, // no route was asked
		{http.MethodGet, "/v1/workers/x/logs?tail=none", "", "/v1/workers/{ref}/logs", http.StatusBadRequest},
		{http.MethodPost, "/v1/shutdown", "", "/v1/shutdown", http.StatusOK},
	} {
		r := localRequest(tt.method, tt.target)
		if tt.host != "" {
			r.Host = tt.host
		}
		serve(h, r)
		last := lines()[len(lines())-1]
		require.Equal(t, []any{tt.method, tt.route, r.URL.Path, tt.status, ""}, []any{last.Method, last.Route, last.Path, last.Status, last.Aborted}, tt.target)
	}
}

// What is polled for ever must not bury the rest, unless it fails.
func TestPollsAreLoggedAtDebug(t *testing.T) {
	for _, path := range []string{"/health", "/metrics"} {
		s, lines := accessLog(t, logrus.DebugLevel)
		require.Equal(t, http.StatusOK, serve(s.Wrap(s.Router()), localRequest(http.MethodGet, path)).Code)
		require.Len(t, lines(), 1)
		require.Equal(t, "debug", lines()[0].Level)

		serve(s.Wrap(s.Router()), localRequest(http.MethodPost, path)) // 405
		serve(s.Handler(), localRequest(http.MethodGet, path))         // 503: it does not serve yet
		all := lines()
		require.Len(t, all, 3)
		for _, a := range all[1:] {
			require.Equal(t, "info", a.Level, "%+v", a)
		}

		quiet, none := accessLog(t, logrus.WarnLevel) // as on a terminal
		serve(quiet.Wrap(quiet.Router()), localRequest(http.MethodGet, "/"))
		require.Empty(t, none())
	}
}

// A path is the caller's text. Whatever it holds, a request is one line, and its
// fields are those that hive wrote.
func TestLogLinesCannotBeForged(t *testing.T) {
	for name, formatter := range map[string]logrus.Formatter{
		"text": &logrus.TextFormatter{FullTimestamp: true, DisableColors: true}, "terminal": &logrus.TextFormatter{ForceColors: true},
		"json": &logrus.JSONFormatter{},
	} {
		log, logged := captureLog()
		log.SetFormatter(formatter)
		s := httpapi.New(httpapi.Options{Access: anyone(), Log: log})
		for _, path := range []string{
			"/a\nlevel=error msg=forged", "/a\r\nforged", "/a\x1b[2J\x1b]0;x\x07", "/a status=200 remote=unix", `/a" status=200 x="`, "/\u2028forged", "/\x00",
		} {
			before := len(logged())
			r := localRequest(http.MethodGet, "/")
			r.URL.Path = path
			serve(s.Wrap(s.Router()), r)
			line := logged()[before:]
			require.Equal(t, 1, strings.Count(line, "\n"), "%s: %q", name, line)
			require.True(t, strings.HasSuffix(line, "\n"))
			if name != "terminal" { // which colours by itself
				require.NotContains(t, line, "\x1b")
			}
			require.NotContains(t, line, "\x1b[2J")
			require.NotContains(t, line, "\r")
			require.NotContains(t, line, " status=200 remote=unix method", "%s: %q", name, line)
		}
	}
	s, lines := accessLog(t, logrus.InfoLevel)
	r := localRequest(strings.Repeat("M", 1000), "/"+strings.Repeat("x", 10000))
	serve(s.Wrap(s.Router()), r)
	require.Less(t, len(lines()[0].Path)+len(lines()[0].Method), 1000, "nor can they be made to fill the disk")
}

func TestAnAbortedAnswerSaysSo(t *testing.T) {
	s, lines := accessLog(t, logrus.InfoLevel)
	begun := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusOK)
		_, err := io.WriteString(w, "half")
		require.NoError(t, err)
	}
	for _, h := range []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) { begun(w); s.Fail(w, r, errors.New("the rest")) },
		func(w http.ResponseWriter, _ *http.Request) { begun(w); panic("the rest") },
	} {
		require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { serve(s.Wrap(h), localRequest(http.MethodGet, "/")) })
		last := lines()[len(lines())-1]
		require.Equal(t, []any{"hive", http.StatusOK, int64(4)}, []any{last.Aborted, last.Status, last.Bytes})
	}
	serve(s.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("at once") })), localRequest(http.MethodGet, "/"))
	last := lines()[len(lines())-1]
	require.Equal(t, []any{"", http.StatusInternalServerError}, []any{last.Aborted, last.Status}, "that answer is whole")
	metrics := serve(s.Wrap(s.Router()), localRequest(http.MethodGet, "/metrics")).Body.String()
	require.Contains(t, metrics, `hive_http_requests_total{method="GET",route="other",status="aborted"} 2`)
	require.Contains(t, metrics, `hive_http_requests_total{method="GET",route="other",status="500"} 1`)
}

// A client that goes while it waits is no failure of hive's.
func TestAClientThatGoesIsNoFailure(t *testing.T) {
	r := newRig(t, rigOptions{jsonLog: true}, entry(t, "slow", "--load-time", "1h"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"slow"}`)
	require.Eventually(t, func() bool { return r.active() == 0 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/v1/jobs/"+sub.JobID+"?wait=50s", nil)
	require.NoError(t, err)
	gone := make(chan error, 1)
	go func() {
		resp, err := r.client.Do(req)
		if err == nil {
			err = errors.Join(errors.New("it was answered"), resp.Body.Close())
		}
		gone <- err
	}()
	require.Eventually(t, func() bool { return r.active() == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	waited := func() (found []accessLine) {
		for _, a := range accesses(t, r.logged()) {
			if a.Route == "/v1/jobs/{id}" {
				found = append(found, a)
			}
		}
		return found
	}
	require.Eventually(t, func() bool { return len(waited()) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, "client", waited()[0].Aborted)
	require.Contains(t, r.get("/metrics", http.StatusOK), `hive_http_requests_total{method="GET",route="/v1/jobs/{id}",status="aborted"} 1`)
	resp, body := r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
}

func TestRemoteOfAUnixSocket(t *testing.T) {
	s, lines := accessLog(t, logrus.InfoLevel)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(s.Wrap(s.Router()))
	require.NoError(t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://localhost/openapi.yaml")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	require.Eventually(t, func() bool { return len(lines()) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, "unix", lines()[0].Remote)
}

// A stream is counted while it is open, and logged when it ends.
func TestAStreamIsLoggedAtItsEnd(t *testing.T) {
	r := newRig(t, rigOptions{jsonLog: true})
	ofLogs := func() (found []accessLine) {
		for _, a := range accesses(t, r.logged()) {
			if a.Route == "/v1/workers/{ref}/logs" {
				found = append(found, a)
			}
		}
		return found
	}
	w := r.spawn("cpu")
	resp := r.open("/v1/workers/" + w.WorkerID + "/logs?follow=1")
	require.Contains(t, r.get("/metrics", http.StatusOK), "hive_http_streams 1\n")
	require.Empty(t, ofLogs())
	require.NoError(t, resp.Body.Close())
	require.Eventually(t, func() bool { return len(ofLogs()) == 1 }, 10*time.Second, 10*time.Millisecond)
	a := ofLogs()[0]
	require.Equal(t, []any{"client", http.StatusOK, "/v1/workers/" + w.WorkerID + "/logs"}, []any{a.Aborted, a.Status, a.Path})
	metrics := r.get("/metrics", http.StatusOK)
	require.Contains(t, metrics, "hive_http_streams 0\n")
	require.Contains(t, metrics, `hive_http_requests_total{method="GET",route="/v1/workers/{ref}/logs",status="200"} 1`)
	require.NotContains(t, metrics, `hive_http_request_duration_seconds_count{method="GET",route="/v1/workers/{ref}/logs"}`)
}

// Not even at the level that says most.
func TestSecretsAreNotLogged(t *testing.T) {
	secret := "hunter2hunter2"
	e := entry(t, "private")
	e.Env = []string{"HF_TOKEN=" + secret}
	broken := entry(t, "broken", "--exit-code", "3")
	broken.Env = []string{"HF_TOKEN=" + secret}
	r := newRig(t, rigOptions{}, e, broken)
	r.log.SetLevel(logrus.TraceLevel)
	header := []string{"Cookie", "session=" + secret, "Referer", "http://localhost/?" + secret}
	r.send(http.MethodPost, "/v1/jobs", secret, append(header, "Authorization", "Bearer "+secret)...)
	for _, body := range []string{
		secret, `{"operation": "` + secret + `"}`, `{"` + secret + `": 1}`, `{"operation":"worker_spawn","worker":"` + secret + `"}`,
		`{"operation":"worker_spawn","worker":"private","params":{"` + secret + `":"` + secret + `"}}`,
		`{"operation":"worker_spawn","worker":"private","model":"` + secret + `"}`, `{"operation":"worker_spawn","worker":"broken"}`,
		`{"operation":"worker_stop","worker_id":"` + secret + `"}`,
	} {
		r.send(http.MethodPost, "/v1/jobs?wait=20s&token="+secret, body, header...)
	}
	for _, path := range []string{"/", "/v1/jobs?after=" + secret, "/v1/jobs?limit=" + secret, "/v1/types/private?model=" + secret, "/health?" + secret, "/nothing?" + secret} {
		r.send(http.MethodGet, path, "", header...)
	}
	r.send(http.MethodPost, "/v1/leases", `{"ttl":"1h","owner":"`+secret+`"}`, header...)
	require.Contains(t, r.logged(), "level=info msg=request")
	require.NotContains(t, r.logged(), secret)
}
