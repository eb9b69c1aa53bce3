package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// fuzzedAPI is the real handler over a real hive that has had one job of each kind
// and one worker, which has ended, and that has one lease.
type fuzzedAPI struct {
	handler             http.Handler
	job, worker, leased string
}

func newFuzzedAPI(f *testing.F) *fuzzedAPI {
	f.Helper()
	must := func(err error) {
		if err != nil {
			f.Helper()
			f.Fatal(err)
		}
	}
	self, err := os.Executable()
	must(err)
	types, err := catalog.New(nil, self)
	must(err)
	first, err := freeport.Range(3)
	must(err)
	log, _ := captureLog()
	dir := f.TempDir()
	h, err := hive.Open(context.Background(), hive.Config{
		DataDir: dir, URL: "http://127.0.0.1:1", Catalog: types, Log: log, Version: "test", AuditInterval: time.Hour,
		Ports: hive.PortsConfig{Range: alloc.Range{First: uint16(first), Last: uint16(first + 2)}},
	})
	must(err)
	must(h.Recover(context.Background()))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()
	f.Cleanup(func() {
		must(h.StopWorkers(context.Background()))
		cancel()
		must(<-ran)
		must(h.Close())
		storetest.Check(f, filepath.Join(dir, "hive.db"))
	})
	s := httpapi.New(httpapi.Options{Access: anyone(), Log: log, StreamWait: time.Second, Shutdown: func() {}, Reload: func(context.Context, bool) (hive.Plan, error) {
		return hive.Plan{}, nil
	}})
	s.SetHive(h)
	a := &fuzzedAPI{handler: s.Handler()}
	spawn := a.post(f, "/v1/jobs?wait=50s", `{"operation":"worker_spawn","worker":"cpu","model":"m"}`)
	var spawned struct {
		JobID  string       `json:"job_id"`
		Result wire.Spawned `json:"result"`
	}
	must(json.Unmarshal(spawn, &spawned))
	a.job, a.worker = spawned.JobID, spawned.Result.WorkerID
	a.post(f, "/v1/jobs?wait=50s", `{"operation":"worker_stop","worker_id":"`+a.worker+`"}`)
	a.post(f, "/v1/jobs?wait=50s", `{"operation":"infer"}`)
	var lease wire.Lease
	must(json.Unmarshal(a.post(f, "/v1/leases", `{"ttl":"24h","owner":"fuzz"}`), &lease))
	a.leased = lease.LeaseID
	return a
}

func (a *fuzzedAPI) post(f *testing.F, target, body string) []byte {
	f.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Host = "localhost"
	w := serve(a.handler, r)
	if w.Code >= 300 {
		f.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// Whatever is asked, in path, query and headers: no panic, no redirect but that of
// the page at the top, nobody kept waiting, and a documented form of answer.
func FuzzRequest(f *testing.F) {
	a := newFuzzedAPI(f)
	for _, target := range []string{
		"/", "/health", "/metrics", "/v1/hive", "/v1/ports", "/v1/audit?repair=0", "/v1/types", "/v1/types/cpu?model=m&device=0&name=a&port=8080&param.a=b",
		"/v1/jobs", "/v1/jobs?state=queued&operation=infer&limit=2&after=job-x", "/v1/jobs?limit=99999999999999999999", "/v1/jobs/JOB?wait=1ms",
		"/v1/jobs/JOB/events?after=3", "/v1/jobs/JOB/stream", "/v1/jobs/%2e%2e/events", "/v1/jobs/a%0d%0ab", "/v1/jobs/", "//v1//jobs",
		"/v1/workers?after=1/2/x&limit=1", "/v1/workers/WORKER", "/v1/workers/WORKER/logs?tail=5&follow=1", "/v1/workers/WORKER/logs?tail=-1",
		"/v1/workers/WORKER/events?after=1&limit=1", "/v1/workers/%ff%00/logs", "/v1/leases?after=70000", "/v1/leases/8080?lease_id=LEASE",
		"/v1/leases/+1", "/v1/types/%2F?x=%zz&=&&a=b;c", "/v1/reload?dry_run=1", "/v1/shutdown", "/../../etc/passwd", "/%0a%0dx",
		"http://localhost/v1/jobs", "*", "/v1/jobs?wait=1e9h", "/v1/jobs?wait=-1s", "/v1/events?after=1", "/v1/backup", "/openapi.yaml", "/docs", "/v1/capabilities",
	} {
		f.Add("GET", target, "Last-Event-ID", "2")
		f.Add("HEAD", target, "Last-Event-ID", "18446744073709551616")
		f.Add("DELETE", target, "Accept", "application/openmetrics-text; version=1.0.0")
	}
	f.Add("POST", "/v1/jobs?wait=0s", "Idempotency-Key", "k")
	f.Add("POST", "/v1/jobs", "Origin", "https://evil.example")
	f.Add("PUT", "/v1/leases/8080", "Content-Length", "5")
	f.Add("OPTIONS", "/v1/jobs", "X-Request-Id", "a b")
	f.Add("CONNECT", "localhost:80", "Host", "evil.example")
	f.Add("BREW", "/v1/jobs", "Content-Type", "text/html; charset=x")
	f.Fuzz(func(t *testing.T, method, target, header, value string) {
		target = strings.NewReplacer("JOB", a.job, "WORKER", a.worker, "LEASE", a.leased).Replace(target)
		// As net/http reads it; what it does not, never comes to the handler.
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
			method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + header + ": " + value + "\r\n\r\n")))
		if err != nil || strings.HasPrefix(r.URL.Path, "/v1/doctor") { // which takes its time
			return
		}
		r.RemoteAddr = "127.0.0.1:40000"
		a.check(t, r)
	})
}

