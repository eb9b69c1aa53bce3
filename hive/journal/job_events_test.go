package journal_test

import (
	"context"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/journal"
	"rbeehive/store"
)

func (r *rig) follow(id string, after uint64) *listener {
	return listen(r.t, func(ctx context.Context) iter.Seq2[store.Event, error] { return r.JobEvents(ctx, id, after) })
}

func TestAFollowerOfAJobSeesItToItsEnd(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	r.job("job-2", store.JobRunning)
	r.tell("job-1", "one")
	l := r.follow("job-1", 0)
	l.hears("one")
	r.tell("job-2", "of another")
	r.tell("", "of none")
	r.tell("job-1", "two", "three")
	l.hears("two", "three")
	r.end("job-1")
	l.hears("end")
	require.NoError(t, l.ends())
	require.Zero(t, r.Topics(), "it listens no longer")
}

// Numbers are the job's own (JobSeq), whatever else happens in the hive.
func TestAFollowerOfAJobGoesOnFromItsNumber(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	for _, m := range []string{"one", "two", "three"} {
		r.tell("", "of none")
		r.tell("job-1", m)
	}
	running := r.follow("job-1", 5)
	r.tell("job-1", "four", "five", "six")
	running.hears("six")
	r.end("job-1")
	running.hears("end")
	require.NoError(t, running.ends())
	for after, want := range map[uint64][]string{
		0: {"one", "two", "three", "four", "five", "six", "end"},
		2: {"three", "four", "five", "six", "end"},
		6: {"end"},
		7: nil, // behind the end: nothing follows it
		9: nil,
	} {
		l := r.follow("job-1", after)
		l.hears(want...)
		require.NoError(t, l.ends(), "after %d", after)
	}
}

// More events than one read returns come each once and in order, while they become more.
func TestEventsOfAJobOverManyPages(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	all := numbered(2*journal.EventPage + 10)
	r.tell("job-1", all[:journal.EventPage+5]...)
	l := r.follow("job-1", 0)
	l.hears(all[:3]...)
	r.tell("job-1", all[journal.EventPage+5:]...)
	r.end("job-1")
	l.hears(all[3:]...)
	l.hears("end")
	require.NoError(t, l.ends())
}

func TestAFollowerOfAJobEnds(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*rig, *listener)
		want    error
	}{
		"when its context ends": {func(_ *rig, l *listener) { l.stop() }, nil},
		"when the hive closes":  {func(r *rig, _ *listener) { r.close() }, nil},
		"when its job is gone": {func(r *rig, _ *listener) {
			// With the event that wakes it, or it would wait for one that cannot come.
			require.NoError(r.t, r.Commit(r.t.Context(), func(b *journal.Batch) error {
				require.NoError(r.t, b.Event(store.EventState, "job-1", "", "the last", nil))
				return b.DeleteJob("job-1")
			}))
		}, store.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.job("job-1", store.JobRunning)
			r.tell("job-1", "one")
			l := r.follow("job-1", 0)
			l.hears("one")
			r.eventually("it waits", func() bool { return r.Topics() == 1 })
			c.happens(r, l)
			require.ErrorIs(t, l.ends(), c.want)
			r.eventually("nobody listens any more", func() bool { return r.Topics() == 0 })
		})
	}
}

func TestEventsOfAnUnknownJob(t *testing.T) {
	r := newRig(t)
	require.ErrorIs(t, r.follow("job-none", 0).ends(), store.ErrNotFound)
}

// Who has enough stops in the middle of a page.
func TestAReaderMayStop(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	r.tell("job-1", "one", "two", "three")
	var got []string
	for ev, err := range r.JobEvents(t.Context(), "job-1", 0) {
		require.NoError(t, err)
		if got = append(got, ev.Message); len(got) == 2 {
			break
		}
	}
	require.Equal(t, []string{"one", "two"}, got)
	require.Zero(t, r.Topics())
}

func TestWorkerEvents(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Commit(t.Context(), func(b *journal.Batch) error {
		for _, m := range []string{"one", "two", "three"} {
			require.NoError(t, b.Event(store.EventState, "", "w-2", "of another", nil))
			require.NoError(t, b.Event(store.EventState, "", "w-1", m, nil))
		}
		return nil
	}))
	all, err := r.WorkerEvents("w-1", 0, 0)
	require.NoError(t, err)
	require.Len(t, all, 3)
	two, err := r.WorkerEvents("w-1", 0, 2)
	require.NoError(t, err)
	require.Equal(t, all[:2], two)
	rest, err := r.WorkerEvents("w-1", all[0].Seq, 0)
	require.NoError(t, err)
	require.Equal(t, all[1:], rest)
	require.Equal(t, "three", rest[1].Message)
	none, err := r.WorkerEvents("w-none", 0, 0)
	require.NoError(t, err)
	require.Empty(t, none)
}
