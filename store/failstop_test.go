//go:build linux

package store_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/skip"
)

func TestCommitErrorStopsTheStore(t *testing.T) {
	s := storetest.Open(t)
	cause := errors.New("input/output error")
	store.SetCommit(s, func(btx *bbolt.Tx) error { return errors.Join(cause, btx.Rollback()) })
	requireFailStop(t, s, cause)
}

// bbolt asserts what it reads; a commit that panics must not take the daemon
// down before it has said why, nor hang Close on bbolt's locks.
func TestCommitPanicStopsTheStore(t *testing.T) {
	s := storetest.Open(t)
	store.SetCommit(s, func(*bbolt.Tx) error { panic("page 7: already freed") })
	var corrupt *store.CorruptError
	require.ErrorAs(t, s.Update(t.Context(), setName("a", 1)), &corrupt)
	require.ErrorIs(t, s.Err(), store.ErrFailed)
}

func requireFailStop(t *testing.T, s *store.Store, cause error) {
	t.Helper()
	require.NoError(t, s.Err())
	release := held(t, s)
	results := make(chan error, 3)
	for range 3 {
		go func() { results <- s.Update(t.Context(), setName("a", 1)) }()
	}
	waitQueued(t, s, 3)
	release()
	for range 3 {
		err := <-results
		require.ErrorIs(t, err, store.ErrFailed)
		require.ErrorIs(t, err, cause)
	}
	<-s.Failed()
	require.ErrorIs(t, s.Err(), cause)
	ran := false
	err := s.UpdateReserved(t.Context(), func(*store.Tx) error { ran = true; return nil })
	require.ErrorIs(t, err, store.ErrFailed)
	require.ErrorIs(t, err, cause)
	require.False(t, ran, "nothing runs after a failure")
	require.ErrorIs(t, s.Check(t.Context()), store.ErrFailed)
	require.NoError(t, s.View(func(*store.Tx) error { return nil }))
}

// eioReport is what the child saw.
type eioReport struct {
	Skip                   string
	Failed, EIO, Closed    bool
	LaterFailed, LaterRuns bool
}

// EIO from the kernel at the first fdatasync of a commit (the data pages) and at
// the second (the meta page). After the first the file is as it was before. After
// the second the transaction is there although the commit returned an error:
// this is why an error must not be taken for "not committed".
func TestRealEIOAtEachFdatasync(t *testing.T) {
	for _, c := range []struct {
		name    string
		nth     string
		durable bool
	}{{"data pages", "1", false}, {"meta page", "2", true}} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hive.db")
			var report eioReport
			require.NoError(t, json.Unmarshal(runChild(t, "eio", path, c.nth), &report))
			if report.Skip != "" {
				skip.Because(t, report.Skip)
			}
			require.Equal(t, eioReport{Failed: true, EIO: true, Closed: true, LaterFailed: true}, report)
			storetest.Check(t, path)
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			defer s.Close()
			_, there := names(t, s)["doomed"]
			require.Equal(t, c.durable, there)
			require.EqualValues(t, 1, names(t, s)["first"])
		})
	}
}

// childEIO opens a store and makes the n-th fdatasync of its second commit fail.
func childEIO(args []string) int {
	ctx, done := childContext()
	defer done()
	s, err := store.Open(ctx, store.Options{Path: args[0]})
	if err != nil {
		return childFailed(err)
	}
	if err := s.Update(ctx, setName("first", 1)); err != nil {
		return childFailed(err)
	}
	var report eioReport
	if err := failFdatasync(int(args[1][0] - '0')); err != nil {
		report.Skip = err.Error()
		return childOutput(report)
	}
	err = s.Update(ctx, setName("doomed", 1))
	report.Failed, report.EIO = errors.Is(err, store.ErrFailed), errors.Is(err, syscall.EIO)
	select {
	case <-s.Failed():
		report.Closed = true
	default:
	}
	err = s.Update(ctx, func(*store.Tx) error { report.LaterRuns = true; return nil })
	report.LaterFailed = errors.Is(err, store.ErrFailed) && errors.Is(err, syscall.EIO)
	return childOutput(report)
}

func childOutput(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return childFailed(err)
	}
	return 0
}