// check sends a request whose sender waits for a moment only.
func (a *fuzzedAPI) check(t *testing.T, r *http.Request) {
	t.Helper()
	// It goes away; a request has no deadline of its own.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer time.AfterFunc(200*time.Millisecond, cancel).Stop()
	w, begin := httptest.NewRecorder(), time.Now()
	func() {
		defer func() {
			cause := recover()
			if cut, _ := cause.(error); cause != nil && (!errors.Is(cut, http.ErrAbortHandler) || ctx.Err() == nil) {
				t.Fatalf("panic: %v", cause)
			}
		}()
		a.handler.ServeHTTP(w, r.WithContext(ctx))
	}()
	if took := time.Since(begin); took > 10*time.Second {
		t.Fatalf("took %v", took)
	}
	for name, values := range w.Header() {
		if strings.ContainsFunc(name+strings.Join(values, ""), unicode.IsControl) {
			t.Fatalf("header %q: %q", name, values)
		}
	}
	switch {
	case w.Code >= 300 && w.Code < 400:
		if r.URL.Path != "/" {
			t.Fatalf("redirected to %q", w.Header().Get("Location"))
		}
	case w.Code >= 400:
		checkProblem(t, w)
	case w.Code != http.StatusNoContent:
		checkContentType(t, w)
	}
}

func checkContentType(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	typ, _, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	documented := []string{
		"application/json", "text/plain", "text/event-stream", "application/openmetrics-text", "application/vnd.google.protobuf",
		"application/yaml", "text/html", "application/octet-stream", "text/css", "text/javascript", "image/png", "image/svg+xml",
	}
	if err != nil || !slices.Contains(documented, typ) {
		t.Fatalf("status %d with type %q", w.Code, w.Header().Get("Content-Type"))
	}
	if typ == "application/json" && (!json.Valid(w.Body.Bytes()) || !strings.HasSuffix(w.Body.String(), "}\n")) {
		t.Fatalf("no JSON: %q", w.Body)
	}
}

func checkProblem(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d with %q: %q", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if w.Code == http.StatusInternalServerError || p.Status != w.Code || !slices.Contains(httpapi.Codes()[p.Code], w.Code) || p.RequestID != w.Header().Get("X-Request-Id") {
		t.Fatalf("status %d with %+v", w.Code, p)
	}
	if p.Detail == "" || len(p.Detail) > 1500 || !utf8.ValidString(p.Detail) || strings.ContainsFunc(p.Detail, unicode.IsControl) {
		t.Fatalf("detail is not one line: %q", p.Detail)
	}
}
