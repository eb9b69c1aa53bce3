package journal_test

import (
	"context"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/store"
)

// all follows everything from start.
func (r *rig) all(start journal.Start) *listener {
	r.t.Helper()
	return listen(r.t, func(ctx context.Context) iter.Seq2[store.Event, error] {
		events, _, _, err := r.Events(ctx, start)
		require.NoError(r.t, err)
		return events
	})
}

// gap records events 1 to 6, of which 1 and 2 are removed.
func (r *rig) gap() {
	r.t.Helper()
	r.job("job-old", store.JobRunning)
	r.tell("job-old", "one", "two")
	r.tell("", "three", "four", "five", "six")
	r.forget("job-old")
}

func TestWhereAReaderOfEverythingBegins(t *testing.T) {
	r := newRig(t)
	r.gap()
	for name, c := range map[string]struct {
		start    journal.Start
		behind   uint64
		replayed bool
		want     []string
	}{
		"behind what was removed": {journal.Start{After: 2}, 2, true, []string{"three", "four", "five", "six"}},
		"in the middle":           {journal.Start{After: 4}, 4, true, []string{"five", "six"}},
		"behind the newest":       {journal.Start{After: 6}, 6, false, nil},
		"oldest":                  {journal.Start{Oldest: true}, 0, true, []string{"three", "four", "five", "six"}},
		"latest":                  {journal.Start{Latest: true}, 6, false, nil},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		events, behind, replayed, err := r.Events(ctx, c.start)
		require.NoError(t, err, name)
		require.Equal(t, c.behind, behind, name)
		require.Equal(t, c.replayed, replayed, name)
		var got []string
		cancel() // what is there comes all the same; then it does not wait
		for ev, err := range events {
			require.NoError(t, err, name)
			got = append(got, ev.Message)
		}
		require.Equal(t, c.want, got, name)
	}
}

func TestEventsThatAreGone(t *testing.T) {
	r := newRig(t)
	r.gap()
	for name, c := range map[string]struct {
		after uint64
		text  string
	}{
		"from the first that there ever was": {0, "events after 0 were removed; one can go on after 2"},
		"between those that were removed":    {1, "events after 1 were removed"},
		"a number of another state file":     {7, "event 7 is none of this hive, whose newest is 6"},
	} {
		_, _, _, err := r.Events(t.Context(), journal.Start{After: c.after})
		require.ErrorIs(t, err, errdefs.ErrEventsGone, name)
		require.ErrorContains(t, err, c.text, name)
	}
}

func TestANewHiveHasNoEvents(t *testing.T) {
	r := newRig(t)
	_, behind, replayed, err := r.Events(t.Context(), journal.Start{})
	require.NoError(t, err)
	require.Zero(t, behind)
	require.False(t, replayed)
}

// Everything is of jobs, of workers and of neither, each once.
func TestAReaderOfEverythingFollows(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	r.tell("job-1", "before")
	l := r.all(journal.Start{})
	l.hears("before")
	r.tell("job-1", "of a job")
	l.hears("of a job")
	r.tell("", "of none")
	l.hears("of none")
	r.end("job-1")
	l.hears("end")
	r.tell("", "more") // the end of a job is not the end of everything
	l.hears("more")
	r.close()
	require.NoError(t, l.ends())
	require.Zero(t, r.Topics())
}

func TestAReaderOfEverythingEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	l := r.all(journal.Start{})
	r.eventually("it waits", func() bool { return r.Topics() == 1 })
	l.stop()
	require.NoError(t, l.ends())
	require.Zero(t, r.Topics())
}

func TestEverythingOverManyPages(t *testing.T) {
	r := newRig(t)
	all := numbered(2*journal.EventPage + 10)
	r.tell("", all[:journal.EventPage+5]...)
	l := r.all(journal.Start{})
	l.hears(all[:3]...)
	r.tell("", all[journal.EventPage+5:]...)
	l.hears(all[3:]...)
}

// A reader that was too slow is told so, and does not go on behind a gap as if there were
// none. One that had come further has missed nothing.
func TestEventsThatAreRemovedBeforeTheyWereRead(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	r.tell("job-1", numbered(journal.EventPage)...) // a page, which it has
	r.tell("job-1", "lost")
	slow := r.all(journal.Start{})
	slow.hears("event 1")
	fast := r.all(journal.Start{After: journal.EventPage + 1})
	r.eventually("both have read", func() bool { return r.Topics() == 1 })
	r.forget("job-1")
	r.tell("", "later")
	slow.hears(numbered(journal.EventPage)[1:]...)
	err := slow.ends()
	require.ErrorIs(t, err, errdefs.ErrEventsGone)
	require.ErrorContains(t, err, "one can go on after 257")
	fast.hears("later")
}

// A reader that began with the oldest is not told of what was gone before it.
func TestWhatWasRemovedBeforeIsNoLoss(t *testing.T) {
	r := newRig(t)
	r.gap()
	l := r.all(journal.Start{Oldest: true})
	l.hears("three", "four", "five", "six")
	r.tell("", "seven")
	l.hears("seven")
}
