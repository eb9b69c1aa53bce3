package supervisor_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// starts are how many starts were counted so far, and how many got ready. That is told
// after the state has changed, so who has seen the state must wait for it.
func (m *metrics) starts() (started, ready int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started, m.ready
}

// counted waits for so many starts, and that so many of them got ready.
func (r *rig) counted(started, ready int) {
	r.Helper()
	r.eventually("the starts are counted", func() bool {
		s, ok := r.metrics.starts()
		return s == started && ok == ready
	})
}

// A worker that is killed is started again: the same worker on the same port under the same
// lease, with another process. What the last start was is cleared.
func TestAKilledWorkerIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "on-failure", 5))
	res, err := r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Name: "a", Model: "m"})
	require.NoError(t, err)
	first := r.worker("a")
	kill9(t, res.PID)
	r.eventually("it is ready again", func() bool {
		w := r.worker("a")
		return w.State == store.WorkerReady && w.Identity.PID != res.PID
	})
	w := r.worker("a")
	require.Equal(t, first.WorkerID, w.WorkerID)
	require.Equal(t, first.LeaseID, w.LeaseID)
	require.Equal(t, first.Port, w.Port)
	require.Equal(t, "m", w.Asked.Model)
	require.Equal(t, 1, w.Restarts)
	require.Len(t, w.Failures, 1)
	require.Equal(t, "SIGKILL", w.Exit.Signal, "how the last process ended")
	require.Nil(t, w.NextTry)
	require.Empty(t, w.Reason)
	require.True(t, w.ReadyAt.After(*first.ReadyAt))
	leases := r.leases()
	require.Len(t, leases, 1)
	require.Equal(t, w.Identity, leases[0].Identity, "the lease names the new process")
	stored, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, w, stored)
	r.counted(2, 2)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonExited}, r.metrics.reasons())
}

// While it waits a worker has its port and no process, and the wait can be ended by a stop
// or by a restart.
func TestBackoff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := restarting(script("waits", `[ -e `+dir+`/well ] && exec "$0" worker --port $1; exit 3`), "always", 5)
	entry.Restart.Backoff, entry.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
	r := newRig(t, 2, entry)
	a, b := r.begin("waits"), r.begin("waits")
	for _, w := range []store.Worker{a, b} {
		waiting := r.becomes(w.WorkerID, store.WorkerBackoff)
		require.Nil(t, waiting.Identity)
		require.Empty(t, waiting.Cgroup)
		require.Equal(t, "exited with code 3 before it was ready", waiting.Reason)
		require.WithinDuration(t, time.Now().Add(time.Hour), *waiting.NextTry, 15*time.Minute)
	}
	for _, l := range r.leases() {
		require.Equal(t, store.LeaseHeld, l.State)
		require.Nil(t, l.Identity, "it is no process's")
	}
	require.Empty(t, r.s.Processes())
	require.Equal(t, store.WorkerStopped, r.stop(a.WorkerID).State)
	require.Equal(t, 3, *r.worker(a.WorkerID).Exit.Code, "of the last process")

	require.NoError(t, os.WriteFile(dir+"/well", nil, 0o600))
	require.NoError(t, r.restart(b.WorkerID), "it need not wait for an hour")
	w := r.worker(b.WorkerID)
	require.Equal(t, store.WorkerReady, w.State)
	require.Equal(t, 1, w.Restarts)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonRequested}, r.metrics.reasons())
}

func TestRestartOnRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	first := r.spawn("serve")
	j := newJob()
	res, err := r.s.RestartWorker(r.bounded(), j, operation.RestartWorker{WorkerID: first.WorkerID})
	require.NoError(t, err)
	w := r.worker(first.WorkerID)
	require.Equal(t, operation.SpawnedOf(w), res)
	require.Equal(t, store.WorkerReady, w.State)
	require.Equal(t, first.Port, w.Port)
	require.Equal(t, first.LeaseID, w.LeaseID)
	require.False(t, alive(first.Identity.PID))
	require.Equal(t, 1, w.Restarts)
	require.Empty(t, w.Failures, "it was asked for")
	require.Equal(t, 1, j.effective)
	require.NoError(t, r.store.View(func(tx *store.Tx) error { _, err := tx.Job(j.id); return err }), "the job is recorded as running")

	// Ended, it is started again under its id, with a lease of its own.
	r.stop(first.WorkerID)
	require.NoError(t, r.restart(first.WorkerID))
	w = r.worker(first.WorkerID)
	require.Equal(t, first.Port, w.Port)
	require.NotEqual(t, first.LeaseID, w.LeaseID)
	require.Equal(t, store.DesiredRunning, w.Desired)
	require.Nil(t, w.EndedAt)
	require.Equal(t, 2, w.Restarts)
	require.Len(t, r.s.Workers(), 1, "it is not among the ended any more")

	_, err = r.s.RestartWorker(r.bounded(), newJob(), operation.RestartWorker{WorkerID: "nobody"})
	require.Equal(t, errdefs.CodeNotFound, r.failure(err).Code)
}

// A mistake that a new start would fail for does not cost the process that there is.
func TestAMistakeCostsNoProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	broken := serving("serve")
	broken.Command[0] = "/nonexistent"
	r.setTypes(broken)
	require.Equal(t, errdefs.CodeProgramNotFound, r.failure(r.restart(w.WorkerID)).Code)
	r.setTypes()
	require.Equal(t, errdefs.CodeProgramNotFound, r.failure(r.restart(w.WorkerID)).Code)
	require.Equal(t, w, r.worker(w.WorkerID))
	require.True(t, alive(w.Identity.PID))
}

