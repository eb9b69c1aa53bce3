package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/store"
)

// A query is answered at once, and nothing of it is written.
func TestAQueryIsNotWritten(t *testing.T) {
	r := serving(t)
	rec, err := r.try(t.Context(), "", listing)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, rec.State)
	require.JSONEq(t, `{"asked":1}`, string(rec.Result))
	require.NotNil(t, rec.FinishedAt)
	list, _, err := r.List(jobs.Filter{})
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = r.recorded(rec.JobID)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Equal(t, rec, r.wait(rec.JobID))
	require.Equal(t, []string{"worker_process_list succeeded"}, r.counted())
}

func TestAQueryThatFails(t *testing.T) {
	r := serving(t)
	rec, err := r.try(t.Context(), "", badLookup)
	require.NoError(t, err, "the job has failed, not the submission")
	require.Equal(t, store.JobFailed, rec.State)
	require.Equal(t, errdefs.CodeNotFound, rec.Error.Code)
	require.Empty(t, rec.Result)
}

// Polling clients cost no more than the newest answers.
func TestOldAnswersAreForgotten(t *testing.T) {
	r := serving(t)
	first := r.submit(listing)
	second := r.submit(listing)
	for range jobs.MaxQueries - 1 {
		r.submit(listing)
	}
	_, err := r.Job(first)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	_, err = r.Events(t.Context(), first, 0)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	_, err = r.Job(second)
	require.NoError(t, err, "the oldest that is kept")
}
