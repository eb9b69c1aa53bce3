package jobs_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/store"
)

func TestASubmittedJobIsDurable(t *testing.T) {
	r := serving(t)
	rec, err := r.try(t.Context(), "", check)
	require.NoError(t, err)
	require.Equal(t, store.JobQueued, rec.State)
	inFile, err := r.recorded(rec.JobID)
	require.NoError(t, err)
	require.JSONEq(t, check, string(inFile.Request))
	require.Equal(t, &store.Requester{Hive: true}, inFile.RequestedBy)
	require.Equal(t, "hive_check queued by hive", r.recordedEvents(rec.JobID)[0].Message)

	r.begun(rec.JobID).ends(map[string]int{"n": 1}, nil)
	ended := r.wait(rec.JobID)
	require.Equal(t, store.JobSucceeded, ended.State)
	require.JSONEq(t, `{"n":1}`, string(ended.Result))
	inFile, err = r.recorded(rec.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, inFile.State)
	var types []store.EventType
	for _, ev := range r.recordedEvents(rec.JobID) {
		types = append(types, ev.Type)
	}
	require.Equal(t, []store.EventType{store.EventState, store.EventResult, store.EventEnd}, types)
	require.Equal(t, []string{"hive_check succeeded"}, r.counted())
}

// What is refused leaves no record and takes no place.
func TestSubmitRefuses(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		before func(*rig)
		ctx    context.Context
		want   error
	}{
		"before hive serves":    {func(*rig) {}, t.Context(), errdefs.ErrRecovering},
		"while hive drains":     {func(r *rig) { r.run.Serve(); r.run.Drain() }, t.Context(), errdefs.ErrClosed},
		"while hive closes":     {func(r *rig) { r.run.Serve(); r.run.Close() }, t.Context(), errdefs.ErrRecovering},
		"a caller who has gone": {func(r *rig) { r.run.Serve() }, gone, context.Canceled},
		"a full queue": {func(r *rig) {
			r.run.Serve()
			r.configure(func(c *jobs.Config) { c.MaxQueued = 0 })
		}, t.Context(), errdefs.ErrQueueFull},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.before(r)
			_, err := r.try(c.ctx, "", check)
			require.ErrorIs(t, err, c.want)
			require.Zero(t, r.Active())
			list, _, err := r.List(jobs.Filter{})
			require.NoError(t, err)
			require.Empty(t, list)
		})
	}
}

// Places are counted: one that is free again is given out again, and what takes none is
// answered also by a full queue.
func TestAFullQueue(t *testing.T) {
	r := serving(t)
	r.configure(func(c *jobs.Config) { c.MaxQueued = 2 })
	keyed, err := r.try(t.Context(), "key", check)
	require.NoError(t, err)
	second := r.submit(check)
	_, err = r.try(t.Context(), "", check)
	require.ErrorIs(t, err, errdefs.ErrQueueFull)
	again, err := r.try(t.Context(), "key", check)
	require.NoError(t, err, "a repeated request takes no place")
	require.Equal(t, keyed.JobID, again.JobID)
	require.Equal(t, store.JobSucceeded, r.wait(r.submit(listing)).State, "a query takes no place")
	r.begun(second).ends(nil, nil)
	r.eventually("a place is free", func() bool { return r.Active() == 1 })
	r.submit(check)
	require.Equal(t, 2, r.Active())
}

func TestIdempotencyKeys(t *testing.T) {
	r := serving(t)
	first, err := r.try(t.Context(), "key", check)
	require.NoError(t, err)
	repeat := func(why string) {
		t.Helper()
		again, err := r.try(t.Context(), "key", `{ "operation" : "hive_check" }`)
		require.NoError(t, err, why)
		require.Equal(t, first.JobID, again.JobID, why)
	}
	repeat("also with other white space")
	_, err = r.try(t.Context(), "key", install)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	var input *errdefs.InputError
	require.ErrorAs(t, err, &input)
	require.Equal(t, "Idempotency-Key", input.Field)
	other, err := r.try(t.Context(), "other", check)
	require.NoError(t, err)
	require.NotEqual(t, first.JobID, other.JobID)

	r.begun(first.JobID).ends(nil, nil)
	r.wait(first.JobID)
	repeat("after its end")
	r.begun(other.JobID).ends(nil, nil)
	r.idle()
	r.restart()
	r.run.Serve()
	repeat("after a restart")
	require.Zero(t, r.Active(), "nothing was begun again")

	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error { return tx.DeleteJob(first.JobID) }))
	fresh, err := r.try(t.Context(), "key", install)
	require.NoError(t, err, "the key is free with its job")
	require.NotEqual(t, first.JobID, fresh.JobID)
}

// The same key sent twice at once is one job.
func TestOneKeyAtOnce(t *testing.T) {
	r := serving(t)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			rec, err := r.try(context.Background(), "key", check)
			if err != nil {
				t.Error(err)
			}
			ids[i] = rec.JobID
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	require.Equal(t, 1, r.Active(), "the others have given their places back")
	r.begun(ids[0]).ends(nil, nil)
	r.idle()
}

// A key of an operation that only looks stands for nothing: it is answered anew.
func TestAQueryWithAKey(t *testing.T) {
	r := serving(t)
	one, err := r.try(t.Context(), "key", listing)
	require.NoError(t, err)
	two, err := r.try(t.Context(), "key", listing)
	require.NoError(t, err)
	require.NotEqual(t, one.JobID, two.JobID)
	require.JSONEq(t, `{"asked":1}`, string(one.Result))
	require.JSONEq(t, `{"asked":2}`, string(two.Result))
}

func TestSubmitNamesTheCaller(t *testing.T) {
	r := serving(t)
	rec, err := r.try(t.Context(), "", check)
	require.NoError(t, err)
	alice := access.Caller{Known: true, UID: 1000, User: "alice", Rights: access.Rights{Level: access.Operate}}
	_, err = r.Cancel(t.Context(), alice, rec.JobID)
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	require.ErrorContains(t, err, "was submitted by hive")
	require.Equal(t, 1, r.Active(), "it goes on")
}
