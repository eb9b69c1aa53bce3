package run_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is accepted in each part of a hive's life.
func TestLife(t *testing.T) {
	s := run.New()
	is := func(what string, serving, draining, accepting, closing bool, admit error) {
		t.Helper()
		require.Equal(t, serving, s.Serving(), what)
		require.Equal(t, draining, s.Draining(), what)
		require.Equal(t, accepting, s.Accepting(), what)
		require.Equal(t, closing, s.Closing(), what)
		require.ErrorIs(t, s.Admit(), admit, what)
	}
	is("recovery", false, false, true, false, errdefs.ErrRecovering)
	s.Serve()
	is("serving", true, false, true, false, nil)
	s.Drain()
	is("draining", true, true, false, false, errdefs.ErrClosed)
	require.NoError(t, s.Context().Err())
	s.Close()
	is("closed", false, true, false, true, errdefs.ErrRecovering)
	require.Error(t, s.Context().Err())
}

// What was left for later is begun in order, once, and before anybody is let in.
func TestWhenServing(t *testing.T) {
	s := run.New()
	var order []int
	for i := range 3 {
		s.WhenServing(func() {
			require.False(t, s.Serving(), "callers are let in behind it")
			require.True(t, s.Go(func() {}), "it may start goroutines")
			order = append(order, i)
		})
	}
	require.Empty(t, order)
	s.Serve()
	require.Equal(t, []int{0, 1, 2}, order)
	s.WhenServing(func() { order = append(order, 3) })
	require.Equal(t, []int{0, 1, 2, 3}, order, "at once while it serves")
	s.Serve()
	require.Equal(t, []int{0, 1, 2, 3}, order)
	s.Wait()
}

// What comes while Serve begins what was left is called by one of the two.
func TestWhenServingAtOnceWithServe(t *testing.T) {
	s := run.New()
	var called atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { s.WhenServing(func() { called.Add(1) }) })
	}
	wg.Go(s.Serve)
	wg.Wait()
	require.EqualValues(t, 50, called.Load())
}

// Wait waits for what was started, and after Close nothing is.
func TestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run.New()
		release, waited := make(chan struct{}), atomic.Bool{}
		require.True(t, s.Go(func() { <-release }))
		s.Close()
		require.False(t, s.Go(func() { t.Error("started after Close") }))
		go func() { s.Wait(); waited.Store(true) }()
		synctest.Wait()
		require.False(t, waited.Load(), "the goroutine has not ended")
		close(release)
		synctest.Wait()
		require.True(t, waited.Load())
	})
}
