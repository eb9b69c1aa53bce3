package hive_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/audit"
	"rbeehive/hive/catalog"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// asked is a stranger that counts its requests.
func asked(t *testing.T, host string, port uint16) *atomic.Int32 {
	t.Helper()
	var n atomic.Int32
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return &n
}

// A stranger listens on the worker's port, on another address: that is said, and the
// worker is as well as before. It made it unhealthy, and the reason named the worker.
func TestAStrangerOnAnotherAddress(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"::1", "127.0.0.2"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			entry := restarting(portUserEntry(t, "plain"), "always", 5)
			entry.Live = catalog.LiveEntry{Path: ref("/"), Interval: ref(time.Second), Failures: 1}
			r := quietRig(t, 1, entry)
			r.open()
			w := r.spawn("plain")
			n := asked(t, host, w.Port)
			for sightings := 1; sightings <= 3; sightings++ {
				found := r.audit()
				require.Len(t, found, 1, "%+v", found)
				f := found[0]
				require.Equal(t, []any{audit.FindingBeside, w.Port, w.WorkerID, os.Getpid(), sightings}, []any{f.Code, f.Port, f.WorkerID, f.PID, f.Sightings})
				require.Contains(t, f.Message, fmt.Sprintf("(pid %d, user %s) listens on %s, beside worker %s on 127.0.0.1:%d",
					os.Getpid(), userName(t), net.JoinHostPort(host, strconv.Itoa(int(w.Port))), w.WorkerID, w.Port))
			}
			r.never("it is not ready", 2500*time.Millisecond, func() bool { return r.state(w.WorkerID) != store.WorkerReady })

			// It is started again on its port, too.
			kill9(t, w.PID)
			r.eventually("it is started again", func() bool {
				now := r.worker(w.WorkerID)
				return now.Restarts == 1 && now.State == store.WorkerReady
			})
			require.Equal(t, w.Port, r.worker(w.WorkerID).Port)
			r.close()
			r.open()
			r.never("a restart of hive says otherwise", 300*time.Millisecond, func() bool { return r.state(w.WorkerID) != store.WorkerReady })
			require.Zero(t, n.Load(), "the stranger was asked")
		})
	}
}

// It comes while the worker loads.
func TestAStrangerOnAnotherAddressOfALoadingWorker(t *testing.T) {
	t.Parallel()
	start := filepath.Join(t.TempDir(), "start")
	r := newRig(t, 2, portUserEntry(t, "late", "--wait-for", start))
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "late"})
	r.eventually("the worker loads", func() bool { return len(r.h.Workers()) == 1 && r.h.Workers()[0].Identity != nil })
	n := asked(t, "::1", r.port(0))
	r.never("it is given up", time.Second, func() bool { return len(r.h.Workers()) != 1 })
	require.NoError(t, os.WriteFile(start, nil, 0o600))
	done := r.wait(job.JobID)
	require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)
	require.Equal(t, r.port(0), r.h.Workers()[0].Port)
	require.Zero(t, n.Load(), "the stranger was asked")
}

// A listener on all addresses takes the worker's connections: it is in the way.
func TestAStrangerOnAllAddresses(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"0.0.0.0", "::"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			start := filepath.Join(t.TempDir(), "start")
			r := newRig(t, 2, portUserEntry(t, "late", "--wait-for", start))
			r.open()
			job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "late"})
			r.eventually("the worker loads", func() bool { return len(r.h.Workers()) == 1 && r.h.Workers()[0].Identity != nil })
			first := r.h.Workers()[0].WorkerID
			n := asked(t, host, r.port(0))
			r.eventually("another port is tried", func() bool { return len(r.h.Workers()) == 2 })
			require.NoError(t, os.WriteFile(start, nil, 0o600))
			require.Equal(t, store.JobSucceeded, r.wait(job.JobID).State)
			require.Contains(t, r.worker(first).Reason, fmt.Sprintf("(pid %d, user %s)", os.Getpid(), userName(t)))
			require.Zero(t, n.Load(), "the stranger was asked")
		})
	}
}

