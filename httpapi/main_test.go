package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/hive/reference"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// TestMain is the reference worker, or one that prints, when it is started as
// one. The gate comes with package hive.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "chatter" {
		os.Exit(chatter())
	}
	if len(os.Args) > 2 && os.Args[1] == "verbose" {
		os.Exit(verbose(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(reference.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	reaper, err := proc.NewReaper(func(int) {})
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.Cleanup(func(code int) {
		reaper.Close()
		os.Exit(max(code, reportUnseen()))
	}))
}

// rig is a hive that serves on a free port.
type rig struct {
	*testing.T
	hive   *hive.Hive
	server *httpapi.Server
	url    string
	client *http.Client
	ports  alloc.Range
	active func() int // connections with a request
	log    *logrus.Logger
	logged func() string
	opts   rigOptions
	cfg    hive.Config
	stop   func() // ends the hive's Run
}

func freeRange(t *testing.T, n int) alloc.Range {
	t.Helper()
	first, err := freeport.Range(n)
	require.NoError(t, err)
	return alloc.Range{First: uint16(first), Last: uint16(first + n - 1)}
}

// entry is a worker type that runs the reference worker with more flags.
func entry(t *testing.T, name string, args ...string) catalog.Entry {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	path, grace := "/health", 500*time.Millisecond
	return catalog.Entry{
		Name: name, Command: append([]string{self, "worker", "--port", "{{.Port}}"}, args...),
		Ready: catalog.ReadyEntry{Path: &path}, Stop: catalog.StopEntry{Grace: &grace},
	}
}

// narrow gives its connections small buffers. On loopback those of the system grow
// to megabytes, and no client is ever too slow.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		err = tcp.SetWriteBuffer(4 << 10)
	}
	return conn, err
}

// rigOptions are what most tests leave at zero.
type rigOptions struct {
	streamWait time.Duration
	logs       logs.Config
	models     hive.ModelsConfig
	jsonLog    bool
	limit      time.Duration // of reading and writing a request; 0: the server's own
	heartbeats time.Duration // 0: 1 s
	narrow     bool          // connections take next to nothing that their client does not read
	config     func(*hive.Config)
	reload     func(context.Context, bool) (hive.Plan, error)
	shutdown   func()
	access     *access.Policy // nil: root and our own user
}

// newRig serves a hive with three ports. At the end all workers are stopped and
// the state file is checked.
func newRig(t *testing.T, opts rigOptions, entries ...catalog.Entry) *rig {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	types, err := catalog.New(entries, self)
	require.NoError(t, err)
	log, logged := captureLog()
	if opts.jsonLog {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	r := &rig{T: t, log: log, logged: logged, ports: freeRange(t, 3), opts: opts, client: checkedClient(t)}
	r.cfg = hive.Config{
		DataDir: t.TempDir(), Catalog: types, Log: log, Version: "test", Ports: hive.PortsConfig{Range: r.ports}, Logs: opts.logs, Models: opts.models,
		HeartbeatEvery: opts.heartbeats,
	}
	if opts.config != nil {
		opts.config(&r.cfg)
	}
	t.Cleanup(func() {
		require.NoError(t, r.hive.StopWorkers(context.Background()))
		r.shut()
		storetest.Check(t, r.state())
	})
	r.begin()
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// state is the state file.
func (r *rig) state() string { return filepath.Join(r.cfg.DataDir, "hive.db") }

// begin opens the listener, as cmd/hive does, before the hive, and serves.
func (r *rig) begin() {
	r.Helper()
	r.server = httpapi.New(httpapi.Options{
		DroppedLines: func() uint64 { return 0 },
		Log:          r.cfg.Log, Access: r.opts.access, StreamWait: r.opts.streamWait, Reload: r.opts.reload, Shutdown: r.opts.shutdown,
	})
	if r.opts.limit > 0 {
		r.server.SetTimeouts(r.opts.limit)
	}
	r.active = r.server.CountActive()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r, err)
	if r.opts.narrow {
		ln = narrow{ln}
	}
	r.url = "http://" + startOn(r.T, r.server, ln)
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		r.cfg.APIPorts = []uint16{tcp.AddrPort().Port()}
	}
	require.Equal(r, "recovering", r.get("/health", http.StatusServiceUnavailable))

	r.cfg.URL = r.url
	r.hive, err = hive.Open(r.Context(), r.cfg)
	require.NoError(r, err)
	r.server.SetHive(r.hive)
	require.Contains(r, r.get("/v1/hive", http.StatusServiceUnavailable), `"code":"recovering"`)
	require.NoError(r, r.hive.Recover(r.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.hive.Run(ctx) }()
	r.stop = func() { cancel(); require.NoError(r, <-ran) }
}

// shut ends the server and the hive; workers go on.
func (r *rig) shut() {
	r.Helper()
	r.stop()
	shutdown, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	_ = r.server.Shutdown(shutdown)
	require.NoError(r, r.hive.Close())
}

// send makes a request and returns the answer with its body.
func (r *rig) send(method, path, body string, header ...string) (*http.Response, string) {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	require.NoError(r, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1]) //nolint:gosec // pairs
	}
	resp, err := r.client.Do(req)
	require.NoError(r, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(r, err)
	return resp, string(raw)
}

