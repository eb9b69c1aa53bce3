package jobs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/store"
)

// old is a job that was created and ended so long ago; 0: it has not ended.
func old(id string, created, ended time.Duration) store.Job {
	rec := store.Job{JobID: id, Operation: "hive_check", Request: []byte(check), State: store.JobSucceeded, CreatedAt: now().Add(-created)}
	if ended == 0 {
		rec.State = store.JobRunning
		return rec
	}
	at := now().Add(-ended)
	rec.FinishedAt = &at
	return rec
}

// Which jobs go: those that ended longer ago than jobs.retention, and beyond jobs.keep
// the oldest, unless they ended a moment ago.
func TestPrune(t *testing.T) {
	const minute = time.Minute
	for name, c := range map[string]struct {
		keep int
		put  []store.Job
		want []string
	}{
		"older than the retention":    {100, []store.Job{old("job-1", 120*minute, 61*minute), old("job-2", 59*minute, 58*minute)}, []string{"job-2"}},
		"it took long":                {100, []store.Job{old("job-1", 120*minute, minute)}, []string{"job-1"}},
		"it has not ended":            {0, []store.Job{old("job-1", 120*minute, 0)}, []string{"job-1"}},
		"beyond keep the oldest goes": {2, []store.Job{old("job-1", 3*minute, 3*minute), old("job-2", 2*minute, 2*minute), old("job-3", minute, minute)}, []string{"job-2", "job-3"}},
		"no more than keep":           {3, []store.Job{old("job-1", 3*minute, 3*minute), old("job-2", 2*minute, 2*minute), old("job-3", minute, minute)}, []string{"job-1", "job-2", "job-3"}},
		"it ended a moment ago":       {0, []store.Job{old("job-1", 30*minute, time.Second), old("job-2", 20*minute, 15*time.Second)}, []string{"job-1"}},
		"the clock was put back":      {0, []store.Job{old("job-1", -30*minute, -29*minute)}, nil},
		"the clock, and keep":         {1, []store.Job{old("job-1", -30*minute, -29*minute)}, []string{"job-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put(c.put...)
			r.restart() // it counts what there is
			r.configure(func(cfg *jobs.Config) { cfg.Keep = c.keep })
			r.Prune(t.Context())
			list, _, err := r.List(jobs.Filter{})
			require.NoError(t, err)
			var got []string
			for _, rec := range list {
				got = append([]string{rec.JobID}, got...)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Many go in steps; all that may go are gone when Prune returns, with their events, and are
// counted no longer.
func TestPruneInSteps(t *testing.T) {
	r := newRig(t)
	var recs []store.Job
	for i := range 300 {
		recs = append(recs, old(fmt.Sprintf("job-%03d", i), 30*time.Minute, 29*time.Minute))
	}
	r.put(recs...)
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{JobID: "job-000", Type: store.EventEnd, At: now().Add(-29 * time.Minute)})
		return err
	}))
	r.restart()
	r.configure(func(c *jobs.Config) { c.Keep = 10 })
	require.Equal(t, 290, r.Surplus())
	r.Prune(t.Context())
	require.Zero(t, r.Surplus())
	list, _, err := r.List(jobs.Filter{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, list, 10)
	require.Equal(t, "job-299", list[0].JobID)
	_, err = r.Job("job-000")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.Empty(t, r.recordedEvents("job-000"))
}

// Events of nothing that is kept go with their age.
func TestPruneEvents(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.store.Update(t.Context(), func(tx *store.Tx) error {
		for _, age := range []time.Duration{61 * time.Minute, 59 * time.Minute} {
			if _, err := tx.AppendEvent(store.Event{Type: store.EventAudit, At: now().Add(-age), Message: age.String()}); err != nil {
				return err
			}
		}
		return nil
	}))
	r.Prune(t.Context())
	var evs []store.Event
	require.NoError(t, r.store.View(func(tx *store.Tx) (err error) { evs, err = tx.Events(0, 0); return err }))
	require.Len(t, evs, 1)
	require.Equal(t, "59m0s", evs[0].Message)
}

// Jobs that come faster than the rounds are pruned as they end, and PruneSurplus ends with
// the hive.
func TestPruneSurplus(t *testing.T) {
	r := newRig(t)
	var recs []store.Job
	for i := range 200 {
		recs = append(recs, old(fmt.Sprintf("job-00%03d", i), 30*time.Minute, 29*time.Minute))
	}
	r.put(recs...)
	r.restart()
	r.configure(func(c *jobs.Config) { c.Keep = 10 })
	r.run.Serve()
	r.run.Go(func() { r.PruneSurplus(r.Prune) })
	r.begun(r.submit(check)).ends(nil, nil) // its end is what finds that there are too many
	r.eventually("what is too much is gone", func() bool { return r.Surplus() == 0 })
	r.shut()
}
