package jobs_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// found are the workers of a recovery.
type found struct {
	rec      store.Worker
	alive    bool
	restarts bool // a restart of it that had begun is finished
}

func (f found) Restarts(id, _ string) bool { return f.restarts && id == f.rec.WorkerID }

func (f found) Find(id string) (store.Worker, bool) {
	if id == "" || id != f.rec.WorkerID {
		return store.Worker{}, false
	}
	return f.rec, f.alive
}

// recover carries out a recovery to the point where the hive serves.
func (r *rig) recover(relocated bool, workers jobs.RecoveredWorkers) (abandoned []string) {
	r.t.Helper()
	var rec *jobs.Recovery
	require.NoError(r.t, r.store.View(func(tx *store.Tx) (err error) { rec, err = r.Load(tx, relocated); return err }))
	abandoned = rec.Abandoned()
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	require.NoError(r.t, jn.CommitRequired(func(b *journal.Batch) error {
		require.NoError(r.t, rec.Record(b, workers))
		return rec.Record(b, workers) // tried again: nothing goes on twice
	}))
	rec.Resume()
	r.run.Serve()
	return abandoned
}

// What becomes of a job that was running: every AfterCrash with a worker that lives, has
// been stopped, or died, here and from a file that was copied or restored.
func TestRunningJobsAfterACrash(t *testing.T) {
	const goesOn, succeeded, failed = "goes on", "succeeded", "interrupted"
	alive := func(s store.WorkerState) found {
		w := store.Worker{WorkerID: "w-1", JobID: "job-1", State: s, Port: 8080}
		if s == store.WorkerReady {
			w.ReadyAt = &time.Time{}
		}
		return found{w, s != store.WorkerBackoff, false}
	}
	stopped := found{store.Worker{WorkerID: "w-1", JobID: "job-1", State: store.WorkerStopped, Port: 8080}, false, false}
	dead := found{store.Worker{WorkerID: "w-1", JobID: "job-1", State: store.WorkerFailed, Port: 8080}, false, false}
	others := alive(store.WorkerReady)
	others.rec.JobID = "job-0"
	none, begun := found{}, others
	begun.restarts = true
	restart := `{"operation":"worker_restart","worker_id":"w-1"}`
	notWaiting := `{"operation":"worker_spawn","worker":"a","wait":"started"}`
	stop := `{"operation":"worker_stop","worker_id":"w-1"}`
	download := `{"operation":"model_download","model":"org/m"}`
	for name, c := range map[string]struct {
		raw       string
		after     operation.AfterCrash
		worker    found
		here      string
		relocated string
	}{
		"spawn, ready":                    {spawnA, operation.AwaitWorker, alive(store.WorkerReady), succeeded, succeeded},
		"spawn, still loading":            {spawnA, operation.AwaitWorker, alive(store.WorkerLoading), goesOn, succeeded},
		"spawn, loading, not waited for":  {notWaiting, operation.AwaitWorker, alive(store.WorkerLoading), succeeded, succeeded},
		"spawn, to be started again":      {spawnA, operation.AwaitWorker, alive(store.WorkerBackoff), goesOn, failed},
		"restart, still loading":          {restart, operation.AwaitStart, alive(store.WorkerLoading), goesOn, failed},
		"spawn, being stopped":            {spawnA, operation.AwaitWorker, alive(store.WorkerStopping), failed, failed},
		"spawn, dead":                     {spawnA, operation.AwaitWorker, dead, failed, failed},
		"spawn, no worker yet":            {spawnA, operation.AwaitWorker, none, failed, failed},
		"restart, started by it":          {restart, operation.AwaitStart, alive(store.WorkerReady), succeeded, failed},
		"restart, being stopped":          {restart, operation.AwaitStart, alive(store.WorkerStopping), failed, failed},
		"restart, not yet started by it":  {restart, operation.AwaitStart, others, failed, failed},
		"restart, to be finished":         {restart, operation.AwaitStart, begun, goesOn, failed},
		"restart, dead":                   {restart, operation.AwaitStart, dead, failed, failed},
		"stop, alive":                     {stop, operation.GoOnToStop, alive(store.WorkerStopping), goesOn, failed},
		"stop, stopped":                   {stop, operation.GoOnToStop, stopped, succeeded, failed},
		"stop, died by itself":            {stop, operation.GoOnToStop, dead, failed, failed},
		"download":                        {download, operation.GoOn, none, goesOn, failed},
		"install":                         {install, operation.FailInterrupted, none, failed, failed},
		"install, with a worker about it": {install, operation.FailInterrupted, alive(store.WorkerReady), failed, failed},
		"check, its worker lives":         {check, operation.StopWorkerToo, alive(store.WorkerReady), failed, failed},
		"unknown to this version":         {`{"operation":"worker_dance"}`, operation.FailInterrupted, alive(store.WorkerReady), failed, failed},
	} {
		for _, relocated := range []bool{false, true} {
			want := c.here
			if relocated {
				name, want = name+", relocated", c.relocated
			}
			t.Run(name, func(t *testing.T) {
				r := newRig(t)
				var req struct{ Operation string }
				require.NoError(t, json.Unmarshal([]byte(c.raw), &req))
				require.Equal(t, c.after, operation.Named(req.Operation).AfterCrash, "the row has changed")
				started := time.Now().UTC()
				r.put(store.Job{JobID: "job-1", Operation: req.Operation, Request: []byte(c.raw), State: store.JobRunning, WorkerID: c.worker.rec.WorkerID, CreatedAt: started, StartedAt: &started})
				if c.worker.rec.State.Ended() { // what became of it, the transaction has already
					require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutWorker(c.worker.rec) }))
				}
				r.recover(relocated, c.worker)
				if want == goesOn {
					r.begun("job-1").ends("done", nil)
					require.Equal(t, store.JobSucceeded, r.wait("job-1").State)
					return
				}
				rec, err := r.recorded("job-1")
				require.NoError(t, err)
				if want == failed {
					require.Equal(t, store.JobFailed, rec.State)
					require.Equal(t, errdefs.CodeInterrupted, rec.Error.Code)
					require.Equal(t, []string{req.Operation + " failed", req.Operation + " failed"}, r.counted())
				} else {
					require.Equal(t, store.JobSucceeded, rec.State)
					require.Contains(t, string(rec.Result), `"worker_id":"w-1"`)
				}
				require.NotNil(t, rec.FinishedAt)
				require.Nil(t, r.exec.call("job-1"), "it is not begun")
				evs := r.recordedEvents("job-1")
				require.Equal(t, store.EventEnd, evs[len(evs)-1].Type)
			})
		}
	}
}

