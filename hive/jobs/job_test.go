package jobs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/store"
)

// A spawn begins again with each port: its first start counts, and its last worker.
func TestBegin(t *testing.T) {
	r := serving(t)
	c := r.begun(r.submit(check))
	first := now()
	rec := c.Begin("w-1", first)
	require.Equal(t, store.JobRunning, rec.State)
	rec = c.Begin("w-2", first.Add(time.Second))
	require.Equal(t, first, *rec.StartedAt)
	require.Equal(t, "w-2", rec.WorkerID)
	require.Equal(t, "w-2", c.Begin("", first).WorkerID, "without a worker it keeps the one it has")
	c.Forget("w-1")
	require.Equal(t, "w-2", c.Record().WorkerID, "another worker is not forgotten")
	c.Forget("w-2")
	require.Empty(t, c.Record().WorkerID)
}

// Exactly one of Finalize and Cancel wins.
func TestFinalizeAfterACancellation(t *testing.T) {
	r := serving(t)
	c := r.begun(r.submit(check))
	require.NoError(t, c.Finalize(c.ctx))
	_, err := r.Cancel(t.Context(), access.Hive(), c.ID())
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.NoError(t, c.ctx.Err())

	other := r.begun(r.submit(check))
	_, err = r.Cancel(t.Context(), access.Hive(), other.ID())
	require.NoError(t, err)
	require.ErrorIs(t, other.Finalize(other.ctx), errdefs.ErrCancelled)
}

// The record of a job that has ended meanwhile is not made a running one again.
func TestRecordRunning(t *testing.T) {
	r := serving(t)
	c := r.begun(r.submit(check))
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	record := func() store.JobState {
		require.NoError(t, jn.Commit(t.Context(), c.RecordRunning))
		rec, err := r.recorded(c.ID())
		require.NoError(t, err)
		return rec.State
	}
	require.Equal(t, store.JobRunning, record())
	require.NotNil(t, c.Record().StartedAt)
	_, err := r.Cancel(t.Context(), access.Hive(), c.ID())
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, record())
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error { return tx.DeleteJob(c.ID()) }))
	require.NoError(t, jn.Commit(t.Context(), c.RecordRunning), "pruned meanwhile")
}
