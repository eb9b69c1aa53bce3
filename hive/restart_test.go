package hive_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// restarting makes an entry's workers be started again, after short waits.
func restarting(e catalog.Entry, policy string, most int) catalog.Entry {
	e.Restart = catalog.RestartEntry{
		Policy: policy, Max: ref(most), Window: ref(time.Minute), Backoff: ref(20 * time.Millisecond), MaxBackoff: ref(80 * time.Millisecond),
	}
	return e
}

func (r *rig) worker(ref string) store.Worker {
	r.Helper()
	w, err := r.h.Worker(ref)
	require.NoError(r, err)
	return w
}

func (r *rig) leaseOf(id string) (leases []store.Lease) {
	r.Helper()
	for _, l := range r.leases() {
		if l.WorkerID == id {
			leases = append(leases, l)
		}
	}
	return leases
}

func TestBackoffCanBeStopped(t *testing.T) {
	t.Parallel()
	entry := restarting(fault("crash", "--exit-code", "3"), "always", 5)
	entry.Restart.Backoff, entry.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
	r := newRig(t, 2, entry)
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "crash", "name": "c"})
	backoff := func() bool { ws := r.h.Workers(); return len(ws) == 1 && ws[0].State == store.WorkerBackoff }
	r.eventually("it waits", backoff)
	w := r.worker("c")
	require.Equal(t, "exited with code 3 before it was ready", w.Reason)
	require.WithinDuration(t, time.Now().Add(time.Hour), *w.NextTry, 15*time.Minute)
	leases := r.leaseOf(w.WorkerID)
	require.Len(t, leases, 1, "its port is kept")
	require.Nil(t, leases[0].Identity, "and is no process's")
	require.Equal(t, r.port(1), r.spawn("cpu").Port)
	require.Empty(t, r.audit(), "there is nothing wrong with that")

	r.close() // over a restart it waits on
	r.open()
	require.True(t, backoff() || r.worker("c").State == store.WorkerBackoff)
	require.Equal(t, 1, r.h.Info().Recovery.Restarted)
	require.Equal(t, w.NextTry.UnixMilli(), r.worker("c").NextTry.UnixMilli())
	done, err := r.h.Job(job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobRunning, done.State, "so does the job that started it")
	r.stopWorker("c")
	require.Equal(t, errdefs.CodeCancelled, r.wait(job.JobID).Error.Code)
	require.Equal(t, store.WorkerStopped, r.worker("c").State)
	require.Empty(t, r.leaseOf(w.WorkerID))
}

// A worker dies just before it is asked to start again, and what it has left behind
// is still being ended: it is started all the same.
func TestAWorkerThatIsEndingIsStartedAgain(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	r := newRig(t, 2, catalog.Entry{
		Name:    "forker",
		Command: []string{"sh", "-c", `"$0" worker --no-listen --ignore-term --port 1 & exec "$0" worker --port "$1"`, self, "{{.Port}}"},
		Ready:   catalog.ReadyEntry{Path: ref("/health")}, Stop: catalog.StopEntry{Grace: ref(time.Second)},
	})
	r.open()
	first := r.spawn("forker")
	kill9(t, first.PID)
	r.eventually("it is dead", func() bool { return !alive(first.PID) })
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": first.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	w := r.worker(first.WorkerID)
	require.Equal(t, store.WorkerReady, w.State)
	require.Equal(t, 1, w.Restarts)
	require.Equal(t, first.Port, w.Port)
}

// Several requests at once: each is answered, and one worker is left.
func TestRestartsAndStopsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("serve"))
	r.open()
	first := r.spawn("serve", map[string]any{"name": "a"})
	var jobs []store.Job
	for range 4 {
		jobs = append(jobs, r.submit(map[string]any{"operation": "worker_restart", "worker_id": "a"}))
	}
	for _, j := range jobs {
		done, err := r.h.WaitJob(t.Context(), j.JobID)
		require.NoError(t, err)
		require.True(t, done.State.Ended())
	}
	r.stopWorker("a")
	require.Empty(t, r.leases())
	require.Empty(t, r.processes())
	require.Equal(t, store.WorkerStopped, r.worker(first.WorkerID).State)
}

func TestAutostart(t *testing.T) {
	t.Parallel()
	auto := func(name string) catalog.Entry {
		e := fault(name)
		e.Autostart = true
		return e
	}
	r := newRig(t, 4, auto("one"), auto("two"), fault("three"))
	r.open()
	ready := func(name string) func() bool {
		return func() bool { w, err := r.h.Worker(name); return err == nil && w.State == store.WorkerReady }
	}
	r.eventually("one is started", ready("one"))
	r.eventually("two is started", ready("two"))
	require.Len(t, r.h.Workers(), 2)
	one := r.worker("one")
	require.Equal(t, store.RestartOnFailure, one.Spec.Restart.Policy)

	// Stopped on request it stays stopped, until somebody starts it.
	r.stopWorker("two")
	r.close()
	kill9(t, one.Identity.PID)
	r.open()
	r.eventually("one is there again", ready("one"))
	require.Equal(t, one.Port, r.worker("one").Port)
	r.never("two", 200*time.Millisecond, func() bool { return r.worker("two").State != store.WorkerStopped })
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": "two"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
}

// Audits go on while workers end and are started again: neither sees a process
// that is gone as one that is there.
func TestAuditsWhileWorkersAreStartedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("long: starts 300 processes")
	}
	t.Parallel()
	crash := fault("crash", "--exit-code", "3")
	crash.Restart = catalog.RestartEntry{Policy: "always", Max: ref(1000), Window: ref(time.Second), Backoff: ref(time.Millisecond), MaxBackoff: ref(time.Millisecond)}
	r := newRig(t, 9, crash)
	r.open()
	stranger, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port(8))) // for whom audits look through all trees
	require.NoError(t, err)
	defer stranger.Close()
	for range 8 {
		r.submit(map[string]any{"operation": "worker_spawn", "worker": "crash"})
	}
	restarts := func() (n int) {
		for _, w := range r.h.Workers() {
			n += w.Restarts
		}
		return n
	}
	for restarts() < 300 {
		_, err := r.h.Audit(t.Context())
		require.NoError(t, err)
	}
}
