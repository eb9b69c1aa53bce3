package journal_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/store"
)

// ways are the commits whose errors are the caller's business.
func (r *rig) ways() map[string]func(context.Context, func(*journal.Batch) error) error {
	return map[string]func(context.Context, func(*journal.Batch) error) error{
		"Commit":           r.Commit,
		"CommitReserved":   r.CommitReserved,
		"CommitBestEffort": func(_ context.Context, fn func(*journal.Batch) error) error { return r.CommitBestEffort(fn) },
		"With": func(ctx context.Context, fn func(*journal.Batch) error) error {
			return r.With(func(closure func(*store.Tx) error) error { return r.store.Update(ctx, closure) }, fn)
		},
	}
}

func TestACommitIsDurableWhenItReturns(t *testing.T) {
	r := newRig(t)
	ways := r.ways()
	ways["CommitRequired"] = func(_ context.Context, fn func(*journal.Batch) error) error { return r.CommitRequired(fn) }
	for name, commit := range ways {
		require.NoError(t, commit(t.Context(), func(b *journal.Batch) error {
			return b.Event(store.EventState, "", name, name, nil)
		}), name)
		evs, err := r.WorkerEvents(name, 0, 0)
		require.NoError(t, err, name)
		require.Len(t, evs, 1, name)
	}
	require.NoError(t, r.Err())
}

// A commit that is refused by its own function leaves nothing, neither in the file nor in
// memory, and the hive goes on.
func TestACommitThatFailsLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	woken, leave := r.Watch("job-1")
	defer leave()
	refused := errors.New("refused")
	for name, commit := range r.ways() {
		err := commit(t.Context(), func(b *journal.Batch) error {
			b.OnCommit(func() { t.Errorf("%s: what was to follow the commit was done", name) })
			require.NoError(t, b.Event(store.EventState, "job-1", "", name, nil))
			return refused
		})
		require.ErrorIs(t, err, refused, name)
		require.Empty(t, r.recorded(), name)
		require.False(t, isClosed(woken), "%s: nobody is woken", name)
		require.NoError(t, r.Err(), "%s: it is the caller's business", name)
	}
}

// A caller who goes away while the commit is queued gets nothing done.
func TestACallerWhoGoesAwayWhileQueued(t *testing.T) {
	r := newRig(t)
	for name, commit := range r.ways() {
		if name == "CommitBestEffort" {
			continue // it has no caller
		}
		release := r.hold()
		ctx, goAway := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			result <- commit(ctx, func(b *journal.Batch) error { return b.Event(store.EventState, "", "", name, nil) })
		}()
		goAway()
		require.ErrorIs(t, <-result, context.Canceled, name)
		release()
	}
	require.Empty(t, r.recorded())
}

// What has happened is recorded also while the hive closes; what can wait is not.
func TestCommitsWhileTheHiveCloses(t *testing.T) {
	r := newRig(t)
	require.False(t, r.Over())
	r.close()
	require.True(t, r.Over())
	event := func(b *journal.Batch) error { return b.Event(store.EventState, "", "", "told", nil) }
	require.ErrorIs(t, r.CommitBestEffort(event), context.Canceled)
	require.Empty(t, r.recorded())
	require.NoError(t, r.CommitRequired(event))
	require.Equal(t, []string{"told"}, r.recorded())
	require.NoError(t, r.Err(), "closing is no fault")
}

// A required commit that fails for another reason than the disk means that the file does
// not hold what it must.
func TestARequiredCommitThatFailsEndsTheHive(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Err())
	require.False(t, isClosed(r.Broken()))
	cause := errors.New("a record is damaged")
	require.ErrorIs(t, r.CommitRequired(func(*journal.Batch) error { return cause }), cause)
	require.True(t, isClosed(r.Broken()))
	require.ErrorIs(t, r.Err(), cause)
	require.True(t, r.Over())

	ran := false
	err := r.CommitRequired(func(*journal.Batch) error { ran = true; return errors.New("another") })
	require.ErrorIs(t, err, cause, "the first fault counts")
	require.False(t, ran, "nothing is required of a broken hive")
	require.ErrorIs(t, r.Err(), cause)
}

// A store that is closed is no fault: hive is ending already.
func TestARequiredCommitAfterTheStoreWasClosed(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.store.Close())
	require.ErrorIs(t, r.CommitRequired(func(*journal.Batch) error { return nil }), store.ErrClosed)
	require.NoError(t, r.Err())
	require.False(t, isClosed(r.Broken()))
}

