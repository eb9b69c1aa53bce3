package jobs_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/store"
)

// A job is found while it runs, when it has ended, and if it was only a query.
func TestJob(t *testing.T) {
	r := serving(t)
	running := r.submit(check)
	c := r.begun(running)
	c.Begin("w-1", now()) // ahead of the file
	rec, err := r.Job(running)
	require.NoError(t, err)
	require.Equal(t, store.JobRunning, rec.State)
	require.Equal(t, "w-1", rec.WorkerID)
	c.ends(nil, nil)
	r.idle()
	rec, err = r.Job(running)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, rec.State)
	rec, err = r.Job(r.submit(listing))
	require.NoError(t, err)
	require.Equal(t, "worker_process_list", rec.Operation)
	_, err = r.Job("job-none")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

func TestWait(t *testing.T) {
	r := serving(t)
	id := r.submit(check)
	c := r.begun(id)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec, err := r.Wait(ctx, id)
	require.NoError(t, err, "an ended ctx is not an error")
	require.False(t, rec.State.Ended())
	c.ends(nil, nil)
	require.Equal(t, store.JobSucceeded, r.wait(id).State)
	r.idle()
	require.Equal(t, store.JobSucceeded, r.wait(id).State, "also when it is in the table no longer")
	_, err = r.Wait(t.Context(), "job-none")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

// A job that is recorded and not begun, as during a recovery, is waited for too.
func TestWaitForAJobThatIsNotBegunYet(t *testing.T) {
	r := newRig(t)
	r.put(store.Job{JobID: "job-1", Operation: "hive_check", Request: []byte(check), State: store.JobQueued, CreatedAt: now()})
	ended := make(chan store.Job, 1)
	go func() {
		rec, _ := r.Wait(context.Background(), "job-1")
		ended <- rec
	}()
	r.recover(false, found{})
	r.begun("job-1").ends(nil, nil)
	r.idle()
	// It is woken by an event: the end is one, whether it came before or behind the look.
	require.Equal(t, store.JobSucceeded, (<-ended).State)
}

func TestList(t *testing.T) {
	r := serving(t)
	r.put(
		store.Job{JobID: "job-001", Operation: "a", State: store.JobSucceeded, CreatedAt: now()},
		store.Job{JobID: "job-002", Operation: "b", State: store.JobFailed, CreatedAt: now()},
		store.Job{JobID: "job-003", Operation: "a", State: store.JobFailed, CreatedAt: now()},
		store.Job{JobID: "job-004", Operation: "a", State: store.JobCancelled, CreatedAt: now()},
	)
	first := r.submit(check)
	second := r.submit(install)
	r.begun(first).Begin("", now())
	r.begun(second)
	for name, c := range map[string]struct {
		filter jobs.Filter
		want   []string
		next   string
	}{
		"all, newest first":      {jobs.Filter{}, []string{second, first, "job-004", "job-003", "job-002", "job-001"}, ""},
		"a page":                 {jobs.Filter{Limit: 3}, []string{second, first, "job-004"}, "job-004"},
		"the page behind it":     {jobs.Filter{Limit: 3, After: "job-004"}, []string{"job-003", "job-002", "job-001"}, ""},
		"of a state":             {jobs.Filter{State: store.JobFailed}, []string{"job-003", "job-002"}, ""},
		"of a state, a page":     {jobs.Filter{State: store.JobFailed, Limit: 1}, []string{"job-003"}, "job-003"},
		"of an operation":        {jobs.Filter{Operation: "a"}, []string{"job-004", "job-003", "job-001"}, ""},
		"of both":                {jobs.Filter{Operation: "a", State: store.JobFailed}, []string{"job-003"}, ""},
		"running, as memory has": {jobs.Filter{State: store.JobRunning}, []string{first}, ""},
		"queued":                 {jobs.Filter{State: store.JobQueued}, []string{second}, ""},
		"queued, another":        {jobs.Filter{State: store.JobQueued, Operation: "hive_check"}, nil, ""},
		"queued, behind it":      {jobs.Filter{State: store.JobQueued, After: second}, nil, ""},
	} {
		list, next, err := r.List(c.filter)
		require.NoError(t, err, name)
		var got []string
		for _, rec := range list {
			got = append(got, rec.JobID)
		}
		require.Equal(t, c.want, got, name)
		require.Equal(t, c.next, next, name)
	}
	require.Equal(t, map[store.JobState]int{store.JobQueued: 1, store.JobRunning: 1}, r.Unfinished())
}

func TestPagesOfUnfinishedJobs(t *testing.T) {
	r := serving(t)
	var want []string
	for range 5 {
		want = append([]string{r.submit(check)}, want...)
	}
	var got []string
	for after, pages := "", 1; ; pages++ {
		list, next, err := r.List(jobs.Filter{State: store.JobQueued, Limit: 2, After: after})
		require.NoError(t, err)
		for _, rec := range list {
			got = append(got, rec.JobID)
		}
		if after = next; next == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Equal(t, want, got)
}

// Who may cancel a job, and when that is possible.
func TestCancel(t *testing.T) {
	one, other := uint32(1000), uint32(1001)
	caller := func(uid uint32, level access.Level) access.Caller {
		return access.Caller{Known: true, UID: uid, Rights: access.Rights{Level: level}}
	}
	for name, c := range map[string]struct {
		by     access.Caller
		before func(*rig, *call)
		want   error
		text   string
	}{
		"by who submitted it": {caller(one, access.Operate), func(*rig, *call) {}, nil, ""},
		"by an admin":         {caller(other, access.Admin), func(*rig, *call) {}, nil, ""},
		"by hive":             {access.Hive(), func(*rig, *call) {}, nil, ""},
		"by another":          {caller(other, access.Operate), func(*rig, *call) {}, errdefs.ErrForbidden, "only they and admins may cancel it"},
		"by nobody":           {access.Caller{}, func(*rig, *call) {}, errdefs.ErrForbidden, "only they and admins"},
		"when it is too late": {caller(one, access.Operate), func(r *rig, c *call) { require.NoError(r.t, c.Finalize(c.ctx)) }, errdefs.ErrConflict, "cannot be cancelled once it has begun"},
		"when it has ended":   {caller(one, access.Operate), func(r *rig, c *call) { c.ends(nil, nil); r.idle() }, errdefs.ErrConflict, "has already ended (succeeded)"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			rec, err := r.Submit(t.Context(), caller(one, access.Operate), "", decoded(t, check), []byte(check))
			require.NoError(t, err)
			running := r.begun(rec.JobID)
			c.before(r, running)
			got, err := r.Cancel(t.Context(), c.by, rec.JobID)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, c.text)
				require.NoError(t, context.Cause(r.run.Context()))
				return
			}
			require.NoError(t, err)
			require.Equal(t, store.JobCancelled, got.State)
			require.Equal(t, errdefs.CodeCancelled, got.Error.Code)
			require.ErrorIs(t, context.Cause(running.ctx), errdefs.ErrCancelled)
			inFile, err := r.recorded(rec.JobID)
			require.NoError(t, err)
			require.Equal(t, store.JobCancelled, inFile.State)
		})
	}
}

func TestCancelAnUnknownJob(t *testing.T) {
	r := serving(t)
	_, err := r.Cancel(t.Context(), access.Hive(), "job-none")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	r.put(store.Job{JobID: "job-1", Operation: "hive_check", State: store.JobQueued, CreatedAt: now()})
	_, err = r.Cancel(t.Context(), access.Hive(), "job-1")
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, "about to begin")
}

func TestEventsOfAJob(t *testing.T) {
	r := serving(t)
	_, err := r.Events(t.Context(), "job-none", 0)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	id := r.submit(check)
	r.begun(id).ends("done", nil)
	query := r.submit(listing)
	for _, c := range []struct {
		id    string
		after uint64
		want  []string
	}{
		{id, 0, []string{"1 state", "2 result", "3 end"}},
		{id, 2, []string{"3 end"}},
		{query, 0, []string{"1 result", "2 end"}},
		{query, 1, []string{"2 end"}},
		{query, 2, nil},
	} {
		events, err := r.Events(t.Context(), c.id, c.after)
		require.NoError(t, err)
		var got []string
		for ev, err := range events {
			require.NoError(t, err)
			got = append(got, fmt.Sprint(ev.JobSeq, " ", ev.Type))
		}
		require.Equal(t, c.want, got)
	}
}
