//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

var errRefused = errors.New("refused by the closure")

// held occupies the writer until release is called, so that what is queued
// meanwhile lands in one batch.
func held(t *testing.T, s *store.Store) (release func()) {
	entered, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Update(context.Background(), func(*store.Tx) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	return func() {
		close(leave)
		require.NoError(t, <-done)
	}
}

func waitQueued(t *testing.T, s *store.Store, n int) {
	t.Helper()
	for store.Queued(s) < n {
		runtime.Gosched()
	}
}

func setName(name string, port uint16) func(*store.Tx) error {
	return func(tx *store.Tx) error { return tx.SetNamedPort(name, port) }
}

func names(t *testing.T, s *store.Store) map[string]uint16 {
	t.Helper()
	all := map[string]uint16{}
	require.NoError(t, s.View(func(tx *store.Tx) error {
		for n, err := range tx.NamedPorts() {
			if err != nil {
				return err
			}
			all[n.Name] = n.Port
		}
		return nil
	}))
	return all
}

func TestWaitingCallsShareOneCommit(t *testing.T) {
	s := storetest.Open(t)
	release := held(t, s)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := s.Update(t.Context(), setName(fmt.Sprintf("n%d", i), 8080)); err != nil {
				t.Error(err)
			}
		})
	}
	waitQueued(t, s, 50)
	before := s.Stats()
	release()
	wg.Wait()
	require.Len(t, names(t, s), 50)
	after := s.Stats()
	require.Equal(t, before.Commits+1, after.Commits)
	require.Equal(t, 50, after.MaxGroup)

	// The histograms tell the same: one commit more, of 50, which is up to 64.
	grown := func(was, is store.Histogram) (where []float64) {
		require.Equal(t, len(is.Bounds)+1, len(is.Counts))
		for i, bound := range append(is.Bounds[:len(is.Bounds):len(is.Bounds)], math.Inf(1)) {
			for range is.Counts[i] - was.Counts[i] {
				where = append(where, bound)
			}
		}
		return where
	}
	require.Equal(t, []float64{64}, grown(before.CommitSizes, after.CommitSizes))
	require.InDelta(t, 50, after.CommitSizes.Sum-before.CommitSizes.Sum, 0)
	require.Len(t, grown(before.CommitTimes, after.CommitTimes), 1)
	require.Greater(t, after.CommitTimes.Sum, before.CommitTimes.Sum)
}

// A batch in which one closure fails, one panics and one exits keeps exactly
// the writes of the others.
func TestFailedClosureIsUndoneAlone(t *testing.T) {
	s := storetest.Open(t)
	require.NoError(t, s.Update(t.Context(), setName("old", 1)))
	spoil := func(tx *store.Tx) {
		for _, err := range []error{
			tx.SetNamedPort("old", 2), tx.SetNamedPort("old", 3), tx.SetNamedPort("new", 4),
			tx.SetNamedPort("good0", 0), tx.SetCursor(9),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := tx.AppendEvent(store.Event{JobID: "j", Type: store.EventState}); err != nil {
			t.Error(err)
		}
	}
	release := held(t, s)
	var wg sync.WaitGroup
	queue := func(fn func(*store.Tx) error, outcome func(recovered any, err error)) {
		n := store.Queued(s)
		wg.Go(func() {
			err := errors.New("Update did not return")
			defer func() { outcome(recover(), err) }()
			err = s.Update(t.Context(), fn)
		})
		waitQueued(t, s, n+1)
	}
	var results [5]error
	var panicked any
	queue(setName("good0", 10), func(_ any, err error) { results[0] = err })
	queue(func(tx *store.Tx) error { spoil(tx); return errRefused }, func(_ any, err error) { results[1] = err })
	queue(func(tx *store.Tx) error { spoil(tx); panic(errRefused) }, func(r any, _ error) { panicked = r })
	queue(func(tx *store.Tx) error { spoil(tx); runtime.Goexit(); return nil }, func(_ any, err error) { results[3] = err })
	queue(func(tx *store.Tx) error {
		ev, err := tx.AppendEvent(store.Event{JobID: "j", Type: store.EventState})
		if ev.Seq != 1 {
			t.Errorf("the sequence was not undone: %d", ev.Seq)
		}
		return err
	}, func(_ any, err error) { results[4] = err })
	release()
	wg.Wait()

	require.NoError(t, results[0])
	require.Equal(t, errRefused, results[1], "the closure's error comes back as it is")
	require.Equal(t, errRefused, panicked, "the panic comes back with its value")
	require.ErrorContains(t, results[3], "did not return", "the caller's goroutine ends as the closure did")
	require.NoError(t, results[4])
	require.Equal(t, map[string]uint16{"old": 1, "good0": 10}, names(t, s))
	require.NoError(t, s.View(func(tx *store.Tx) error {
		cursor, err := tx.Cursor()
		require.Zero(t, cursor)
		return err
	}))
	require.NoError(t, s.Update(t.Context(), setName("after", 5)), "the writer goes on")
}

func TestContextCountsOnlyWhileQueued(t *testing.T) {
	s := storetest.Open(t)
	release := held(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Update(ctx, setName("queued", 1)) }()
	waitQueued(t, s, 1)
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	release()
	require.Empty(t, names(t, s), "a call that was given up is not run")

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, s.Update(ctx, func(tx *store.Tx) error {
		cancel()
		return tx.SetNamedPort("taken", 2)
	}), "once taken the outcome counts")
	require.Equal(t, map[string]uint16{"taken": 2}, names(t, s))
	require.ErrorIs(t, s.Update(ctx, setName("late", 3)), context.Canceled)
}