// A worker ends for a reason of its own: who has its port on another address is not blamed.
func TestAStrangerOnAnotherAddressIsNotBlamed(t *testing.T) {
	t.Parallel()
	end := filepath.Join(t.TempDir(), "end")
	r := newRig(t, 2, catalog.Entry{
		Name: "crash", Command: []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.01; done; exit 3`, end, "{{.Port}}"},
		Ready: catalog.ReadyEntry{Path: ref("/"), Timeout: ref(20 * time.Second)},
	})
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "crash", "port": r.port(0)})
	r.eventually("the worker runs", func() bool { return len(r.h.Workers()) == 1 && r.h.Workers()[0].Identity != nil })
	asked(t, "::1", r.port(0))
	require.NoError(t, os.WriteFile(end, nil, 0o600))
	done := r.wait(job.JobID)
	require.Equal(t, errdefs.CodeExitedEarly, done.Error.Code, done.Error.Message)
	require.NotContains(t, done.Error.Message, "held by")
}

// A worker that listens on another address than its own is told so, and is not ready.
func TestAWorkerOnAnotherAddress(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	for _, path := range []string{"/", ""} {
		r := newRig(t, 1, catalog.Entry{
			Name: "astray", Command: []string{self, "port-user", "--port", "{{.Port}}", "--host", "::1"},
			Ready: catalog.ReadyEntry{Path: ref(path), Timeout: ref(time.Minute)},
			Stop:  catalog.StopEntry{Grace: ref(2 * time.Second)},
		})
		r.open()
		job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "astray"})
		says := fmt.Sprintf("it listens on [::1]:%d, not on 127.0.0.1:%[1]d", r.port(0))
		r.eventually("it is told where it listens", func() bool {
			list := r.h.Workers()
			return len(list) == 1 && strings.Contains(list[0].Reason, says)
		})
		w := r.h.Workers()[0]
		require.Nil(t, w.ReadyAt)
		r.do(map[string]any{"operation": "worker_stop", "worker_id": w.WorkerID})
		require.Equal(t, store.JobFailed, r.wait(job.JobID).State)
	}
}

// The name stands for two addresses, and who connects to it may be given either.
func TestAStrangerOnTheOtherLocalhost(t *testing.T) {
	t.Parallel()
	entry := portUserEntry(t, "plain")
	entry.Host = "localhost"
	entry.Command[5] = "127.0.0.1"
	require.Equal(t, "--host", entry.Command[4])
	r := quietRig(t, 1, entry)
	r.open()
	w := r.spawn("plain")
	asked(t, "::1", w.Port)
	require.Equal(t, audit.FindingShared, r.audit()[0].Code)
	r.audit()
	r.eventually("it is unhealthy", func() bool { return r.state(w.WorkerID) == store.WorkerUnhealthy })
	require.Contains(t, r.worker(w.WorkerID).Reason, fmt.Sprintf("(pid %d, ", os.Getpid()))
}

// Its URL ended with the port, where nothing answers but 404; the probes could be told.
func TestAWorkerBelowAPath(t *testing.T) {
	t.Parallel()
	asked := filepath.Join(t.TempDir(), "asked")
	entry := portUserEntry(t, "below", "--below", "/a/b", "--asked", asked)
	entry.BasePath = "/a/b"
	entry.Ready.Path = ref("/up")
	entry.Live = catalog.LiveEntry{Path: ref("/live"), Interval: ref(100 * time.Millisecond)}
	r := newRig(t, 1, entry)
	r.open()
	w := r.spawn("below")
	require.Equal(t, fmt.Sprintf("http://127.0.0.1:%d/a/b", w.Port), w.URL)
	require.Contains(t, get(t, w.URL+"/any"), "port-user")
	seen := func(line string) {
		r.Helper()
		r.eventually(line, func() bool { raw, _ := os.ReadFile(asked); return strings.Contains(string(raw), line+"\n") })
	}
	seen("GET /a/b/up")
	seen("GET /a/b/live")
	r.close()
	r.open()
	require.NoError(t, os.Remove(asked))
	seen("GET /a/b/live")
	require.Equal(t, w.URL, endpoint.URL(r.worker(w.WorkerID)))
}
