package supervisor_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// edit changes the file between two starts.
func (r *rig) edit(fn func(*store.Tx) error) {
	r.Helper()
	st, err := store.Open(context.Background(), store.Options{Path: r.path()})
	require.NoError(r, err)
	require.NoError(r, st.Update(context.Background(), fn))
	require.NoError(r, st.Close())
}

// editWorker changes a worker's record between two starts.
func (r *rig) editWorker(workerID string, change func(*store.Worker)) {
	r.Helper()
	r.edit(func(tx *store.Tx) error {
		w, err := tx.Worker(workerID)
		require.NoError(r, err)
		change(&w)
		return tx.PutWorker(w)
	})
}

func kill9(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

func (r *rig) gone(pid int) {
	r.Helper()
	r.eventually("the process is gone", func() bool { return !alive(pid) })
}

// The living are adopted and followed; the dead are ended, and their ports are free.
func TestTheLivingAreAdoptedAndTheDeadFreed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, serving("serve"), restarting(serving("kept"), "on-failure", 5))
	lives, dies, back := r.spawn("serve"), r.spawn("serve"), r.spawn("kept")
	require.True(t, r.close())
	kill9(t, dies.Identity.PID)
	kill9(t, back.Identity.PID)
	r.gone(dies.Identity.PID)
	r.gone(back.Identity.PID)
	r.open()
	require.Equal(t, supervisor.Counts{Adopted: 1, Freed: 1, Restarted: 1}, r.recovery)
	adopted := r.worker(lives.WorkerID)
	require.Equal(t, lives.Identity, adopted.Identity)
	require.Equal(t, store.WorkerReady, adopted.State, "what was ready is shown as ready")
	dead := r.worker(dies.WorkerID)
	require.Equal(t, store.WorkerFailed, dead.State)
	require.Contains(t, dead.Reason, "it ended while hive was not running")
	require.NotNil(t, dead.EndedAt)
	again := r.becomes(back.WorkerID, store.WorkerReady)
	require.Equal(t, back.Port, again.Port)
	require.Equal(t, back.LeaseID, again.LeaseID)
	require.Equal(t, 1, again.Restarts)
	require.Len(t, again.Failures, 1)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonRecovery}, r.metrics.reasons())
	require.Equal(t, dies.Port, r.spawn("serve").Port)
	kill9(t, lives.Identity.PID)
	r.becomes(lives.WorkerID, store.WorkerFailed)
}

// A restart that was begun is finished, also by the recovery behind one that was killed: the
// worker has the job's id by then, and its old process.
func TestARestartIsFinishedAfterTwoKills(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	require.True(t, r.close())
	const job = "job-restart"
	r.edit(func(tx *store.Tx) error {
		w.State, w.Desired, w.Reason, w.RestartJob, w.JobID = store.WorkerStopping, store.DesiredRunning, "restarted on request", job, job
		return tx.PutWorker(w)
	})
	r.restarts = map[string]string{job: w.WorkerID}
	r.open()
	require.Equal(t, supervisor.Counts{Adopted: 1}, r.recovery)
	again := r.becomes(w.WorkerID, store.WorkerReady)
	require.NotEqual(t, w.Identity, again.Identity)
	require.Equal(t, w.Port, again.Port)
	require.Equal(t, 1, again.Restarts)
	require.Equal(t, job, again.JobID)
	require.Empty(t, again.RestartJob)
}

// Killed between its record and its gate, hive leaves a process that exits by itself and a
// record that the next one ends: the program never ran.
func TestAWorkerWhoseGateWasNeverOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, restarting(script("marks", `echo 1 >>`+dir+`/runs; exec "$0" worker --port $1`), "never", 1))
	w := r.spawn("marks")
	r.stop(w.WorkerID)
	r.close()
	require.NoError(t, os.Remove(dir+"/runs"))
	lease := uuid.Must(uuid.NewV7()).String()
	st, err := store.Open(context.Background(), store.Options{Path: r.path()})
	require.NoError(t, err)
	gated, err := proc.Start(proc.Spec{
		Argv: w.Spec.Argv, Log: w.Log, StateID: st.Meta().StateID, Secret: st.Secret(), LeaseID: lease, WorkerID: w.WorkerID,
	})
	require.NoError(t, err)
	id, uid := gated.Identity(), gated.UID()
	require.NoError(t, st.Update(context.Background(), func(tx *store.Tx) error {
		w.State, w.Desired, w.Identity, w.StampUID, w.LeaseID, w.ReadyAt, w.EndedAt, w.Exit, w.Reason = store.WorkerSpawning, store.DesiredRunning, &id, &uid, lease, nil, nil, nil, ""
		if err := tx.PutWorker(w); err != nil {
			return err
		}
		return tx.PutLease(store.Lease{
			Port: w.Port, LeaseID: lease, Kind: store.LeaseWorker, WorkerID: w.WorkerID,
			Identity: &id, StampUID: &uid, State: store.LeaseHeld, AcquiredAt: time.Now().UTC(),
		})
	}))
	require.NoError(t, st.Close())
	gated.Abort() // as the kernel does with hive's end of the gate
	r.open()
	require.Equal(t, supervisor.Counts{Freed: 1}, r.recovery)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
	require.Empty(t, r.leases())
	require.NoFileExists(t, dir+"/runs")
}