func TestCloseCommitsWhatIsQueued(t *testing.T) {
	s := storetest.Open(t)
	release := held(t, s)
	queued, closed := make(chan error, 1), make(chan error, 1)
	go func() { queued <- s.Update(t.Context(), setName("queued", 1)) }()
	waitQueued(t, s, 1)
	go func() { closed <- s.Close() }()
	for !store.Closing(s) {
		runtime.Gosched()
	}
	require.ErrorIs(t, s.Update(t.Context(), func(*store.Tx) error { return nil }), store.ErrClosed)
	release()
	require.NoError(t, <-queued)
	require.NoError(t, <-closed)
	require.NoError(t, s.Close(), "closing twice is harmless")
	require.ErrorIs(t, s.View(func(*store.Tx) error { return nil }), store.ErrClosed)
	require.ErrorIs(t, s.Check(t.Context()), store.ErrClosed)
}

// Under load, each closure runs once, whatever becomes of its neighbours.
func TestClosuresRunExactlyOnce(t *testing.T) {
	s := storetest.Open(t)
	const callers, calls = 16, 40
	var runs [callers * calls]atomic.Int32
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				n := c*calls + i
				err := s.Update(t.Context(), func(tx *store.Tx) error {
					runs[n].Add(1)
					if err := tx.SetNamedPort(fmt.Sprintf("n%d", n), 1); err != nil || n%3 != 0 {
						return err
					}
					return errRefused
				})
				if failed := errors.Is(err, errRefused); failed != (n%3 == 0) || err != nil && !failed {
					t.Errorf("call %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	all := names(t, s)
	for n := range runs {
		require.EqualValues(t, 1, runs[n].Load(), "call %d", n)
		_, kept := all[fmt.Sprintf("n%d", n)]
		require.Equal(t, n%3 != 0, kept, "call %d", n)
	}
}

func TestTxRefusesMisuse(t *testing.T) {
	s := storetest.Open(t)
	var leaked *store.Tx
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
		leaked = tx
		return nil
	}))
	require.ErrorIs(t, leaked.SetCursor(1), store.ErrTxDone)
	for _, err := range leaked.Leases() {
		require.ErrorIs(t, err, store.ErrTxDone)
	}
	require.ErrorIs(t, s.View(func(tx *store.Tx) error { return tx.SetCursor(1) }), store.ErrReadOnly)
	require.ErrorIs(t, s.View(func(tx *store.Tx) error { return tx.DeleteJob("j") }), store.ErrReadOnly)
	require.ErrorIs(t, s.View(func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{})
		return err
	}), store.ErrReadOnly)
	require.PanicsWithValue(t, "mine", func() { _ = s.View(func(*store.Tx) error { panic("mine") }) })
}

// A call that writes nothing costs no commit.
func TestReadingUpdateDoesNotCommit(t *testing.T) {
	s := storetest.Open(t)
	before := s.Stats().Commits
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Cursor()
		return err
	}))
	require.ErrorIs(t, s.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.SetCursor(1), errRefused)
	}), errRefused)
	require.Equal(t, before, s.Stats().Commits)
}

// The daemon's tests run on a fake clock: a waiting writer must not keep it
// from going on, and a transaction's time is the clock's.
func TestStoreRunsOnAFakeClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		now := func() (now time.Time) {
			require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
				now = tx.Now()
				return nil
			}))
			return now
		}
		first := now()
		time.Sleep(time.Hour)
		require.Equal(t, time.Hour, now().Sub(first))
		require.Equal(t, time.UTC, first.Location())
		require.NoError(t, s.Close())
	})
	storetest.Check(t, path)
}