func (r *rig) get(path string, status int) string {
	r.Helper()
	resp, body := r.send(http.MethodGet, path, "")
	require.Equal(r, status, resp.StatusCode, "%s: %s", path, body)
	return body
}

// decode reads an answer that must be compact JSON with a final newline.
func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(body), &v), body)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, []byte(body)))
	require.Equal(t, compact.String()+"\n", body)
	return v
}

func (r *rig) submit(body string) wire.Submitted {
	r.Helper()
	resp, text := r.send(http.MethodPost, "/v1/jobs", body)
	require.Equal(r, http.StatusAccepted, resp.StatusCode, text)
	sub := decode[wire.Submitted](r.T, text)
	require.Equal(r, "/v1/jobs/"+sub.JobID, resp.Header.Get("Location"))
	require.Equal(r, "/v1/jobs/"+sub.JobID+"/stream", sub.SSEURL)
	require.Regexp(r, `^job-[0-9a-f-]{36}$`, sub.JobID)
	return sub
}

// do submits and waits for the end.
func (r *rig) do(body string) wire.Job {
	r.Helper()
	sub := r.submit(body)
	job := decode[wire.Job](r.T, r.get("/v1/jobs/"+sub.JobID+"?wait=50s", http.StatusOK))
	require.True(r, store.JobState(job.State).Ended(), "%+v", job)
	return job
}

func (r *rig) spawn(worker string) wire.Spawned {
	r.Helper()
	job := r.do(`{"operation":"worker_spawn","worker":"` + worker + `","model":"test","device":0}`)
	require.Equal(r, "succeeded", job.State, "%+v", job.Error)
	var s wire.Spawned
	require.NoError(r, json.Unmarshal(job.Result, &s))
	return s
}

// open begins to read a stream; the test ends it.
func (r *rig) open(path string, header ...string) *http.Response {
	r.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	require.NoError(r, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1]) //nolint:gosec // pairs
	}
	resp, err := r.client.Do(req)
	require.NoError(r, err)
	r.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(r, http.StatusOK, resp.StatusCode)
	return resp
}

// keeper reads an rbee stream to its end.
func (r *rig) keeper(jobID string) keeperView {
	r.Helper()
	resp := r.open("/v1/jobs/" + jobID + "/stream")
	require.Equal(r, "text/event-stream", resp.Header.Get("Content-Type"))
	v := keeperReads(r.T, resp.Body)
	require.Empty(r, v.left, "the connection closes after the terminator")
	return v
}

// awaitWorker waits until a job has a worker in one of the states.
func (r *rig) awaitWorker(typ string, states ...string) wire.Worker {
	r.Helper()
	var found wire.Worker
	require.Eventually(r, func() bool {
		for _, w := range decode[wire.Workers](r.T, r.get("/v1/workers", http.StatusOK)).Workers {
			for _, state := range states {
				if w.Type == typ && w.State == state {
					found = w
					return true
				}
			}
		}
		return false
	}, 20*time.Second, 10*time.Millisecond)
	return found
}