// A restart that fails shows what the new program has said, and not the one before it.
func TestAFailedRestartShowsItsOwnOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("breaks", `[ -e `+dir+`/bad ] && { printf '50%%\r100%%\rno such model\n'; exit 3; }; echo serving; exec "$0" worker --port $1`))
	w := r.spawn("breaks")
	require.NoError(t, os.WriteFile(dir+"/bad", nil, 0o600))
	require.Equal(t, []string{"no such model"}, r.failure(r.restart(w.WorkerID)).Log)
}

// The new start is by the type as it is now.
func TestARestartTakesTheTypeAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	r.setTypes(serving("serve", "--model", "another"))
	require.NoError(t, r.restart(w.WorkerID))
	require.Contains(t, r.worker(w.WorkerID).Spec.Argv, "another")
}

// A restart that does not become ready is a failure of the job, and by the policy the
// worker's end.
func TestARestartThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("once", `[ -e `+dir+`/was ] && exit 5; echo 1 >`+dir+`/was; exec "$0" worker --port $1`))
	w := r.spawn("once")
	f := r.failure(r.restart(w.WorkerID))
	require.Equal(t, errdefs.CodeExitedEarly, f.Code)
	require.Equal(t, "exited with code 5 before it was ready", f.Message)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
	require.Empty(t, r.leases())
}

// A stop that comes while a restart is under way ends the worker, and the restart's job says
// so.
func TestAStopDuringARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("second", `[ -e `+dir+`/was ] && exec "$0" worker --port $1 --no-listen; echo 1 >`+dir+`/was; exec "$0" worker --port $1`))
	w := r.spawn("second")
	done := make(chan error, 1)
	go func() {
		_, err := r.s.RestartWorker(r.bounded(), newJob(), operation.RestartWorker{WorkerID: w.WorkerID})
		done <- err
	}()
	r.eventually("it was started again", func() bool { now := r.worker(w.WorkerID); return now.Restarts == 1 && now.State == store.WorkerRunning })
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
	require.Equal(t, errdefs.CodeCancelled, r.failure(<-done).Code)
}

// A restart that was cancelled while it waited for readiness stops its worker, as a spawn.
func TestACancelledRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("second", `[ -e `+dir+`/was ] && exec "$0" worker --port $1 --no-listen; echo 1 >`+dir+`/was; exec "$0" worker --port $1`))
	w := r.spawn("second")
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := r.s.RestartWorker(ctx, newJob(), operation.RestartWorker{WorkerID: w.WorkerID})
		done <- err
	}()
	r.eventually("it was started again", func() bool { now := r.worker(w.WorkerID); return now.Restarts == 1 && now.State == store.WorkerRunning })
	cancel(errdefs.ErrCancelled)
	require.ErrorIs(t, <-done, errdefs.ErrCancelled)
	require.Equal(t, store.WorkerStopped, r.worker(w.WorkerID).State)
}

// The same where it is cancelled before the new program runs.
func TestARestartThatIsCancelledWhileTheOldProcessEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("slow", `trap ': >`+dir+`/asked; while [ ! -e `+dir+`/go ]; do sleep 0.01; done; exit 0' TERM; "$0" worker --port $1 & wait`))
	w := r.spawn("slow")
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := r.s.RestartWorker(ctx, newJob(), operation.RestartWorker{WorkerID: w.WorkerID})
		done <- err
	}()
	r.eventually("the old process was asked to end", func() bool { _, err := os.Stat(dir + "/asked"); return err == nil })
	cancel(errdefs.ErrCancelled)
	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	require.ErrorIs(t, <-done, errdefs.ErrCancelled)
	require.Equal(t, store.WorkerStopped, r.worker(w.WorkerID).State)
}

// if_stale is for reloads: who is not stale is left alone, and who has ended is not brought
// back.
func TestRestartIfStale(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	ifStale := func() error {
		_, err := r.s.RestartWorker(r.bounded(), newJob(), operation.RestartWorker{WorkerID: w.WorkerID, IfStale: true})
		return err
	}
	require.NoError(t, ifStale())
	require.Equal(t, w.Identity, r.worker(w.WorkerID).Identity)
	r.setTypes(serving("serve", "--model", "another"))
	r.s.Compare(r.bounded(), []string{w.WorkerID})
	require.NoError(t, ifStale())
	require.NotEqual(t, w.Identity, r.worker(w.WorkerID).Identity)
	require.False(t, r.worker(w.WorkerID).Stale)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonReload}, r.metrics.reasons())
	r.stop(w.WorkerID)
	require.Equal(t, errdefs.CodeNotFound, r.failure(ifStale()).Code)
	require.Equal(t, store.WorkerStopped, r.worker(w.WorkerID).State)
}

// A request to a worker need not wait for what its new start does first.
func TestAStopDuringBeforeStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := restarting(serving("serve"), "always", 5)
	entry.BeforeStart = []string{"sh", "-c", "[ ! -e " + dir + "/again ] || { touch " + dir + "/waits; sleep 600; }"}
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	require.NoError(t, os.WriteFile(dir+"/again", nil, 0o600))
	kill9(t, w.Identity.PID)
	r.eventually("its command runs", func() bool { _, err := os.Stat(dir + "/waits"); return err == nil })
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
	require.Empty(t, r.leases())
	require.NoError(t, os.Remove(dir+"/again"))
	require.NoError(t, r.restart(w.WorkerID), "its place among the starts is free")
}
