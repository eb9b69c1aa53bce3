package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client"
)

// serve starts a server for h and a client of it.
func serve(t *testing.T, h http.HandlerFunc, change ...func(*client.Options)) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return connect(t, server.URL, change...)
}

func connect(t *testing.T, addr string, change ...func(*client.Options)) *client.Client {
	t.Helper()
	opts := client.Options{Addr: addr}
	for _, f := range change {
		f(&opts)
	}
	c, err := client.New(opts)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// testContext bounds a test that would otherwise hang when it fails.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintln(w, body)
}

func writeProblem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "req-header")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"about:blank","title":"T","status":%d,"detail":%q,"code":%q,"request_id":"req-7"}`, status, detail, code)
}

func TestAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"":                         true,
		"http://127.0.0.1:7835":    true,
		"https://gpubox.lan:7835/": true,
		"127.0.0.1:7835":           true,
		"gpubox.lan:7835":          true,
		"[::1]:7835":               true,
		"unix:/run/hive.sock":      true,
		"unix:///run/hive.sock":    true,
		"unix:hive.sock":           false,
		"unix:":                    false,
		"ftp://x":                  false,
		"http://":                  false,
		":7835":                    false,
		"http://x/?a=b":            false,
		"http://x:y":               false,
	} {
		_, err := client.New(client.Options{Addr: addr})
		if ok {
			require.NoError(t, err, addr)
		} else {
			require.ErrorIs(t, err, client.ErrAddress, addr)
		}
	}
}

func TestRequestsAreAsTheContractSays(t *testing.T) {
	var got []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.RequestURI())
		require.Equal(t, "Bearer s3cret", r.Header.Get("Authorization"))
		require.Equal(t, "tester", r.Header.Get("User-Agent"))
		writeJSON(w, 200, `{}`)
	}, func(o *client.Options) { o.Token, o.UserAgent = "s3cret", "tester" })
	ctx := testContext(t)
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	add(c.Submit(ctx, "", json.RawMessage(`{"operation":"x"}`)))
	add(c.Job(ctx, "job-1"))
	add(c.Jobs(ctx, client.JobFilter{}))
	add(c.Jobs(ctx, client.JobFilter{State: "failed", Operation: "worker_stop", Limit: 7, After: "job-9"}))
	add(c.Cancel(ctx, "job-1"))
	add(c.Workers(ctx))
	add(c.Worker(ctx, "a/b c"))
	add(c.WorkerEvents(ctx, "w", 5))
	add(c.Leases(ctx))
	add(c.Lease(ctx, 8080))
	add(c.Ports(ctx))
	add(c.Hive(ctx))
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Empty(t, cmp.Diff([]string{
		"POST /v1/jobs", "GET /v1/jobs/job-1", "GET /v1/jobs",
		"GET /v1/jobs?state=failed&operation=worker_stop&limit=7&after=job-9",
		"DELETE /v1/jobs/job-1", "GET /v1/workers", "GET /v1/workers/a%2Fb%20c",
		"GET /v1/workers/w/events?after=5", "GET /v1/leases", "GET /v1/leases/8080",
		"GET /v1/ports", "GET /v1/hive",
	}, got))
}

func TestReplyKeepsWhatThisBuildDoesNotKnow(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 200, `{"port":8080,"lease_id":"l","news":[1]}`)
	})
	reply, err := c.Lease(testContext(t), 8080)
	require.NoError(t, err)
	require.Equal(t, uint16(8080), reply.Value.Port)
	require.Equal(t, `{"port":8080,"lease_id":"l","news":[1]}`, string(reply.Raw))
}

func TestProblem(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3")
		writeProblem(w, 404, "not_found", "job job-1: not found")
	})
	_, err := c.Job(testContext(t), "job-1")
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.Empty(t, cmp.Diff(&client.Error{
		Status: 404, Code: "not_found", Detail: "job job-1: not found", RequestID: "req-7", RetryAfter: 3 * time.Second,
	}, refused))
	require.EqualError(t, err, "job job-1: not found")
}

func TestSentinels(t *testing.T) {
	for code, sentinel := range map[string]error{
		"not_found": client.ErrNotFound, "recovering": client.ErrRecovering, "shutting_down": client.ErrShuttingDown,
		"conflict": client.ErrConflict, "events_gone": client.ErrEventsGone, "": client.ErrNotAHive,
	} {
		err := error(&client.Error{Status: 500, Code: code})
		require.ErrorIs(t, err, sentinel)
		require.NotErrorIs(t, err, client.ErrUnreachable)
		require.Equal(t, code == "recovering" || code == "shutting_down", client.Away(err), code)
	}
	require.EqualError(t, &client.Error{Status: 502}, "HTTP status 502 Bad Gateway")
}

func TestWhatIsNotAHiveIsSaidToBeNone(t *testing.T) {
	var strangerSaw atomic.Int32
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangerSaw.Add(1) }))
	defer stranger.Close()
	for name, h := range map[string]http.HandlerFunc{
		"a page":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") },
		"another 404":  http.NotFound,
		"a redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, stranger.URL, http.StatusFound) },
		"other errors": func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 500, `{"error":"boom"}`) },
	} {
		c := serve(t, h, func(o *client.Options) { o.Token = "s3cret" })
		_, err := c.Workers(testContext(t))
		require.ErrorIs(t, err, client.ErrNotAHive, name)
		require.NotErrorIs(t, err, client.ErrNotFound, name)
	}
	require.Zero(t, strangerSaw.Load(), "the token went to whom a redirect named")
}

func TestBrokenJSONIsAnError(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, `{"workers":`) })
	_, err := c.Workers(testContext(t))
	require.ErrorContains(t, err, "decode the response to GET /v1/workers")
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	c := connect(t, listener.Addr().String())
	_, err = c.Hive(testContext(t))
	require.ErrorIs(t, err, client.ErrUnreachable)
	var away *client.UnreachableError
	require.ErrorAs(t, err, &away)
	require.Equal(t, listener.Addr().String(), away.Addr)
	require.True(t, client.Away(err))
}

func TestCallerWhoGivesUpIsNotAnUnreachableHive(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := c.Hive(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, client.ErrUnreachable)
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	hosts := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		writeJSON(w, 200, `{"hive_id":"here"}`)
	}))
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	defer server.Close()
	reply, err := connect(t, "unix:"+path).Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "here", reply.Value.HiveID)
	require.Equal(t, "localhost", <-hosts, "the daemon refuses hosts that are no loopback name")

	_, err = connect(t, "unix:"+path+".none").Hive(testContext(t))
	require.ErrorIs(t, err, client.ErrUnreachable)
}

func TestAnswerIsBounded(t *testing.T) {
	body := `{"workers":[],"next":"` + strings.Repeat("x", 1000) + `"}`
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, body) })
	c.SetMaxBody(int64(len(body)) + 1) // and a newline
	_, err := c.Workers(testContext(t))
	require.NoError(t, err)
	c.SetMaxBody(int64(len(body)))
	_, err = c.Workers(testContext(t))
	require.ErrorIs(t, err, client.ErrTooLarge)
}

func TestRecoveringIsWaitedFor(t *testing.T) {
	var tries atomic.Int32
	var reported []string
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) < 3 {
			writeProblem(w, 503, "recovering", "recovering 37/1920")
			return
		}
		writeJSON(w, 202, `{"job_id":"job-1"}`)
	}, func(o *client.Options) {
		o.RecoveryWait = time.Minute
		o.OnRecovering = func(e *client.Error) { reported = append(reported, e.Detail) }
	})
	reply, err := c.Submit(testContext(t), "", json.RawMessage(`{}`))
	require.NoError(t, err)
	require.Equal(t, "job-1", reply.Value.JobID)
	require.Equal(t, []string{"recovering 37/1920", "recovering 37/1920"}, reported)
}

func TestRecoveringForTooLong(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second} { // the first of the tries, 100 ms apart, may take a while
		var tries atomic.Int32
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			tries.Add(1)
			writeProblem(w, 503, "recovering", "recovering")
		}, func(o *client.Options) { o.RecoveryWait = wait })
		_, err := c.Workers(testContext(t))
		require.ErrorIs(t, err, client.ErrRecovering)
		require.Equal(t, wait == 0, tries.Load() == 1)
	}
}

// A POST whose connection breaks may have been taken: a second one would spawn a second worker.
func TestSubmitWithoutAKeyIsNeverSentTwice(t *testing.T) {
	var posts atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			writeJSON(w, 200, `{}`)
			return
		}
		posts.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	})
	_, err := c.Hive(testContext(t)) // so that the POST goes over a connection that is used again
	require.NoError(t, err)
	_, err = c.Submit(testContext(t), "", json.RawMessage(`{}`))
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.Equal(t, int32(1), posts.Load())
}

// With a key it is sent until there is an answer, also by a hive that was away meanwhile.
func TestSubmitWithAKeyIsSentAgain(t *testing.T) {
	var keys []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		switch len(keys) {
		case 1:
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		case 2:
			writeProblem(w, 503, "recovering", "recovering")
		default:
			writeJSON(w, 202, `{"job_id":"job-1"}`)
		}
	})
	reply, err := c.Submit(testContext(t), "k", json.RawMessage(`{}`))
	require.NoError(t, err)
	require.Equal(t, "job-1", reply.Value.JobID)
	require.Equal(t, []string{"k", "k", "k"}, keys)
}
