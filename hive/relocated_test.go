package hive_test

import (
	"encoding/json"
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
	"rbeehive/test/hub"
	testprogram "rbeehive/test/program"
)

// copyFile makes the state file a copy, as a restored backup is.
func (r *rig) copyFile() {
	r.Helper()
	db := filepath.Join(r.cfg.DataDir, "hive.db")
	raw, err := os.ReadFile(db)
	require.NoError(r, err)
	require.NoError(r, os.WriteFile(db+".copy", raw, 0o600))
	require.NoError(r, os.Rename(db+".copy", db))
}

// crasher ends at every start, and is started again after wait.
func crasher(wait time.Duration) catalog.Entry {
	e := restarting(fault("crash", "--exit-code", "3"), "always", 5)
	e.Restart.Backoff, e.Restart.MaxBackoff = ref(wait), ref(wait)
	return e
}

// waiting spawns a worker that then waits for its next start.
func (r *rig) waiting() store.Worker {
	r.Helper()
	r.submit(map[string]any{"operation": "worker_spawn", "worker": "crash", "name": "c"})
	r.eventually("it waits", func() bool { ws := r.h.Workers(); return len(ws) == 1 && ws[0].State == store.WorkerBackoff })
	return r.worker("c")
}

// queued puts a request into the file that no hive has begun.
func (r *rig) queued(operation, workerID string) (jobID string) {
	r.Helper()
	raw, err := json.Marshal(map[string]any{"operation": operation, "worker_id": workerID})
	require.NoError(r, err)
	jobID = "job-018f0000-0000-7000-8000-000000000001"
	r.putJob(store.Job{JobID: jobID, Operation: operation, Request: raw, State: store.JobQueued, CreatedAt: time.Now().UTC()})
	return jobID
}

func TestACopiedFileRestartsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	id := r.queued("worker_restart", w.WorkerID)
	r.copyFile()
	r.open()
	job, err := r.h.WaitJob(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, w.PID, r.worker(w.WorkerID).Identity.PID)
	require.True(t, alive(w.PID))
}

// The hive that a file is from may have carried out what is queued in the copy: a
// spawn that was submitted once would be two workers.
func TestACopiedFileBeginsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	r.close()
	raw := []byte(`{"operation":"worker_spawn","worker":"cpu"}`)
	rec := store.Job{
		JobID: "job-018f0000-0000-7000-8000-000000000001", Operation: "worker_spawn", Request: raw,
		Key: "k", State: store.JobQueued, CreatedAt: time.Now().UTC(),
	}
	r.edit(func(tx *store.Tx) error { return tx.PutKeyedJob(rec, "0") })
	r.copyFile()
	r.open()
	job := r.wait(rec.JobID)
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, errdefs.CodeInterrupted, job.Error.Code)
	require.Empty(t, r.h.Workers())
	require.Empty(t, r.leases())
}

// The model of a download that ran when the file was copied may have been fetched and
// deleted since, or is being fetched by the other hive to the same place.
func TestACopiedFileDownloadsNothing(t *testing.T) {
	t.Parallel()
	r, server, _ := newModelRig(t, 4*mib)
	server.Misbehave(hub.Faults{Hang: true})
	r.open()
	job := r.submit(download("org/name"))
	r.eventually("it comes", func() bool { return server.Sent() > mib })
	r.close()
	r.copyFile()
	server.Misbehave(hub.Faults{})
	r.open()
	job = r.wait(job.JobID)
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, errdefs.CodeInterrupted, job.Error.Code)
	require.Empty(t, r.models())
}

func TestACopiedFileStartsNobodyThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, crasher(2*time.Second))
	r.open()
	w := r.waiting()
	r.close()
	r.copyFile()
	r.open()
	got := r.worker(w.WorkerID)
	require.Equal(t, store.WorkerFailed, got.State)
	require.Contains(t, got.Reason, "only on request")
	require.Empty(t, r.leases())
}

// An adopted worker that may be somebody else's is restarted on request: from then
// on its process is this hive's, and is given up like any other.
func TestARestartMakesAnInheritedWorkerOurs(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad")
	e := fault("x")
	self := e.Command[0]
	e.Command = []string{"/bin/sh", "-c", fmt.Sprintf("if [ -e %s ]; then exec %s worker --port {{.Port}} --no-listen; fi; exec %s worker --port {{.Port}}", bad, self, self)}
	r := newRig(t, 2, e)
	r.open()
	w := r.spawn("x")
	r.close()
	r.copyFile()
	r.open()
	require.NoError(t, os.WriteFile(bad, nil, 0o600))
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, store.JobFailed, job.State)
	require.Contains(t, job.Error.Message, "ready.")
	require.False(t, alive(w.PID))
}

// Another hive claims the port of a worker that waits for its next start: there is
// no process to verify, and a stop is carried out.
func TestStopOfAWaitingWorkerWhosePortIsClaimed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, crasher(time.Hour))
	r.open()
	w := r.waiting()
	r.close()
	claim, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(claim)
	require.NoError(t, syscall.Bind(claim, &syscall.SockaddrUnix{Name: fmt.Sprintf("@hive-port/%d", w.Port)}))
	r.open()
	require.Equal(t, store.WorkerBackoff, r.worker("c").State)
	r.stopWorker(w.WorkerID)
	require.Equal(t, store.WorkerStopped, r.worker("c").State)
}

// A worker was ready, could not be judged for a while, and does not serve now.
func TestAWorkerThatCouldNotBeJudgedIsSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("x"))
	r.open()
	w := r.spawn("x")
	r.close()
	r.edit(func(tx *store.Tx) error {
		rec, err := tx.Worker(w.WorkerID)
		if err != nil {
			return err
		}
		rec.State = store.WorkerUnverified
		rec.Spec.Ready.Path = "/nothing-there"
		return tx.PutWorker(rec)
	})
	r.open()
	r.eventually("it is unhealthy", func() bool { return r.worker(w.WorkerID).State == store.WorkerUnhealthy })
}

// A new start that fails after the gate does not make two dead workers of one.
func TestAFailedNewStartLeavesOneDeadWorker(t *testing.T) {
	t.Parallel()
	prog := filepath.Join(t.TempDir(), "prog")
	e := fault("x")
	require.NoError(t, testprogram.Write(prog, fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", e.Command[0]), 0o700))
	e.Command[0] = prog
	r := newRig(t, 2, e)
	r.open()
	w := r.spawn("x")
	r.stopWorker(w.WorkerID)
	require.NoError(t, testprogram.Write(prog, []byte("\x00no program"), 0o700))
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, store.JobFailed, job.State)
	require.Len(t, r.h.Workers(), 1)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
}
