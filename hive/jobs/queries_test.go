package jobs_test

import (
	"strings"
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

// It was once only their number that counted: rbee's page on a hive of 200 workers had 34 MB
// kept for it, and who may only look could have 1 GiB kept, by requests full of white space.
func TestOldAnswersAreForgottenByTheirSize(t *testing.T) {
	r := serving(t)
	const size = jobs.MaxQueryBytes / 16
	padded := listing[:len(listing)-1] + strings.Repeat(" ", size) + "}"
	var ids []string
	for range 40 {
		ids = append(ids, r.submit(padded))
	}
	kept := func() (n int) {
		for _, id := range ids {
			_, err := r.Job(id)
			_, errEvents := r.Events(t.Context(), id, 0)
			require.Equal(t, err == nil, errEvents == nil)
			if err == nil {
				n++
			}
		}
		return n
	}
	require.Equal(t, 15, kept())
	_, err := r.Job(ids[len(ids)-1])
	require.NoError(t, err, "the newest is kept")
	for range jobs.MaxQueries { // small ones drive them out by their number
		r.submit(listing)
	}
	require.Zero(t, kept())
	ids = nil
	huge := listing[:len(listing)-1] + strings.Repeat(" ", jobs.MaxQueryBytes/2) + "}"
	for range 40 {
		ids = append(ids, r.submit(huge))
	}
	require.Equal(t, jobs.MinQueries, kept(), "a few are, whatever their size")
}