// A stop under way goes on with the next hive, and what was given up is started again.
func TestAStopGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	stopped, givenUp := serving("stopped"), restarting(serving("given-up"), "on-failure", 5)
	r := newRig(t, 2, stopped, givenUp)
	a, b := r.spawn("stopped"), r.spawn("given-up")
	r.close()
	r.editWorker(a.WorkerID, func(w *store.Worker) {
		w.State, w.Desired, w.Reason = store.WorkerStopping, store.DesiredStopped, "stopped on request"
	})
	r.editWorker(b.WorkerID, func(w *store.Worker) { w.State, w.Reason = store.WorkerStopping, "no progress" })
	r.open()
	require.Equal(t, 2, r.recovery.Adopted)
	require.Equal(t, "stopped on request", r.becomes(a.WorkerID, store.WorkerStopped).Reason)
	require.False(t, alive(a.Identity.PID))
	r.eventually("it was started again", func() bool { w := r.worker(b.WorkerID); return w.Restarts == 1 && w.State == store.WorkerReady })
	require.False(t, alive(b.Identity.PID))
}

// A restart that a job had begun is finished by the next hive, and the job waits for it:
// whatever the policy, wherever it was when hive was killed.
func TestARestartIsFinishedByTheNextHive(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dead bool
		edit func(w *store.Worker, job string)
	}{
		"the old process is being ended": {false, func(w *store.Worker, _ string) { w.State = store.WorkerStopping }},
		"it has ended":                   {true, func(w *store.Worker, _ string) { w.State = store.WorkerStopping }},
		"the new one is behind its gate": {true, func(w *store.Worker, job string) { w.State, w.JobID = store.WorkerSpawning, job }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, restarting(serving("serve"), "never", 1))
			w, j := r.spawn("serve"), newJob()
			r.close()
			if c.dead {
				kill9(t, w.Identity.PID)
				r.gone(w.Identity.PID)
			}
			r.editWorker(w.WorkerID, func(w *store.Worker) { w.Reason = "restarted on request"; c.edit(w, j.id) })
			r.restarts = map[string]string{j.id: w.WorkerID}
			r.open()
			res, err := r.s.RestartWorker(r.bounded(), j, operation.RestartWorker{WorkerID: w.WorkerID})
			require.NoError(t, err)
			now := r.worker(w.WorkerID)
			require.Equal(t, operation.SpawnedOf(now), res)
			require.Equal(t, store.WorkerReady, now.State)
			require.Equal(t, j.id, now.JobID)
			require.Equal(t, w.Port, now.Port)
			require.Equal(t, w.LeaseID, now.LeaseID)
			require.Equal(t, 1, now.Restarts, "once")
			require.NotEqual(t, w.Identity.PID, now.Identity.PID)
			require.False(t, alive(w.Identity.PID))
		})
	}
}

// It is not finished if a stop was asked for since, if the new program had run, or by a hive
// with a copy of the file.
func TestARestartThatIsNotFinished(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit      func(w *store.Worker, job string)
		relocated bool
		want      store.WorkerState
	}{
		"stopped since":   {func(w *store.Worker, _ string) { w.State, w.Desired = store.WorkerStopping, store.DesiredStopped }, false, store.WorkerStopped},
		"it had run":      {func(w *store.Worker, job string) { w.JobID = job }, false, store.WorkerFailed},
		"another's state": {func(w *store.Worker, _ string) { w.State = store.WorkerStopping }, true, store.WorkerFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, restarting(serving("serve"), "never", 1))
			w := r.spawn("serve")
			r.close()
			kill9(t, w.Identity.PID)
			r.gone(w.Identity.PID)
			r.editWorker(w.WorkerID, func(w *store.Worker) { c.edit(w, "job-1") })
			r.restarts, r.relocated = map[string]string{"job-1": w.WorkerID}, c.relocated
			r.open()
			require.Equal(t, c.want, r.worker(w.WorkerID).State)
			require.Empty(t, r.leases())
			r.relocated = false
		})
	}
}

