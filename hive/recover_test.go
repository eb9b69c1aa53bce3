package hive_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
	"rbeehive/test/freeport"
)

// What the seed never had: a restart.
func TestRestartAdoptsTheLivingAndFreesTheDead(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	one, two, three := r.spawn("cpu"), r.spawn("cpu"), r.spawn("cpu", map[string]any{"name": "third"})
	r.close()
	require.True(t, alive(one.PID) && alive(two.PID) && alive(three.PID), "workers keep running without hive")
	kill9(t, two.PID)
	r.eventually("it is dead", func() bool { return !alive(two.PID) })

	r.open()
	rec := r.h.Info().Recovery
	require.Equal(t, []int{2, 1, 0, 0}, []int{rec.Adopted, rec.Freed, rec.Restarted, rec.Unverified})
	leases := r.leases()
	require.Len(t, leases, 2)
	require.Equal(t, []uint16{one.Port, three.Port}, []uint16{leases[0].Port, leases[1].Port})
	for _, w := range []result{one, three} {
		got, err := r.h.Worker(w.WorkerID)
		require.NoError(t, err)
		require.Equal(t, w.PID, got.Identity.PID)
		require.Equal(t, w.LeaseID, got.LeaseID)
		require.Equal(t, store.WorkerReady, got.State, "what was ready is shown as ready")
	}
	dead, err := r.h.Worker(two.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerFailed, dead.State)
	require.Contains(t, dead.Reason, "while hive was not running")
	require.NotNil(t, dead.EndedAt)
	r.eventually("the sweep has run", func() bool { return r.h.Info().Recovery.Orphans != nil })
	require.Zero(t, *r.h.Info().Recovery.Orphans)

	require.Equal(t, two.Port, r.spawn("cpu").Port, "the dead worker's port is leased again")
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu", "name": "third"})
	require.Equal(t, errdefs.CodeNameInUse, job.Error.Code, "an adopted worker keeps its name")
	kill9(t, one.PID)
	r.eventually("the death of an adopted worker is seen", func() bool { return len(r.leases()) == 2 })
	r.stopWorker(three.WorkerID)
	require.False(t, alive(three.PID), "an adopted worker can be stopped")
}

// A reboot: every recorded process is gone, and its PID may be anybody's.
func TestPIDIsNoProof(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	r.edit(func(tx *store.Tx) error {
		rec, err := tx.Worker(w.WorkerID)
		if err != nil {
			return err
		}
		rec.Identity.PidfdInode++
		rec.Identity.StartTicks++
		if err := tx.PutWorker(rec); err != nil {
			return err
		}
		l, err := tx.Lease(w.Port)
		if err != nil {
			return err
		}
		l.Identity = rec.Identity
		// Nothing else proves membership either: it is somebody else's process.
		l.Cgroup = ""
		return tx.PutLease(l)
	})
	r.open()
	require.Equal(t, 0, r.h.Info().Recovery.Adopted)
	got, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerFailed, got.State)
}

// edit changes the state file while no hive runs.
func (r *rig) edit(fn func(*store.Tx) error) {
	r.Helper()
	st, err := store.Open(context.Background(), store.Options{Path: filepath.Join(r.cfg.DataDir, "hive.db")})
	require.NoError(r, err)
	require.NoError(r, st.Update(context.Background(), fn))
	require.NoError(r, st.Close())
}

func (r *rig) putJob(j store.Job) {
	r.edit(func(tx *store.Tx) error { return tx.PutJob(j) })
}

func TestInterruptedJobsAreSettled(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	w := r.spawn("cpu")
	r.close()
	now := time.Now().UTC()
	spawn := []byte(`{"operation":"worker_spawn","worker":"cpu"}`)
	r.putJob(store.Job{JobID: "job-1", Operation: "worker_spawn", Request: spawn, State: store.JobRunning, WorkerID: w.WorkerID, CreatedAt: now})
	r.putJob(store.Job{JobID: "job-2", Operation: "worker_spawn", Request: spawn, State: store.JobRunning, WorkerID: "cpu-1-gone", CreatedAt: now})
	r.putJob(store.Job{JobID: "job-3", Operation: "worker_spawn", Request: []byte(`{"operation":"worker_spawn","worker":"cpu","hive_id":"gpubox.lan"}`), State: store.JobQueued, CreatedAt: now})
	r.putJob(store.Job{JobID: "job-4", Operation: "worker_spawn", Request: spawn, State: store.JobQueued, CreatedAt: now.Add(-time.Hour)})
	r.putJob(store.Job{JobID: "job-5", Operation: "worker_spawn", Request: []byte(`{"operation":"worker_spawn","worker":"removed"}`), State: store.JobQueued, CreatedAt: now})
	r.open()
	for id, want := range map[string]string{"job-1": "succeeded", "job-2": "failed interrupted", "job-3": "succeeded", "job-4": "failed expired", "job-5": "failed interrupted"} {
		r.eventually(id+" has ended", func() bool { j, err := r.h.Job(id); return err == nil && j.State.Ended() })
		job, err := r.h.Job(id)
		require.NoError(t, err)
		got := string(job.State)
		if job.Error != nil {
			got += " " + job.Error.Code
		}
		require.Equal(t, want, got, id)
	}
	require.Len(t, r.leases(), 2, "the queued spawn was carried out, for the name that it came by")
}

