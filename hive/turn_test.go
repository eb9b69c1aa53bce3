package hive_test

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/store"
)

// wait waits for the end of a job.
func (r *rig) wait(id string) store.Job {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	job, err := r.h.WaitJob(ctx, id)
	require.NoError(r, err)
	require.True(r, job.State.Ended(), "job %s is still %s after a minute", job.Operation, job.State)
	return job
}

// slowType is a worker whose spawn takes a while before there is a process, as
// long as its gate file is not there.
func slowType(t *testing.T, gate string) catalog.Entry {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return catalog.Entry{
		Name: "slow", Command: []string{self, "worker", "--port", "{{.Port}}", "--host", "{{.Host}}"},
		BeforeStart: []string{"/bin/sh", "-c", "until [ -e " + gate + " ]; do sleep 0.01; done"},
	}
}

func TestJobsOnOneWorkerKeepTheirOrder(t *testing.T) {
	t.Parallel()
	gate := t.TempDir() + "/gate"
	r := newRig(t, 3, slowType(t, gate))
	r.open()
	spawn := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a"})
	stop := r.submit(map[string]any{"operation": "worker_stop", "worker_id": "a"})
	again := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a", "wait": "started"})
	other := r.spawn("cpu", map[string]any{"name": "b"}) // not held up
	r.eventually("both say what they wait for", func() bool {
		return len(r.waits(stop.JobID)) == 1 && len(r.waits(again.JobID)) >= 1
	})
	require.Equal(t, []string{spawn.JobID}, r.waits(stop.JobID))
	for _, id := range []string{spawn.JobID, stop.JobID, again.JobID} {
		job, err := r.h.Job(id)
		require.NoError(t, err)
		require.False(t, job.State.Ended(), "%s: %+v", job.Operation, job.Error)
	}
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, errdefs.CodeCancelled, r.wait(spawn.JobID).Error.Code, "a stop does not wait until it is ready")
	require.Equal(t, store.JobSucceeded, r.wait(stop.JobID).State)
	last := r.wait(again.JobID)
	require.Equal(t, store.JobSucceeded, last.State, "%+v", last.Error)
	w, err := r.h.Worker("a")
	require.NoError(t, err)
	require.Equal(t, last.JobID, w.JobID, "what was asked for last holds")
	r.stopWorker("a")
	r.stopWorker(other.WorkerID)
	require.Empty(t, r.leases())
}

// waits returns the jobs that a job has said to wait for.
func (r *rig) waits(id string) (ids []string) {
	r.Helper()
	evs, err := r.h.StoredEvents(id)
	require.NoError(r, err)
	for _, ev := range evs {
		var data struct {
			WaitsFor string `json:"waits_for"`
		}
		require.NoError(r, json.Unmarshal(ev.Data, &data))
		if data.WaitsFor != "" {
			ids = append(ids, data.WaitsFor)
		}
	}
	return ids
}

// A line may be as long as the queue: what a job costs must not grow with it.
func TestALongLineOfJobs(t *testing.T) {
	t.Parallel()
	const many = 200
	gate := t.TempDir() + "/gate"
	r := newRig(t, 2, slowType(t, gate))
	r.open()
	var ids []string
	for range many {
		ids = append(ids, r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a", "wait": "started"}).JobID)
	}
	stop := r.submit(map[string]any{"operation": "worker_stop", "worker_id": "a"})
	r.eventually("the last one waits", func() bool { return len(r.waits(stop.JobID)) == 1 })
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	waits, failed := 0, 0
	for _, id := range ids {
		job := r.wait(id)
		if job.State == store.JobFailed {
			require.Equal(t, errdefs.CodeNameInUse, job.Error.Code)
			failed++
		}
		waits += len(r.waits(id))
	}
	require.Equal(t, many-1, failed)
	require.LessOrEqual(t, waits, 2*many)
	require.Equal(t, store.JobSucceeded, r.wait(stop.JobID).State)
}

// A job that is cancelled in the line has waited for nobody: those behind it still
// wait for those before it.
func TestAGapInALine(t *testing.T) {
	t.Parallel()
	gate := t.TempDir() + "/gate"
	r := newRig(t, 2, slowType(t, gate))
	r.open()
	spawn := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a", "wait": "started"})
	restart := r.submit(map[string]any{"operation": "worker_restart", "worker_id": "a"})
	stop := r.submit(map[string]any{"operation": "worker_stop", "worker_id": "a"})
	r.eventually("the stop waits", func() bool { return len(r.waits(stop.JobID)) == 1 })
	_, err := r.h.Cancel(t.Context(), access.Hive(), restart.JobID)
	require.NoError(t, err)
	r.eventually("it waits for the spawn", func() bool { return len(r.waits(stop.JobID)) == 2 })
	require.Equal(t, []string{restart.JobID, spawn.JobID}, r.waits(stop.JobID))
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, store.JobSucceeded, r.wait(stop.JobID).State)
	require.Equal(t, store.JobSucceeded, r.wait(spawn.JobID).State)
	require.Empty(t, r.leases())
}