// A stop of a worker that died meanwhile is done.
func TestADeadWorkerThatWasBeingStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "always", 5))
	w := r.spawn("serve")
	r.close()
	r.editWorker(w.WorkerID, func(w *store.Worker) { w.State, w.Desired = store.WorkerStopping, store.DesiredStopped })
	kill9(t, w.Identity.PID)
	r.gone(w.Identity.PID)
	r.open()
	require.Equal(t, supervisor.Counts{Freed: 1}, r.recovery, "its policy is for those that end by themselves")
	require.Equal(t, store.WorkerStopped, r.worker(w.WorkerID).State)
	require.Equal(t, "stopped on request", r.worker(w.WorkerID).Reason)
}

// What a dead worker left behind is ended before its port is free.
func TestTheRestOfADeadWorkerIsEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("forks", `"$0" worker --no-listen --port 1 & echo $! >`+dir+`/child; exec "$0" worker --port $1`))
	w := r.spawn("forks")
	child, err := strconv.Atoi(r.written(dir + "/child"))
	require.NoError(t, err)
	r.close()
	kill9(t, w.Identity.PID)
	r.gone(w.Identity.PID)
	require.True(t, alive(child))
	r.open()
	require.False(t, alive(child))
	require.Equal(t, supervisor.Counts{Freed: 1}, r.recovery)
}

// The PID of a dead worker is another's by now: that one is no worker, and gets no signal.
func TestAPIDIsNoProof(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	r.close()
	kill9(t, w.Identity.PID)
	r.gone(w.Identity.PID)
	self, err := proc.Identify(os.Getpid())
	require.NoError(t, err)
	r.editWorker(w.WorkerID, func(w *store.Worker) { w.Identity.PID = self.PID })
	r.open()
	require.Equal(t, supervisor.Counts{Freed: 1}, r.recovery)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
}

// Failures before a reboot, and the end by it, count for nothing: the worker comes back at
// once, however often it had failed.
func TestAfterARebootWorkersComeBackAtOnce(t *testing.T) {
	t.Parallel()
	entry := restarting(serving("serve"), "on-failure", 1)
	entry.Restart.Backoff, entry.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	r.close()
	kill9(t, w.Identity.PID)
	r.gone(w.Identity.PID)
	r.editWorker(w.WorkerID, func(w *store.Worker) {
		w.Identity.BootID = uuid.NewString()
		w.Failures = []time.Time{time.Now().UTC()}
	})
	r.open()
	require.Equal(t, supervisor.Counts{Restarted: 1}, r.recovery)
	r.becomes(w.WorkerID, store.WorkerReady)
}

// What was too often is not started again by the next hive either.
func TestRecoveryCountsFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "on-failure", 2))
	w := r.spawn("serve")
	r.close()
	kill9(t, w.Identity.PID)
	r.gone(w.Identity.PID)
	r.editWorker(w.WorkerID, func(w *store.Worker) { w.Failures = []time.Time{time.Now().UTC(), time.Now().UTC()} })
	r.open()
	require.Equal(t, supervisor.Counts{Freed: 1}, r.recovery)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
}

// claim takes the claim of a port as another hive does.
func claim(t *testing.T, port uint16) (release func()) {
	t.Helper()
	l, err := net.Listen("unix", fmt.Sprintf("@hive-port/%d", port))
	require.NoError(t, err)
	released := false
	release = func() {
		if !released {
			released = true
			require.NoError(t, l.Close())
		}
	}
	t.Cleanup(release)
	return release
}