// Hive is stopped while it stops a worker that takes its time.
func TestStopGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	stubborn := fault("stubborn", "--ignore-term")
	r := newRig(t, 2, stubborn)
	r.open()
	w := r.spawn("stubborn")
	job := r.submit(map[string]any{"operation": "worker_stop", "worker_id": w.WorkerID})
	r.eventually("it is being stopped", func() bool {
		got, err := r.h.Worker(w.WorkerID)
		return err == nil && got.State == store.WorkerStopping
	})
	require.Equal(t, store.LeaseReleasing, r.leases()[0].State)
	r.close()
	require.True(t, alive(w.PID))
	r.open()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rec, err := r.h.WaitJob(ctx, job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, rec.State, "the job went on: %+v", rec.Error)
	require.Empty(t, r.leases())
	require.False(t, alive(w.PID))
	got, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerStopped, got.State)
}

// A worker that still loads when hive is restarted becomes ready afterwards.
func TestReadinessIsResumed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("loads", "--load-time", "1500ms"))
	r.open()
	w := r.spawn("loads", map[string]any{"wait": "started"})
	require.Equal(t, "starting", w.Status)
	r.close()
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	r.eventually("it becomes ready", func() bool {
		got, err := r.h.Worker(w.WorkerID)
		return err == nil && got.State == store.WorkerReady
	})
}

// Whoever waits for a worker waits over a restart of hive, too: the job does not end before
// the worker is ready, or has failed.
func TestAJobWaitsOnForItsWorker(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	self, err := os.Executable()
	require.NoError(t, err)
	never := fault("never", "--unhealthy")
	never.Ready.Timeout = ref(2 * time.Second)
	r := newRig(t, 3, catalog.Entry{
		Name: "loads", Command: []string{"/bin/sh", "-c", `while [ ! -e "$0" ]; do sleep 0.02; done; exec "$1" worker --port $2`, ready, self, "{{.Port}}"},
		Ready: catalog.ReadyEntry{Path: ref("/health"), Timeout: ref(time.Minute)},
	}, never)
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "loads"})
	r.eventually("the worker runs", func() bool { return len(r.h.Workers()) == 1 && r.h.Workers()[0].Identity != nil })
	fails := r.submit(map[string]any{"operation": "worker_spawn", "worker": "never"})
	r.eventually("the other runs", func() bool { return len(r.h.Workers()) == 2 && r.h.Workers()[1].Identity != nil })
	r.close()
	r.open()
	require.Equal(t, 2, r.h.Info().Recovery.Adopted)
	failed := r.wait(fails.JobID)
	require.Equal(t, store.JobFailed, failed.State)
	require.Equal(t, errdefs.CodeNotReady, failed.Error.Code)
	now, err := r.h.Job(job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobRunning, now.State)
	require.NoError(t, os.WriteFile(ready, nil, 0o600))
	done := r.wait(job.JobID)
	require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)
	require.Contains(t, string(done.Result), `"status":"ready"`)

	// The same for a restart.
	require.NoError(t, os.Remove(ready))
	again := r.submit(map[string]any{"operation": "worker_restart", "worker_id": done.WorkerID})
	r.eventually("it was started again", func() bool { return r.worker(done.WorkerID).Restarts == 1 })
	r.close()
	r.open()
	require.NoError(t, os.WriteFile(ready, nil, 0o600))
	rec := r.wait(again.JobID)
	require.Equal(t, store.JobSucceeded, rec.State, "%+v", rec.Error)
	require.Contains(t, string(rec.Result), `"status":"ready"`)
}

// A port that another hive claims: the worker is neither adopted nor freed nor
// signalled, until the other one lets go.
func TestUnverifiedIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 50 * time.Millisecond
	r.open()
	w := r.spawn("cpu")
	r.close()
	other, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(other, &syscall.SockaddrUnix{Name: fmt.Sprintf("@hive-port/%d", w.Port)}))
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Unverified)
	require.Equal(t, store.LeaseUnverified, r.leases()[0].State)
	job := r.do(map[string]any{"operation": "worker_stop", "worker_id": w.WorkerID})
	require.Equal(t, errdefs.CodeStopIncomplete, job.Error.Code)
	require.Contains(t, job.Error.Message, "not touched")
	require.True(t, alive(w.PID))
	r.never("reviews leave it alone", 300*time.Millisecond, func() bool { return r.leases()[0].State != store.LeaseUnverified })
	require.NoError(t, syscall.Close(other))
	r.eventually("it is adopted by a review", func() bool {
		got, err := r.h.Worker(w.WorkerID)
		return err == nil && got.State != store.WorkerUnverified
	})
	require.Equal(t, store.LeaseHeld, r.leases()[0].State)
	r.stopWorker(w.WorkerID)
}

// The main process dies while hive is down and leaves a child that listens.
func TestTheRestOfADeadWorkerIsEnded(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	r := newRig(t, 2, catalog.Entry{
		Name: "forker", Command: []string{"sh", "-c", `"$0" worker --port "$1" & wait`, self, "{{.Port}}"},
		Ready: catalog.ReadyEntry{Path: ref("/health")}, Stop: catalog.StopEntry{Grace: ref(time.Second)},
	})
	r.open()
	up := r.spawn("forker")
	kill9(t, up.PID)
	r.eventually("the port is free again", func() bool { return len(r.leases()) == 0 })
	require.True(t, freeport.AllFree(int(up.Port), 1), "its child is gone too")

	down := r.spawn("forker")
	r.close()
	kill9(t, down.PID)
	r.eventually("it is dead", func() bool { return !alive(down.PID) })
	require.False(t, freeport.AllFree(int(down.Port), 1), "its child still serves")
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Freed)
	require.Empty(t, r.leases())
	require.True(t, freeport.AllFree(int(down.Port), 1))
}