// Whatever is submitted last is what holds in the end, however fast it comes.
func TestTheLastRequestHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	for round := range 6 {
		ids := []string{}
		add := func(op map[string]any) { ids = append(ids, r.submit(op).JobID) }
		add(map[string]any{"operation": "worker_spawn", "worker": "cpu", "name": "a"})
		if round%3 > 0 {
			add(map[string]any{"operation": "worker_restart", "worker_id": "a"})
		}
		if round%3 > 1 {
			add(map[string]any{"operation": "worker_restart", "worker_id": "a"})
		}
		add(map[string]any{"operation": "worker_stop", "worker_id": "a"})
		if round%2 == 0 {
			add(map[string]any{"operation": "worker_restart", "worker_id": "a"})
		}
		for _, id := range ids {
			r.wait(id)
		}
		w, err := r.h.Worker("a")
		require.NoError(t, err)
		last, err := r.h.Job(ids[len(ids)-1])
		require.NoError(t, err)
		require.Equal(t, store.JobSucceeded, last.State, "round %d: %+v", round, last.Error)
		require.Equal(t, round%2 == 0, !w.State.Ended(), "round %d: %s", round, w.State)
		if round%2 == 0 {
			r.stopWorker("a")
		}
		require.Empty(t, r.leases())
	}
}

func TestAWaitingStopCanBeCancelled(t *testing.T) {
	t.Parallel()
	gate := t.TempDir() + "/gate"
	r := newRig(t, 2, slowType(t, gate))
	r.open()
	spawn := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a"})
	stop := r.submit(map[string]any{"operation": "worker_stop", "worker_id": "a"})
	r.eventually("it waits", func() bool { return len(r.waits(stop.JobID)) == 1 })
	job, err := r.h.Cancel(t.Context(), access.Hive(), stop.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, job.State)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, store.JobSucceeded, r.wait(spawn.JobID).State)
}

// A spawn that is cancelled, at whatever moment, leaves neither a process nor a lease.
func TestCancelledSpawnsLeaveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	begin := time.Now()
	r.stopWorker(r.spawn("cpu").WorkerID)
	span := time.Since(begin)
	cancelled := 0
	for n := range 20 {
		job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "cpu", "name": "a"})
		moment := time.NewTimer(span * time.Duration(n) / 20)
		<-moment.C
		ended, err := r.h.Cancel(t.Context(), access.Hive(), job.JobID)
		if err == nil {
			cancelled++
			require.Equal(t, store.JobCancelled, ended.State)
			require.Empty(t, r.leases())
			if w, err := r.h.Worker("a"); err == nil {
				require.True(t, w.State.Ended(), "%s", w.State)
			}
			continue
		}
		require.ErrorIs(t, err, errdefs.ErrConflict)
		if r.wait(job.JobID).State == store.JobSucceeded {
			r.stopWorker("a")
		}
		require.Empty(t, r.leases())
	}
	require.Positive(t, cancelled)
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	raw := json.RawMessage(`{"operation": "worker_spawn", "worker": "cpu"}`)
	op, err := r.h.Decode(raw)
	require.NoError(t, err)
	once := func(key string, raw json.RawMessage) (store.Job, error) {
		op, err := r.h.Decode(raw)
		require.NoError(t, err)
		return r.h.SubmitFor(t.Context(), access.Hive(), key, op, raw)
	}
	var wg sync.WaitGroup
	ids := make([]string, 100)
	for i := range ids {
		wg.Go(func() {
			job, err := r.h.SubmitFor(t.Context(), access.Hive(), "k", op, raw)
			if err == nil {
				ended, waitErr := r.h.WaitJob(t.Context(), job.JobID)
				if waitErr == nil && ended.State == store.JobSucceeded {
					ids[i] = job.JobID
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.NotEmpty(t, id)
		require.Equal(t, ids[0], id)
	}
	require.Len(t, r.leases(), 1, "one worker")
	_, err = once("k", json.RawMessage(`{"operation":"worker_spawn","worker":"cpu","model":"m"}`))
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, ids[0])
	second, err := once("k2", raw)
	require.NoError(t, err)
	require.NotEqual(t, ids[0], second.JobID)

	r.wait(second.JobID)
	r.close()
	r.cfg.Jobs.MaxQueued = 1
	r.open()
	r.submit(map[string]any{"operation": "worker_spawn", "worker": "cpu"}) // the queue is full, perhaps
	again, err := once("k", json.RawMessage("\n{\"operation\":\"worker_spawn\",   \"worker\":\"cpu\"}\n"))
	require.NoError(t, err)
	require.Equal(t, ids[0], again.JobID, "also after a restart, and while the queue is full")
}

func TestJobsBeyondKeepArePruned(t *testing.T) {
	if testing.Short() {
		t.Skip("long: commits 200 jobs one after the other")
	}
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.Jobs.Keep = 100
	r.open()
	var ids []string
	for range 200 {
		ids = append(ids, r.do(map[string]any{"operation": "infer"}).JobID)
	}
	count := func() int {
		jobs, _, err := r.h.Jobs(jobs.Filter{Limit: 1000})
		require.NoError(t, err)
		return len(jobs)
	}
	r.eventually("about 100 are left", func() bool { return count() < 100+64 })
	require.GreaterOrEqual(t, count(), 100)
	_, err := r.h.Job(ids[0])
	require.ErrorIs(t, err, errdefs.ErrNotFound, "the oldest went")
	_, err = r.h.Job(ids[199])
	require.NoError(t, err)
}

// A spawn that is cancelled while its before_start runs was not too slow.
func TestCancelWhileBeforeStartRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, slowType(t, t.TempDir()+"/gate"))
	r.open()
	spawn := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a"})
	stop := r.submit(map[string]any{"operation": "worker_stop", "worker_id": "a"})
	r.eventually("before_start runs", func() bool { return r.logFiles() != "" })
	job, err := r.h.Cancel(t.Context(), access.Hive(), spawn.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, job.State)
	require.Equal(t, errdefs.CodeCancelled, job.Error.Code)
	require.Equal(t, errdefs.CodeNotFound, r.wait(stop.JobID).Error.Code)
	require.Empty(t, r.leases())
	require.Empty(t, r.logFiles())
}
