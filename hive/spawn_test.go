package hive_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// The seed's "Test Port Assignment" and "Test Port Reuse".
func TestPortsAreAssignedInOrderAndReused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	first := r.spawn("cpu", map[string]any{"model": "test", "device": 0})
	second := r.spawn("cpu", map[string]any{"model": "test", "device": 0})
	require.Equal(t, r.port(0), first.Port)
	require.Equal(t, r.port(1), second.Port)
	require.Equal(t, "ready", first.Status)

	resp, err := http.Get(first.URL + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	r.stopWorker(first.WorkerID)
	require.False(t, alive(first.PID), "a stopped worker has no process")
	require.Len(t, r.leases(), 1)
	w, err := r.h.Worker(first.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerStopped, w.State)
	require.Equal(t, store.DesiredStopped, w.Desired)

	third := r.spawn("cpu")
	require.Equal(t, r.port(0), third.Port, "the freed port is leased again")
	require.NotEqual(t, first.WorkerID, third.WorkerID, "worker ids are never used again")
}

// The seed's "Test Port Exhaustion", on a range that a test can fill.
func TestPortsExhausted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	first := r.spawn("cpu")
	r.spawn("cpu")
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, errdefs.CodePortsExhausted, job.Error.Code)
	require.Contains(t, job.Error.Message, "no ports available (all "+r.cfg.Ports.Range.String()+" in use)")
	r.stopWorker(first.WorkerID)
	require.Equal(t, first.Port, r.spawn("cpu").Port)
}

func fault(name string, args ...string) catalog.Entry {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return catalog.Entry{
		Name: name, Command: append([]string{self, "worker", "--port", "{{.Port}}"}, args...),
		Ready: catalog.ReadyEntry{Path: ref("/health"), Timeout: ref(3 * time.Second)},
		Stop:  catalog.StopEntry{Grace: ref(2 * time.Second)},
	}
}

func TestUnavailableType(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cuda", "model": "m"})
	require.Equal(t, errdefs.CodeProgramNotFound, job.Error.Code)
	require.Contains(t, job.Error.Message, "no worker program is configured")
}

func (r *rig) processes() (list []map[string]any) {
	r.Helper()
	job := r.do(map[string]any{"operation": "worker_process_list"})
	require.NoError(r, json.Unmarshal(job.Result, &list))
	return list
}

// A stranger that takes the port between the probe and the worker's own bind,
// and answers 200: hive must neither call the worker ready nor show its URL.
func TestForeignListenerIsNeverAWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, fault("slow", "--no-listen"))
	r.open()
	stranger := make(chan net.Listener, 1)
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow"})
	r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(r.port(0)))))
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	stranger <- l
	t.Cleanup(func() { _ = srv.Close(); <-done })

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	job, err = r.h.WaitJob(ctx, job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, errdefs.CodeNotReady, job.Error.Code, "the next port is free, so only the silent program is to blame")
	for _, w := range r.h.Workers() {
		require.NotEqual(t, store.WorkerReady, w.State)
		require.Nil(t, w.ReadyAt)
	}
	var ports []uint16
	for _, w := range r.h.Workers() {
		ports = append(ports, w.Port)
	}
	require.Equal(t, []uint16{r.port(0), r.port(1)}, ports, "another port was tried")
	leases := r.leases()
	require.Len(t, leases, 1, "the stranger's port is kept from others while it listens")
	require.Equal(t, store.LeaseQuarantined, leases[0].State)
}

func TestCancelledSpawnLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("mute", "--no-listen"))
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "mute"})
	r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
	pid := int(r.processes()[0]["pid"].(float64))
	rec, err := r.h.Cancel(t.Context(), access.Hive(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, rec.State)
	require.False(t, alive(pid))
	require.Empty(t, r.leases())
	_, err = r.h.Cancel(t.Context(), access.Hive(), job.JobID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	_, err = r.h.Cancel(t.Context(), access.Hive(), "job-unknown")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

func TestNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	named := r.spawn("cpu", map[string]any{"name": "embed"})
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu", "name": "embed"})
	require.Equal(t, errdefs.CodeNameInUse, job.Error.Code)
	w, err := r.h.Worker("embed")
	require.NoError(t, err)
	require.Equal(t, named.WorkerID, w.WorkerID)
	r.stopWorker("embed")
	r.spawn("cpu")
	require.Equal(t, named.Port, r.spawn("cpu", map[string]any{"name": "embed"}).Port, "a name keeps its port")
}

func TestOnlyWorkersAreSignalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	for _, pid := range []int{os.Getpid(), 1, 1 << 22} {
		job := r.do(map[string]any{"operation": "worker_process_delete", "pid": pid})
		require.Equal(t, errdefs.CodeNotFound, job.Error.Code)
		job = r.do(map[string]any{"operation": "worker_process_get", "pid": pid})
		require.Equal(t, errdefs.CodeNotFound, job.Error.Code)
	}
	job := r.do(map[string]any{"operation": "worker_process_get", "pid": w.PID})
	require.Equal(t, store.JobSucceeded, job.State)
	require.Contains(t, string(job.Result), w.WorkerID)
	job = r.do(map[string]any{"operation": "worker_process_delete", "pid": w.PID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.False(t, alive(w.PID))
	require.Empty(t, r.leases())
}

func TestHiveCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, catalog.Entry{Name: "cpu", Command: []string{"/nonexistent"}})
	r.open()
	job := r.do(map[string]any{"operation": "hive_check"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.Contains(t, string(job.Result), `"name":"spawn"`)
	require.Empty(t, r.leases())

	full := newRig(t, 1)
	full.open()
	full.spawn("cpu")
	job = full.do(map[string]any{"operation": "hive_check"})
	require.Equal(t, errdefs.CodePortsExhausted, job.Error.Code)
	require.Contains(t, job.Error.Message, "port probe: ")
}
