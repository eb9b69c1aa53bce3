package jobs_test

import (
	"errors"
	"io"
	"slices"
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
	begin := func(worker string, at time.Time) store.Job { c.Begin(worker, at); return c.Record() }
	rec := begin("w-1", first)
	require.Equal(t, store.JobRunning, rec.State)
	rec = begin("w-2", first.Add(time.Second))
	require.Equal(t, first, *rec.StartedAt)
	require.Equal(t, "w-2", rec.WorkerID)
	require.Equal(t, "w-2", begin("", first).WorkerID, "without a worker it keeps the one it has")
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

// A job that ends with what it was for has ended once that is committed, and only once.
func TestRecordEnd(t *testing.T) {
	r := serving(t)
	c := r.begun(r.submit(check))
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	require.NoError(t, jn.Commit(t.Context(), func(b *journal.Batch) error {
		err := c.RecordEnd(b, "the result")
		require.False(t, c.Record().State.Ended(), "before the commit")
		return err
	}))
	require.Equal(t, store.JobSucceeded, c.Record().State)
	require.NoError(t, jn.Commit(t.Context(), func(b *journal.Batch) error { return c.RecordEnd(b, "another") }))
	c.ends(nil, errdefs.Fail(errdefs.CodeInternal, "whatever became of it later"))
	rec := r.wait(c.ID())
	require.Equal(t, store.JobSucceeded, rec.State)
	require.JSONEq(t, `"the result"`, string(rec.Result))
	stored, err := r.recorded(c.ID())
	require.NoError(t, err)
	require.Equal(t, rec, stored)
	r.idle()
	ends := slices.DeleteFunc(r.recordedEvents(c.ID()), func(ev store.Event) bool { return ev.Type != store.EventEnd })
	require.Len(t, ends, 1)
	require.Equal(t, []string{"hive_check succeeded"}, r.counted())
}

// Exactly one of RecordEnd and Cancel wins.
func TestRecordEndAndACancellation(t *testing.T) {
	r := serving(t)
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	c := r.begun(r.submit(check))
	_, err := r.Cancel(t.Context(), access.Hive(), c.ID())
	require.NoError(t, err)
	require.NoError(t, jn.Commit(t.Context(), func(b *journal.Batch) error { return c.RecordEnd(b, "too late") }))
	require.Equal(t, store.JobCancelled, r.wait(c.ID()).State)

	c = r.begun(r.submit(check))
	cancelled := make(chan error, 1)
	require.NoError(t, jn.Commit(t.Context(), func(b *journal.Batch) error {
		err := c.RecordEnd(b, "first")
		go func() {
			_, err := r.Cancel(t.Context(), access.Hive(), c.ID())
			cancelled <- err
		}()
		return err
	}))
	c.ends("first", nil)
	err = <-cancelled
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.NotContains(t, err.Error(), "cannot be cancelled")
	require.Equal(t, store.JobSucceeded, r.wait(c.ID()).State)
}

// What was not committed has not ended.
func TestRecordEndThatIsNotCommitted(t *testing.T) {
	r := serving(t)
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	c := r.begun(r.submit(check))
	require.ErrorIs(t, jn.Commit(t.Context(), func(b *journal.Batch) error {
		return errors.Join(c.RecordEnd(b, "nothing"), io.ErrUnexpectedEOF)
	}), io.ErrUnexpectedEOF)
	require.False(t, c.Record().State.Ended())
	c.ends("something", nil)
	require.JSONEq(t, `"something"`, string(r.wait(c.ID()).Result))
}
