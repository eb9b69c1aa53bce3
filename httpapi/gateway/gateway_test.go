package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// The model may be said in several places.
func TestWhereTheModelIsSaid(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	file, err := parts.CreateFormFile("file", "a.wav")
	require.NoError(t, err)
	_, err = file.Write(bytes.Repeat([]byte("x"), 2<<20))
	require.NoError(t, err)
	require.NoError(t, parts.WriteField("model", "m"))
	require.NoError(t, parts.Close())
	for _, c := range []struct{ method, path, body, key, value, at string }{
		{"POST", chat, `{"messages":[],"model":"m"}`, "Content-Type", "application/json", chat},
		{"POST", chat, `{"model":"gpt"}`, "Content-Type", "application/x-www-form-urlencoded", chat},
		{"POST", chat, `{"\u006dodel":"m"}`, "", "", chat},
		{"POST", "/v1/audio/transcriptions", form.String(), "Content-Type", parts.FormDataContentType(), "/v1/audio/transcriptions"},
		{"GET", "/v1/realtime?model=m&x=1", "", "", "", "/v1/realtime?model=m&x=1"},
		{"POST", "/tokenize", `{}`, "X-Hive-Model", "m", "/tokenize"},
		{"GET", "/upstream/m/any%2Fpath?q=1", "", "", "", "/any%2Fpath?q=1"},
		{"GET", "/upstream/org%2Fm/x", "", "", "", "/x"},
		{"GET", "/upstream/m", "", "", "", "/"},
	} {
		resp, text := r.do(c.method, c.path, c.body, c.key, c.value)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s %s: %s", c.method, c.path, text)
		require.Equal(t, c.at, resp.Header.Get("X-Path"))
		require.Equal(t, c.body, text)
	}
	left, err := os.ReadDir(r.g.SpoolDir())
	require.NoError(t, err)
	require.Empty(t, left, "a spooled body has no name")
}

// An engine that insists on its own name is asked for that, also in a body that is too long for memory.
func TestTheEnginesOwnName(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	replica := w.replica()
	own := "engine \"x\""
	replica.EngineModel = &own
	r.table(wire.Route{Name: "m", Names: []string{"m"}, State: "ready", Replicas: []wire.Replica{replica}})
	for _, more := range []string{"", strings.Repeat("y", 3<<20)} {
		resp, text := r.do("POST", chat, `{"a":"`+more+`","model": "m","b":[1]}`)
		require.Equal(t, `{"a":"`+more+`","model": "engine \"x\"","b":[1]}`, text)
		require.Equal(t, fmt.Sprint(len(text)), resp.Header.Get("X-Len"))
	}
}

// Long bodies have an end together; what was refused takes nothing.
func TestLongBodiesHaveAnEndTogether(t *testing.T) {
	free, began := make(chan struct{}), make(chan struct{})
	w := startWorker(t, "w-1", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		began <- struct{}{}
		<-free
	})
	r := newRig(t, w)
	body := `{"model":"m","x":"` + strings.Repeat("x", 7<<20) + `"}`
	done := make(chan struct{})
	go func() { defer close(done); r.do("POST", chat, body) }()
	<-began
	for range 3 {
		resp, text := r.do("POST", chat, body)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Contains(t, text, "spool_full")
	}
	close(free)
	<-done
	go func() { <-began }()
	resp, _ := r.do("POST", chat, body)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// What says who calls, or means something to a proxy, goes no further.
func TestHeadersThatAreNotPassedOn(t *testing.T) {
	got := make(chan http.Header, 1)
	w := startWorker(t, "w-1", func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Clone()
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Accel-Redirect", "/etc/passwd")
		w.Header().Set("X-Own", "kept")
	})
	r := newRig(t, w)
	resp, _ := r.do("POST", chat, `{"model":"m"}`, "Authorization", "Bearer x", "Cookie", "c=d", "X-Api-Key", "k", "X-Request-Id", "mine", "X-Own", "kept")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	sent := <-got
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key"} {
		require.Empty(t, sent.Get(name), name)
	}
	require.Equal(t, "mine", sent.Get("X-Request-Id"))
	require.Equal(t, "kept", sent.Get("X-Own"))
	require.Equal(t, "127.0.0.1", sent.Get("X-Forwarded-For"))
	require.Empty(t, resp.Header.Get("Set-Cookie"))
	require.Empty(t, resp.Header.Get("X-Accel-Redirect"))
	require.Equal(t, "kept", resp.Header.Get("X-Own"))
	require.Equal(t, "mine", resp.Header.Get("X-Request-Id"))
}

