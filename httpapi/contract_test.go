package httpapi_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
	"rbeehive/httpapi"
	"rbeehive/test/contract"
)

// document is the contract that all tests of this package are held against.
var document = sync.OnceValue(func() *contract.Document {
	raw, err := os.ReadFile("openapi.yaml")
	if err != nil {
		panic(err)
	}
	doc, err := contract.Load(raw)
	if err != nil {
		panic(err)
	}
	return doc
})

// checkedClient fails the test on a request or an answer that is not as the
// contract says. It shows redirects as they are.
func checkedClient(t *testing.T) *http.Client {
	return &http.Client{
		Transport:     document().Transport(&http.Transport{}, func(err error) { t.Errorf("contract: %v", err) }),
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reportUnseen is the exit code of a run of all tests: every operation of the
// contract has to be used by one of them.
func reportUnseen() int {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return 0
		}
	}
	unseen := document().Unseen()
	if len(unseen) == 0 {
		return 0
	}
	fmt.Println("FAIL: no test uses these operations of the contract:", strings.Join(unseen, ", "))
	return 1
}

// The server has the routes and methods of the contract and no others.
func TestRoutesAreThoseOfTheContract(t *testing.T) {
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{
		Access: anyone(),
		Log:    log, Shutdown: func() {}, Reload: func(context.Context, bool) (hive.Plan, error) { return hive.Plan{}, nil },
	})
	require.Equal(t, document().Operations(), s.Operations())
}

// What no other test asks for over a connection.
func TestTheRestOfTheContract(t *testing.T) {
	r := newRig(t, rigOptions{})
	log, _ := captureLog()
	asked := make(chan struct{}, 1)
	s := httpapi.New(httpapi.Options{
		Access: anyone(),
		Log:    log, Shutdown: func() { asked <- struct{}{} },
		Reload: func(_ context.Context, dryRun bool) (hive.Plan, error) {
			if !dryRun {
				return hive.Plan{}, &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "hive.yaml:1: x"}
			}
			return hive.Plan{DryRun: true, Types: []hive.TypeChange{{Name: "web", Change: hive.TypeChanged}}}, nil
		},
	})
	s.SetHive(r.hive)
	r.url = "http://" + start(t, s)
	for _, path := range []string{"/openapi.yaml", "/openapi.json", "/docs", "/docs/swagger-ui.css", "/docs/favicon-32x32.png", "/metrics"} {
		require.NotEmpty(t, r.get(path, http.StatusOK), path)
	}
	r.get("/", http.StatusFound)
	for path, status := range map[string]int{
		"/v1/reload?dry_run": 200, "/v1/reload": 409, "/v1/audit?repair=1": 200, "/v1/reload?dry_run=1&dry_run=1": 400, "/v1/shutdown": 200,
	} {
		resp, body := r.send(http.MethodPost, path, "")
		require.Equal(t, status, resp.StatusCode, "%s: %s", path, body)
	}
	<-asked
	job := r.do(`{"operation":"hive_check","alias":null}`)
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	resp, _ := r.send(http.MethodOptions, "/v1/jobs", "")
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
}

// TestTheCheckCanFail shows that each kind of deviation is noticed.
func TestTheCheckCanFail(t *testing.T) {
	job := `{"job_id":"j","operation":"worker_stop","state":"succeeded","requested_by":null,"request":null,"error":null,` +
		`"created_at":"2026-11-23T17:34:24.819Z","started_at":null,"finished_at":null,"result":`
	stopped := `{"worker_id":"w","name":null,"port":8080,"status":"stopped"}`
	event := `{"seq":1,"job_seq":1,"at":"2026-11-23T17:34:24.819Z","type":"log","job_id":"j","worker_id":null,"message":"m","data":null}`
	stream := func(events ...string) string {
		return ": hello\n\nid: 1\nevent: log\ndata: " + strings.Join(events, "\n\ndata: ") + "\n\n"
	}
	const jsonType, problem = "application/json", "application/problem+json"
	tests := []struct {
		name, method, path, sent string
		status                   int
		contentType, body        string
		want                     string // empty: as the contract says
	}{
		{"a job", "GET", "/v1/jobs/j", "", 200, jsonType, job + stopped + "}", ""},
		{"a member left out", "GET", "/v1/jobs/j", "", 200, jsonType, `{"job_id":"j"}`, "missing"},
		{"a member nobody wrote down", "GET", "/v1/jobs/j", "", 200, jsonType, job + stopped + `,"new":1}`, `"new" is unsupported`},
		{"null where there is none", "GET", "/v1/jobs", "", 200, jsonType, `{"jobs":null,"next":""}`, "not nullable"},
		{"a wrong type", "GET", "/v1/jobs", "", 200, jsonType, `{"jobs":[],"next":7}`, "must be a string"},
		{"a wrong result", "GET", "/v1/jobs/j", "", 200, jsonType, job + `{"worker_id":"w"}}`, "result of worker_stop"},
		{"not JSON", "GET", "/v1/jobs/j", "", 200, jsonType, `{`, "not JSON"},
		{"a status", "GET", "/v1/jobs/j", "", 418, problem, `{}`, "the status is not in the contract"},
		{"a content type", "GET", "/v1/jobs/j", "", 200, "text/plain", "x", "no Content-Type"},
		{"no problem", "GET", "/v1/jobs/j", "", 404, problem, `{"code":"not_found"}`, "missing"},
		{"a route", "GET", "/v2/jobs", "", 200, jsonType, `{}`, "is not in the contract"},
		{"a method", "PATCH", "/v1/jobs", "", 200, jsonType, `{}`, "is not in the contract"},
		{
			"an accepted field", "POST", "/v1/jobs", `{"operation":"worker_stop","worker_id":"w","force":true}`, 202, jsonType,
			`{"job_id":"j","sse_url":"u","state":"queued","operation":"worker_stop"}`, "the contract forbids it",
		},
		{"an accepted parameter", "GET", "/v1/jobs?limit=-1", "", 200, jsonType, `{"jobs":[],"next":""}`, "the contract forbids it"},
		{
			"another operation", "POST", "/v1/jobs", `{"operation":"infer","prompt":"x"}`, 202, jsonType,
			`{"job_id":"j","sse_url":"u","state":"queued","operation":"infer"}`, "",
		},
		{"events", "GET", "/v1/jobs/j/events", "", 200, "text/event-stream", stream(event, event), ""},
		{"a wrong event", "GET", "/v1/jobs/j/events", "", 200, "text/event-stream", stream(event, `{"seq":"2"}`), "must be an integer"},
		{"no Retry-After", "GET", "/v1/hive", "", 503, problem, `{}`, "no Retry-After"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				w.Header().Set("X-Request-Id", "id")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			raw, err := os.ReadFile("openapi.yaml")
			require.NoError(t, err)
			doc, err := contract.Load(raw) // its own: what is seen here does not count
			require.NoError(t, err)
			var found []error
			transport := &http.Transport{DisableKeepAlives: true}
			client := &http.Client{Transport: doc.Transport(transport, func(err error) { found = append(found, err) })}
			req, err := http.NewRequest(tt.method, server.URL+tt.path, strings.NewReader(tt.sent))
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, tt.body, string(body), "the answer is handed on as it is")
			if tt.want == "" {
				require.Empty(t, found)
				return
			}
			require.ErrorContains(t, errors.Join(found...), tt.want)
		})
	}
}