// What cannot be verified is kept: neither freed nor touched. Once it can be, it is adopted.
func TestUnverified(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	lives, dies := r.spawn("serve"), r.spawn("serve")
	r.close()
	release := []func(){claim(t, lives.Port), claim(t, dies.Port)}
	kill9(t, dies.Identity.PID)
	r.gone(dies.Identity.PID)
	r.open()
	require.Equal(t, supervisor.Counts{Unverified: 2}, r.recovery)
	for _, w := range []store.Worker{lives, dies} {
		now := r.worker(w.WorkerID)
		require.Equal(t, store.WorkerUnverified, now.State)
		require.Equal(t, "another hive on this machine claims its port", now.Reason)
		_, err := r.s.StopWorker(r.bounded(), newJob(), operation.StopWorker{WorkerID: w.WorkerID})
		require.Equal(t, errdefs.CodeStopIncomplete, r.failure(err).Code)
		require.Equal(t, errdefs.CodeStopIncomplete, r.failure(r.restart(w.WorkerID)).Code)
	}
	for _, l := range r.leases() {
		require.Equal(t, store.LeaseUnverified, l.State)
	}
	r.s.Review(r.bounded())
	require.Equal(t, store.WorkerUnverified, r.worker(lives.WorkerID).State, "it still cannot")
	require.True(t, alive(lives.Identity.PID))
	require.NoError(t, r.s.StopAll(r.bounded()), "it leaves them alone")
	require.True(t, alive(lives.Identity.PID))

	for _, f := range release {
		f()
	}
	r.s.Review(r.bounded())
	require.Equal(t, store.WorkerFailed, r.worker(dies.WorkerID).State)
	adopted := r.becomes(lives.WorkerID, store.WorkerReady)
	require.Equal(t, lives.Identity, adopted.Identity)
	require.Empty(t, adopted.Reason)
	leases := r.leases()
	require.Len(t, leases, 1)
	require.Equal(t, store.LeaseHeld, leases[0].State)
	require.Equal(t, store.WorkerStopped, r.stop(lives.WorkerID).State)
}

// In the first start with a copied file nobody is ended and nobody started: they may be
// another hive's. A restart on request makes a worker this hive's.
func TestACopiedFile(t *testing.T) {
	t.Parallel()
	waits := restarting(serving("waits", "--exit-code", "3"), "always", 5)
	waits.Restart.Backoff, waits.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
	r := newRig(t, 3, restarting(serving("kept"), "always", 5), waits)
	stopping, dies, waiting := r.spawn("kept"), r.spawn("kept"), r.begin("waits")
	r.becomes(waiting.WorkerID, store.WorkerBackoff)
	r.close()
	kill9(t, dies.Identity.PID)
	r.gone(dies.Identity.PID)
	r.editWorker(stopping.WorkerID, func(w *store.Worker) { w.State, w.Desired = store.WorkerStopping, store.DesiredStopped })
	r.relocated = true
	r.open()
	require.Equal(t, supervisor.Counts{Adopted: 1, Freed: 2}, r.recovery)
	require.Equal(t, store.WorkerFailed, r.worker(dies.WorkerID).State)
	require.Contains(t, r.worker(waiting.WorkerID).Reason, "a state file that was copied or restored")
	adopted := r.becomes(stopping.WorkerID, store.WorkerReady)
	require.Equal(t, store.DesiredRunning, adopted.Desired, "the stop was asked of another hive")
	require.True(t, alive(stopping.Identity.PID))

	require.NoError(t, r.restart(stopping.WorkerID))
	require.False(t, alive(stopping.Identity.PID))
	kill9(t, r.worker(stopping.WorkerID).Identity.PID)
	r.eventually("it is this hive's to start again", func() bool {
		w := r.worker(stopping.WorkerID)
		return w.Restarts == 2 && w.State == store.WorkerReady
	})
	r.relocated = false
}

// A worker that may be another hive's is not started again when it ends, and not shown as
// unhealthy.
func TestAnInheritedWorkerIsLeftAlone(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sick"
	r := newRig(t, 1, restarting(sickly("kept", file), "always", 5))
	w := r.spawn("kept")
	r.close()
	r.relocated = true
	r.open()
	r.s.AwaitFirstProbes(r.bounded()) // from then on it is watched
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.never("something is done about it", time.Second, func() bool { now := r.worker(w.WorkerID); return now.State != store.WorkerReady })
	require.NoError(t, syscall.Kill(w.Identity.PID, syscall.SIGKILL))
	ended := r.becomes(w.WorkerID, store.WorkerFailed)
	require.Zero(t, ended.Restarts)
	r.relocated = false
}

// The first probes of those that were adopted are waited for, not for ever.
func TestAwaitFirstProbes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"), serving("sick", "--unhealthy"))
	r.spawn("serve")
	r.s.AwaitFirstProbes(r.bounded())
	r.begin("sick")
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r.s.AwaitFirstProbes(short)
	require.Error(t, short.Err(), "one is not ready yet")
}
