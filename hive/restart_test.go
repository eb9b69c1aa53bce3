package hive_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

// A worker that is killed is started again: the same worker on the same port
// under the same lease, with another process.
func TestAKilledWorkerIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, restarting(fault("serve"), "on-failure", 5))
	r.open()
	first := r.spawn("serve", map[string]any{"name": "a", "model": "m"})
	kill9(t, first.PID)
	r.eventually("it is ready again", func() bool {
		w := r.worker(first.WorkerID)
		return w.State == store.WorkerReady && w.Identity.PID != first.PID
	})
	w := r.worker(first.WorkerID)
	require.Equal(t, 1, w.Restarts)
	require.Equal(t, first.Port, w.Port)
	require.Equal(t, first.LeaseID, w.LeaseID)
	require.Equal(t, "m", w.Asked.Model)
	require.Equal(t, "SIGKILL", w.Exit.Signal, "how the last process ended")
	require.Len(t, w.Failures, 1)
	leases := r.leaseOf(first.WorkerID)
	require.Len(t, leases, 1)
	require.Equal(t, w.Identity.PID, leases[0].Identity.PID)
	resp, err := http.Get(first.URL + "/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	// Also when it was adopted, and counted on over a restart of hive.
	r.close()
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	kill9(t, w.Identity.PID)
	r.eventually("it is ready once more", func() bool { w := r.worker("a"); return w.State == store.WorkerReady && w.Restarts == 2 })
	require.Len(t, r.worker("a").Failures, 2)

	// And when it dies while hive is down.
	pid := r.worker("a").Identity.PID
	r.close()
	kill9(t, pid)
	r.eventually("it is dead", func() bool { return !alive(pid) })
	r.open()
	require.Equal(t, []int{0, 0, 1}, []int{r.h.Info().Recovery.Adopted, r.h.Info().Recovery.Freed, r.h.Info().Recovery.Restarted})
	r.eventually("it is started by the next hive", func() bool { return r.worker("a").State == store.WorkerReady })
	require.Equal(t, first.Port, r.worker("a").Port)
	require.Equal(t, first.WorkerID, r.worker("a").WorkerID)
	require.Equal(t, 3, r.worker("a").Restarts)
	r.stopWorker("a")
	require.Empty(t, r.leases())
	require.Equal(t, store.WorkerStopped, r.worker("a").State)
}

// A worker that crashes at every start: growing waits, then failed; its job says
// why in one line, and its port is free.
func TestACrashLoopEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, restarting(fault("crash", "--exit-code", "3"), "on-failure", 3))
	r.open()
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "crash"})
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, errdefs.CodeExitedEarly, job.Error.Code)
	require.Equal(t, "exited with code 3 before it was ready; given up after 3 new starts within 1m0s (restart.max)", job.Error.Message)
	require.Contains(t, strings.Join(job.Error.Log, "\n"), "exiting with code 3")
	w := r.h.Workers()[0]
	require.Equal(t, store.WorkerFailed, w.State)
	require.Equal(t, 3, w.Restarts)
	require.Equal(t, 3, *w.Exit.Code)
	require.Empty(t, r.leases())
	var waits []string
	for _, ev := range r.events(job.JobID, 0) {
		if _, wait, ok := strings.Cut(ev.Message, " of 3 in "); ok {
			waits = append(waits, wait)
		}
	}
	require.Len(t, waits, 3, "each wait has its event")
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
	require.Equal(t, errdefs.CodeInterrupted, done.Error.Code)
	r.stopWorker("c")
	require.Equal(t, store.WorkerStopped, r.worker("c").State)
	require.Empty(t, r.leaseOf(w.WorkerID))
}

func TestPoliciesAndExitZero(t *testing.T) {
	t.Parallel()
	leaves := func(name, policy string) catalog.Entry {
		return restarting(fault(name, "--exit-after", "300ms"), policy, 5)
	}
	r := newRig(t, 4, leaves("never", "never"), leaves("failing", "on-failure"), leaves("always", "always"))
	r.open()
	for name, state := range map[string]store.WorkerState{"never": store.WorkerFailed, "failing": store.WorkerFailed} {
		w := r.spawn(name)
		r.eventually(name+" has ended", func() bool { return r.worker(w.WorkerID).State == state })
		require.Equal(t, 0, r.worker(w.WorkerID).Restarts)
		require.Equal(t, "exited with code 0", r.worker(w.WorkerID).Reason)
	}
	w := r.spawn("always")
	r.eventually("it is started again", func() bool { return r.worker(w.WorkerID).Restarts >= 1 })
}

func TestRestartOnRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, fault("serve"))
	r.open()
	first := r.spawn("serve", map[string]any{"name": "a"})
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": "a"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	w := r.worker("a")
	require.Equal(t, first.WorkerID, w.WorkerID)
	require.Equal(t, first.Port, w.Port)
	require.NotEqual(t, first.PID, w.Identity.PID)
	require.False(t, alive(first.PID))
	require.Equal(t, store.WorkerReady, w.State)
	require.Contains(t, string(job.Result), fmt.Sprintf(`"pid":%d`, w.Identity.PID))

	// A worker that was stopped is started again by it, under its id.
	r.stopWorker("a")
	require.Empty(t, r.leases())
	other := r.spawn("cpu", map[string]any{"port": r.port(1)})
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": first.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	w = r.worker("a")
	require.Equal(t, first.WorkerID, w.WorkerID)
	require.Equal(t, first.Port, w.Port)
	require.Equal(t, store.DesiredRunning, w.Desired)
	require.Nil(t, w.EndedAt)
	require.Equal(t, 2, w.Restarts)
	require.Len(t, r.h.Workers(), 2, "it is not among the dead any more")

	// Not if somebody else has its port by then.
	r.stopWorker("a")
	r.spawn("cpu", map[string]any{"port": first.Port})
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": "a"})
	require.Equal(t, errdefs.CodePortUnavailable, job.Error.Code)
	require.Equal(t, store.WorkerStopped, r.worker("a").State)
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": "nobody"})
	require.Equal(t, errdefs.CodeNotFound, job.Error.Code)
	r.stopWorker(other.WorkerID)
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

// The port of a worker that is to be started again is taken by a stranger: it
// waits for it, and is ready again when the stranger has gone.
func TestAStrangerHasThePortOfARestart(t *testing.T) {
	t.Parallel()
	start := filepath.Join(t.TempDir(), "start")
	require.NoError(t, os.WriteFile(start, nil, 0o600))
	entry := restarting(portUserEntry(t, "serve", "--wait-for", start), "on-failure", 1000)
	entry.Restart.MaxBackoff = ref(50 * time.Millisecond)
	r := newRig(t, 1, entry)
	r.open()
	w := r.spawn("serve")
	require.NoError(t, os.Remove(start)) // the next one does not bind until the stranger has
	kill9(t, w.PID)
	r.eventually("the port is free", func() bool {
		l, err := (&portUser{host: "127.0.0.1"}).listen(int(w.Port))
		return err == nil && l.Close() == nil
	})
	srv := stranger(t, "127.0.0.1", w.Port, false)
	require.NoError(t, os.WriteFile(start, nil, 0o600))
	r.eventually("it is told who has it", func() bool { return strings.Contains(r.worker(w.WorkerID).Reason, "held by") })
	require.NotEqual(t, store.WorkerReady, r.worker(w.WorkerID).State)
	require.NoError(t, srv.Close())
	r.eventually("it is ready again", func() bool { return r.worker(w.WorkerID).State == store.WorkerReady })
	require.Equal(t, w.Port, r.worker(w.WorkerID).Port)
}

func TestLiveness(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]store.WorkerState{"report": store.WorkerUnhealthy, "restart": store.WorkerReady} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			sick := filepath.Join(t.TempDir(), "sick")
			entry := portUserEntry(t, "serve", "--sick", sick)
			entry.Live = catalog.LiveEntry{Path: ref("/live"), Interval: ref(100 * time.Millisecond), Failures: 2, Action: action}
			entry.Restart.Backoff, entry.Restart.MaxBackoff = ref(10*time.Millisecond), ref(10*time.Millisecond)
			r := newRig(t, 2, entry)
			r.open()
			w := r.spawn("serve")
			require.NoError(t, os.WriteFile(sick, []byte(fmt.Sprint(w.PID)), 0o600))
			r.eventually("it is noticed", func() bool {
				rec := r.worker(w.WorkerID)
				return rec.State == want && (action == "report" || rec.Identity.PID != w.PID)
			})
			if action == "restart" {
				require.Equal(t, 1, r.worker(w.WorkerID).Restarts)
				require.False(t, alive(w.PID))
				return
			}
			require.True(t, alive(w.PID))
			require.Equal(t, "it answers 500 Internal Server Error to /live, expected 200", r.worker(w.WorkerID).Reason)
			require.NoError(t, os.Remove(sick))
			r.eventually("it is well again", func() bool { return r.worker(w.WorkerID).State == store.WorkerReady })
		})
	}
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