// What is wrong is said in the form on which the clients of the path raise.
func TestRefusals(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	reason := "half of it"
	r.table(
		wire.Route{Name: "m", Names: []string{"m"}, State: "ready", Replicas: []wire.Replica{w.replica()}},
		wire.Route{Name: "loads", Names: []string{"loads"}, Type: "t", State: "loading", Reason: &reason}, wire.Route{Name: "off", Names: []string{"off"}, Type: "t", State: "stopped"},
	)
	for _, c := range []struct {
		path, body string
		status     int
		says       string
		header     []string
	}{
		{chat, `{"model":"load"}`, 404, `"code":"model_not_found"`, nil},
		{chat, `{"model":"load"}`, 404, `did you mean loads?`, nil},
		{chat, `{"model":"zzz"}`, 404, `there is m, loads, off`, nil},
		{chat, `{"model":"loads"}`, 503, `loading (half of it)`, nil},
		{chat, `{"model":"off"}`, 503, "hivectl up t", nil},
		{chat, `{}`, 400, "model_missing", nil},
		{chat, `[]`, 400, "model_missing", nil},
		{chat, `{"model":"m"`, 400, "invalid_json", nil},
		{chat, `{"model":"m","x":` + strings.Repeat("[", 7<<20), 400, "nested", nil},
		{chat, `{"model":7}`, 400, "expected a string", nil},
		{chat, `{"model":"m","model":"off"}`, 400, "said twice", nil},
		{chat, `{"model":"` + strings.Repeat("x", 600) + `"}`, 400, "at most 512", nil},
		{chat, `{"model":"m","x":"` + strings.Repeat("x", 9<<20) + `"}`, 413, "--max-body", nil},
		{"/v1/audio/transcriptions", "--b\r\nContent-Disposition", 400, "invalid_form", []string{"Content-Type", "multipart/form-data; boundary=b"}},
		{"/v1/messages", `{"model":"zzz"}`, 404, `"type":"error"`, nil},
		{"/nothing", ``, 404, "no_route", nil},
		{chat, `{"model":"m"}`, 403, "host_not_allowed", []string{"Host", "example.com"}},
		{chat, `{"model":"m"}`, 403, "origin_not_allowed", []string{"Sec-Fetch-Site", "cross-site"}},
		{chat, `{"model":"m"}`, 403, "forwarded", []string{"X-Forwarded-For", "1.2.3.4"}},
	} {
		resp, text := r.do("POST", c.path, c.body, c.header...)
		require.Equal(t, c.status, resp.StatusCode, "%s %.80s: %s", c.path, c.body, text)
		require.Contains(t, text, c.says)
		require.Equal(t, c.status == 503, resp.Header.Get("Retry-After") != "")
	}
	require.Zero(t, w.seen.Load())
}

// The list says what hive knows, and asks no worker.
func TestModelsAreListed(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	_, text := r.do("GET", "/v1/models", "")
	require.JSONEq(t, `{"object":"list","data":[{"id":"m","object":"model","created":0,"owned_by":"hive",
		"hive":{"state":"ready","reason":null,"type":"t","names":["m","gpt","org/m"],"replicas":1,"in_flight":0}}]}`, text)
	_, text = r.do("GET", "/v1/models/gpt", "")
	require.Contains(t, text, `"id":"m"`)
	resp, _ := r.do("GET", "/v1/models/none", "")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Zero(t, w.seen.Load())
}

// While hive is away the gateway goes on with what it knows; before the first table it has nothing to say.
func TestHiveIsAway(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	r.hive.away = true
	require.ErrorIs(t, r.g.Refresh(t.Context()), errAway)
	resp, _ := r.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusOK, resp.StatusCode)

	fresh := newRig(t)
	fresh.g.Forget()
	resp, text := fresh.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, text, "no_routes")
	resp, _ = fresh.do("GET", "/health", "")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
}

// A stream is passed on as it comes, and its client's going away at once.
func TestStreamsAndTheirEnd(t *testing.T) {
	gone := make(chan struct{})
	w := startWorker(t, "w-1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: one\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	r := newRig(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+chat, strings.NewReader(`{"model":"m"}`))
	require.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "data: one\n", line)
	cancel()
	resp.Body.Close()
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the worker was not told")
	}
}

// An answer that ends in the middle never looks whole.
func TestAnAnswerThatEndsInTheMiddle(t *testing.T) {
	kind := ""
	w := startWorker(t, "w-1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		fmt.Fprint(w, "data: one\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	r := newRig(t, w)
	kind = "text/event-stream; charset=utf-8"
	_, text := r.do("POST", chat, `{"model":"m"}`)
	require.True(t, strings.HasPrefix(text, "data: one\n\n"), text)
	require.Contains(t, text, `data: {"error":{"code":"worker_failed"`)
	_, text = r.do("POST", "/v1/messages", `{"model":"m"}`)
	require.Contains(t, text, "event: error\ndata: {\"error\":")
	kind = "application/json"
	_, _, err := r.try("POST", chat, `{"model":"m"}`)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// What asks for another protocol gets it.
func TestAnUpgradedConnection(t *testing.T) {
	w := startWorker(t, "w-1", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buf.Flush()
		_, _ = io.Copy(conn, buf)
	})
	r := newRig(t, w)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/realtime?model=m HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	answer := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answer, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	fmt.Fprint(conn, "hello\n")
	line, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
}

// A page of another site cannot open a websocket, which no browser would keep it from.
func TestAnUpgradeOfAnotherSite(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://example.com"}} {
		resp, text := r.do("GET", "/v1/realtime?model=m", "", append(header, "Connection", "Upgrade", "Upgrade", "websocket")...)
		require.Equal(t, http.StatusForbidden, resp.StatusCode, text)
	}
	require.Zero(t, w.seen.Load())
}

// What a worker lets any page read is not for pages of other sites either.
func TestAGetOfAnotherSite(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	resp, _ := r.do("GET", "/upstream/m/slots", "", "Origin", "https://example.com", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	require.Zero(t, w.seen.Load())
}

// The metrics are by route, and not by what a caller has made up.
func TestMetricsOfTheGateway(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	r.do("POST", chat, `{"model":"gpt"}`)
	r.do("POST", chat, `{"model":"made up"}`)
	_, text := r.do("GET", "/metrics", "")
	require.Contains(t, text, `hive_gateway_requests_total{code="200",route="m"} 1`)
	require.Contains(t, text, `hive_gateway_requests_total{code="404",route="none"} 1`)
	require.NotContains(t, text, "made up")
}