// fullFor is a writer whose disk is full for the first n commits; 0: for ever. tried gets
// a token with each.
func (r *rig) fullFor(n int, tried chan<- struct{}) journal.Writer {
	calls := 0
	return func(closure func(*store.Tx) error) error {
		calls++
		if n == 0 || calls <= n {
			select {
			case tried <- struct{}{}:
			default:
			}
			return fmt.Errorf("update: %w", store.ErrDiskFull)
		}
		return r.store.UpdateReserved(context.Background(), closure)
	}
}

// What has happened waits for space on the disk, and says so.
func TestARequiredCommitWaitsForSpace(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.CommitUntilDone(r.fullFor(2, nil), func(b *journal.Batch) error {
		return b.Event(store.EventState, "", "", "told", nil)
	}))
	require.Equal(t, []string{"told"}, r.recorded())
	require.NoError(t, r.Err())
	logged := r.logs.AllEntries()
	require.Len(t, logged, 2)
	require.Equal(t, logrus.ErrorLevel, logged[0].Level)
	require.Contains(t, logged[0].Message, "the disk is full")
	require.Equal(t, "/data", logged[0].Data["data_dir"])
}

// Who waits for space waits no longer than the hive is there.
func TestTheWaitForSpaceEnds(t *testing.T) {
	cause := errors.New("a record is damaged")
	for name, c := range map[string]struct {
		happens func(*rig)
		want    error
	}{
		"when the hive closes":   {func(r *rig) { r.close() }, errdefs.ErrClosing},
		"when another breaks it": {func(r *rig) { _ = r.CommitRequired(func(*journal.Batch) error { return cause }) }, cause},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tried, result := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				result <- r.CommitUntilDone(r.fullFor(0, tried), func(*journal.Batch) error { return nil })
			}()
			r.soon(first(tried), "the disk is found full")
			c.happens(r)
			select {
			case err := <-result:
				require.ErrorIs(t, err, c.want)
			case <-time.After(long):
				require.FailNow(t, "it still waits")
			}
		})
	}
}

// first is closed when a token has come.
func first(tokens <-chan struct{}) <-chan struct{} {
	ch := make(chan struct{})
	go func() { defer close(ch); <-tokens }()
	return ch
}

func TestLogUnlessClosing(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		closing bool
		logged  bool
	}{
		"nothing happened":      {nil, false, false},
		"an error":              {errors.New("damaged"), false, true},
		"the disk is full":      {fmt.Errorf("update: %w", store.ErrDiskFull), false, true},
		"the store is closed":   {fmt.Errorf("update: %w", store.ErrClosed), false, false},
		"the store has failed":  {fmt.Errorf("update: %w", store.ErrFailed), false, false},
		"while the hive closes": {errors.New("damaged"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if c.closing {
				r.close()
			}
			r.LogUnlessClosing(c.err, "prune the state file", "job-1")
			entries := r.logs.AllEntries()
			if !c.logged {
				require.Empty(t, entries)
				return
			}
			require.Len(t, entries, 1)
			require.Equal(t, "could not prune the state file", entries[0].Message)
			require.Equal(t, "job-1", entries[0].Data["id"])
			require.Equal(t, c.err, entries[0].Data[logrus.ErrorKey])
		})
	}
}

func TestWatchIsWokenByItsJobOnly(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	r.job("job-2", store.JobRunning)
	woken, leave := r.Watch("job-1")
	other, leaveOther := r.Watch("job-2")
	both, leaveBoth := r.Watch("job-1")
	r.tell("job-1", "told")
	require.True(t, isClosed(woken))
	require.True(t, isClosed(both), "all who wait for it")
	require.False(t, isClosed(other))

	again, leaveAgain := r.Watch("job-1")
	require.False(t, isClosed(again), "each wake-up needs a new Watch")
	leave() // of the one that has been woken: it must not take the place of again
	leaveBoth()
	r.tell("job-1", "more")
	require.True(t, isClosed(again))
	leaveAgain()
	leaveOther()
	require.Zero(t, r.Topics(), "who has left costs nothing")
}

// A watch that is left does not take the others' away.
func TestLeavingAWatch(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	_, leave := r.Watch("job-1")
	stays, leaveStays := r.Watch("job-1")
	leave()
	require.Equal(t, 1, r.Topics())
	r.tell("job-1", "told")
	require.True(t, isClosed(stays))
	leaveStays()
	require.Zero(t, r.Topics())
}