// A queued job has done nothing yet: it is begun, unless it is too old or another hive may
// have it too.
func TestQueuedJobsAfterARestart(t *testing.T) {
	for name, c := range map[string]struct {
		raw       string
		age       time.Duration
		relocated bool
		code      string // empty: it is begun
	}{
		"young":                  {check, 0, false, ""},
		"young, of a spawn":      {spawnA, time.Second, false, ""},
		"too old":                {check, 61 * time.Second, false, errdefs.CodeExpired},
		"relocated":              {spawnA, 0, true, errdefs.CodeInterrupted},
		"of a type that is gone": {`{"operation":"worker_spawn","worker":"gone"}`, 0, false, errdefs.CodeInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			op, _, err := operation.Decode([]byte(c.raw))
			require.NoError(t, err)
			r.put(store.Job{JobID: "job-1", Operation: op.Tag(), Request: []byte(c.raw), State: store.JobQueued, CreatedAt: time.Now().UTC().Add(-c.age)})
			r.recover(c.relocated, found{})
			if c.code == "" {
				r.begun("job-1").ends(nil, nil)
				require.Equal(t, store.JobSucceeded, r.wait("job-1").State)
			} else {
				rec := r.wait("job-1")
				require.Equal(t, store.JobFailed, rec.State)
				require.Equal(t, c.code, rec.Error.Code)
				require.NotNil(t, rec.StartedAt, "every job that has ended has begun")
				require.Nil(t, r.exec.call("job-1"))
			}
			r.idle()
		})
	}
}

// What was accepted before is not refused by a queue that is smaller now, and the others
// wait for a place.
func TestAResumedJobIsNotRefused(t *testing.T) {
	r := newRig(t)
	r.configure(func(c *jobs.Config) { c.MaxQueued = 1 })
	now := time.Now().UTC()
	for _, id := range []string{"job-1", "job-2"} {
		r.put(store.Job{JobID: id, Operation: "hive_check", Request: []byte(check), State: store.JobQueued, CreatedAt: now})
	}
	r.recover(false, found{})
	first, second := r.begun("job-1"), r.begun("job-2")
	_, err := r.try(t.Context(), "", check)
	require.ErrorIs(t, err, errdefs.ErrQueueFull)
	first.ends(nil, nil)
	second.ends(nil, nil)
	r.idle()
	r.begun(r.submit(check)).ends(nil, nil)
	r.idle()
}

// Nothing is begun before the hive serves.
func TestResumedJobsWaitUntilTheHiveServes(t *testing.T) {
	r := newRig(t)
	r.put(store.Job{JobID: "job-1", Operation: "hive_check", Request: []byte(check), State: store.JobQueued, CreatedAt: time.Now().UTC()})
	var rec *jobs.Recovery
	require.NoError(t, r.store.View(func(tx *store.Tx) (err error) { rec, err = r.Load(tx, false); return err }))
	require.NoError(t, journal.New(r.run.Context(), r.store, "/data", nil).CommitRequired(func(b *journal.Batch) error { return rec.Record(b, found{}) }))
	rec.Resume()
	require.Zero(t, r.Active())
	r.run.Serve()
	require.Equal(t, 1, r.Active(), "before anybody can ask for it")
	r.begun("job-1").ends(nil, nil)
	r.idle()
}

// Only a check started its worker for itself alone.
func TestAbandonedWorkers(t *testing.T) {
	r := newRig(t)
	now := time.Now().UTC()
	r.put(
		store.Job{JobID: "job-1", Operation: "hive_check", Request: []byte(check), State: store.JobRunning, WorkerID: "w-1", CreatedAt: now},
		store.Job{JobID: "job-2", Operation: "worker_spawn", Request: []byte(spawnA), State: store.JobRunning, WorkerID: "w-2", CreatedAt: now},
		store.Job{JobID: "job-3", Operation: "hive_check", Request: []byte(check), State: store.JobRunning, CreatedAt: now},
		store.Job{JobID: "job-4", Operation: "hive_check", Request: []byte(check), State: store.JobSucceeded, WorkerID: "w-4", CreatedAt: now},
	)
	require.Equal(t, []string{"w-1"}, r.recover(false, found{}))
}
