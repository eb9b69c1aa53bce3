package hive_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// infer submits jobs that end at once.
func (r *rig) infer(n int) (last store.Job) {
	r.Helper()
	for range n {
		last = r.do(map[string]any{"operation": "infer"})
	}
	return last
}

// jobs.keep is about jobs that have ended: those that wait or run, however many,
// do not drive out one whose client has not read yet how it ended.
func TestUnfinishedJobsDriveNobodyOut(t *testing.T) {
	t.Parallel()
	gate := t.TempDir() + "/gate"
	r := newRig(t, 2, slowType(t, gate))
	r.cfg.Jobs.Keep = 100
	r.open()
	var waiting []string
	for range 200 {
		waiting = append(waiting, r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "name": "a", "wait": "started"}).JobID)
	}
	ended := r.infer(1)
	r.h.Prune(t.Context())
	_, err := r.h.Job(ended.JobID)
	require.NoError(t, err, "it is the only one that has ended")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	for _, id := range waiting {
		r.wait(id)
	}
	r.stopWorker("a")
}

// A job that took long is among the oldest when it ends. Who waits for it, and who
// sends it again under its key, must still find it.
func TestAJobThatTookLongIsKept(t *testing.T) {
	t.Parallel()
	gate := t.TempDir() + "/gate"
	r := newRig(t, 2, slowType(t, gate))
	r.cfg.Jobs.Keep = 100
	r.open()
	long := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow", "wait": "started"})
	r.infer(150)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, store.JobSucceeded, r.wait(long.JobID).State)
	before, err := r.h.EventBounds()
	require.NoError(t, err)
	r.h.Prune(t.Context())
	job, err := r.h.Job(long.JobID)
	require.NoError(t, err, "it has ended a moment ago")
	after, err := r.h.EventBounds()
	require.NoError(t, err)
	require.Less(t, after.Pruned, before.Newest, "who follows everything goes on where they were")
	r.stopWorker(job.WorkerID)
}
