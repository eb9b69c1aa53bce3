package store_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestEventsFollowJobsAndWorkers(t *testing.T) {
	s := storetest.Open(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
		require.NoError(t, tx.PutWorker(store.Worker{WorkerID: "w", State: store.WorkerStopped}))
		for _, ev := range []store.Event{
			{JobID: "j"}, {JobID: "j", WorkerID: "w"}, {WorkerID: "w"}, {JobID: "j2"}, {WorkerID: "w-2"}, {At: at},
		} {
			_, err := tx.AppendEvent(ev)
			require.NoError(t, err)
		}
	})
	seqs := func(events []store.Event, err error) (all []uint64) {
		require.NoError(t, err)
		for _, ev := range events {
			all = append(all, ev.Seq)
		}
		return all
	}
	view(t, s, func(tx *store.Tx) {
		events, err := tx.Events(0, 0)
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6}, seqs(events, err))
		require.False(t, events[0].At.IsZero(), "the transaction's time")
		require.Equal(t, at, events[5].At, "a time that is given is kept as it is")
		require.Equal(t, []uint64{1, 2}, seqs(tx.JobEvents("j", 0, 0)))
		require.Equal(t, []uint64{2}, seqs(tx.JobEvents("j", 1, 0)))
		require.Equal(t, []uint64{1}, seqs(tx.JobEvents("j", 0, 1)))
		require.Equal(t, []uint64{2, 3}, seqs(tx.WorkerEvents("w", 0, 0)), "not those of w-2")
		require.Equal(t, []uint64{4, 5}, seqs(tx.Events(3, 2)))
		require.Empty(t, seqs(tx.JobEvents("none", 0, 0)))
	})
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.DeleteWorker("w"))
		require.Equal(t, []uint64{1, 2, 4, 5, 6}, seqs(tx.Events(0, 0)), "the job's stay")
		require.Empty(t, seqs(tx.WorkerEvents("w", 0, 0)))
		require.NoError(t, tx.DeleteJob("j"))
		require.Equal(t, []uint64{4, 5, 6}, seqs(tx.Events(0, 0)))
		n, err := tx.PruneEvents(tx.Now().Add(time.Hour), 10)
		require.NoError(t, err)
		require.Equal(t, 3, n, "the rest belongs to no record")
	})
	update(t, s, func(tx *store.Tx) {
		require.Empty(t, seqs(tx.Events(0, 0)))
		ev, err := tx.AppendEvent(store.Event{})
		require.NoError(t, err)
		require.EqualValues(t, 7, ev.Seq, "a number is never used again")
	})
}

// Files of before the jobs' own numbers have none: they are made when the events
// are read, and those that follow go on behind them. A damaged event does not keep
// its job from ending.
// A worker once kept all its events for as long as it had a record: one that is started again
// and again had more and more.
func TestOldEventsOfAWorkerWithARecordArePruned(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutWorker(store.Worker{WorkerID: "w", State: store.WorkerStopped}))
		require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
		for n := range 20 {
			ev := store.Event{WorkerID: "w", At: tx.Now().Add(time.Duration(n-10) * time.Minute)}
			if n == 3 {
				ev.JobID = "j"
			}
			_, err := tx.AppendEvent(ev)
			require.NoError(t, err)
		}
	})
	update(t, s, func(tx *store.Tx) {
		before := tx.Now().Add(-5*time.Minute - time.Second)
		n, err := tx.PruneEvents(before, 100)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		events, err := tx.WorkerEvents("w", 0, 0)
		require.NoError(t, err)
		require.Len(t, events, 16)
		require.EqualValues(t, 4, events[0].Seq, "its job has a record")
		require.False(t, events[1].At.Before(before))
		b, err := tx.EventBounds()
		require.NoError(t, err)
		require.EqualValues(t, 5, b.Pruned)
	})
}

func TestEventsOfOlderFilesGetTheirNumbers(t *testing.T) {
	s := storetest.Open(t)
	numbers := func(events []store.Event, err error) (all []uint64) {
		require.NoError(t, err)
		for _, ev := range events {
			all = append(all, ev.JobSeq)
		}
		return all
	}
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
		require.NoError(t, tx.PutWorker(store.Worker{WorkerID: "w", State: store.WorkerStopped}))
		for _, id := range []string{"j", "i", "j", "", "k", "j"} {
			ev, err := tx.AppendEvent(store.Event{JobID: id, WorkerID: "w"})
			require.NoError(t, err)
			ev.JobSeq = 0
			require.NoError(t, store.RawPut(tx, "events", binary.BigEndian.AppendUint64(nil, ev.Seq), ev))
		}
	})
	require.NoError(t, s.Check(t.Context()))
	update(t, s, func(tx *store.Tx) {
		require.Equal(t, []uint64{1, 2, 3}, numbers(tx.JobEvents("j", 0, 0)))
		require.Equal(t, []uint64{3}, numbers(tx.JobEvents("j", 3, 0)))
		require.Equal(t, []uint64{1, 1, 2, 0, 1, 3}, numbers(tx.WorkerEvents("w", 0, 0)))
		require.Equal(t, []uint64{1, 1, 2, 0, 1, 3}, numbers(tx.Events(0, 0)))
		for want := range uint64(2) {
			ev, err := tx.AppendEvent(store.Event{JobID: "j"})
			require.NoError(t, err)
			require.Equal(t, 4+want, ev.JobSeq)
		}
		for jobSeq, want := range []uint64{0, 1, 3, 6, 7, 8, 8, 8} {
			seq, err := tx.JobEventSeq("j", uint64(jobSeq))
			require.NoError(t, err)
			require.Equal(t, want, seq)
		}
	})
	require.NoError(t, s.Check(t.Context()))
	spoiled := s.Update(t.Context(), func(tx *store.Tx) error {
		require.NoError(t, store.RawPut(tx, "events", binary.BigEndian.AppendUint64(nil, 8), "no event"))
		ev, err := tx.AppendEvent(store.Event{JobID: "j"})
		require.NoError(t, err)
		require.EqualValues(t, 6, ev.JobSeq)
		return errors.New("the file stays whole")
	})
	require.EqualError(t, spoiled, "the file stays whole")
}

// Who has seen all up to the mark has missed nothing, also after a crash between
// any two transactions: the mark is written with the removal.
func TestTheHighestRemovedEventIsRemembered(t *testing.T) {
	s, path := openUnchecked(t)
	bounds := func(want store.EventBounds) {
		t.Helper()
		view(t, s, func(tx *store.Tx) {
			got, err := tx.EventBounds()
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	bounds(store.EventBounds{})
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
		for _, id := range []string{"", "j", "", "j", ""} {
			_, err := tx.AppendEvent(store.Event{JobID: id})
			require.NoError(t, err)
		}
	})
	bounds(store.EventBounds{Newest: 5})
	prune := func(tx *store.Tx) {
		n, err := tx.PruneEvents(tx.Now().Add(time.Hour), 2)
		require.NoError(t, err)
		require.Equal(t, 2, n)
	}
	undone := s.Update(t.Context(), func(tx *store.Tx) error { prune(tx); return errors.New("taken back") })
	require.EqualError(t, undone, "taken back")
	bounds(store.EventBounds{Newest: 5})
	update(t, s, prune)
	bounds(store.EventBounds{Newest: 5, Pruned: 3})
	update(t, s, func(tx *store.Tx) { require.NoError(t, tx.DeleteJob("j")) })
	bounds(store.EventBounds{Newest: 5, Pruned: 4})
	copied := filepath.Join(t.TempDir(), "hive.db") // as a crash would leave it
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(copied, raw, 0o600))
	require.NoError(t, s.Close())
	s, err = store.Open(t.Context(), store.Options{Path: copied})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	bounds(store.EventBounds{Newest: 5, Pruned: 4})
	require.NoError(t, s.Check(t.Context()))
}

func TestEventsArePaged(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		for range 300 {
			_, err := tx.AppendEvent(store.Event{JobID: "j"})
			require.NoError(t, err)
		}
	})
	view(t, s, func(tx *store.Tx) {
		page, err := tx.JobEvents("j", 0, 0)
		require.NoError(t, err)
		require.Len(t, page, 256)
		rest, err := tx.JobEvents("j", page[255].Seq, 0)
		require.NoError(t, err)
		require.Len(t, rest, 44)
	})
}

// Deletes leave empty pages until the commit, and others write in the same one.
func TestEventsAfterManyWereRemovedInTheSameCommit(t *testing.T) {
	many := func(tx *store.Tx, id string, n int) {
		require.NoError(t, tx.PutJob(store.Job{JobID: id}))
		for range n {
			_, err := tx.AppendEvent(store.Event{JobID: id, Message: "several pages of these"})
			require.NoError(t, err)
		}
	}
	t.Run("all of them", func(t *testing.T) {
		s := storetest.Open(t)
		update(t, s, func(tx *store.Tx) { many(tx, "m", 300) })
		update(t, s, func(tx *store.Tx) {
			require.NoError(t, tx.DeleteJob("m"))
			ev, err := tx.AppendEvent(store.Event{JobID: "m"})
			require.NoError(t, err)
			require.EqualValues(t, 301, ev.Seq, "no number is used twice")
			require.EqualValues(t, 1, ev.JobSeq)
			require.NoError(t, tx.DeleteJob("m"))
		})
	})
	t.Run("those of a job between two others", func(t *testing.T) {
		s := storetest.Open(t)
		update(t, s, func(tx *store.Tx) {
			many(tx, "a", 2)
			many(tx, "m", 300)
			many(tx, "z", 2)
		})
		update(t, s, func(tx *store.Tx) {
			require.NoError(t, tx.DeleteJob("m"))
			ev, err := tx.AppendEvent(store.Event{JobID: "a"})
			require.NoError(t, err)
			require.EqualValues(t, 3, ev.JobSeq)
			var ids []string
			for j, err := range tx.Jobs("", true) {
				require.NoError(t, err)
				ids = append(ids, j.JobID)
			}
			require.Equal(t, []string{"z", "a"}, ids)
		})
		require.NoError(t, s.Check(t.Context()))
	})
	t.Run("tombstones", func(t *testing.T) {
		s := storetest.Open(t)
		update(t, s, func(tx *store.Tx) {
			for port := uint16(8080); port < 8380; port++ {
				require.NoError(t, tx.PutLease(store.Lease{Port: port, LeaseID: leaseID(port), Kind: store.LeaseTTL, State: store.LeaseHeld}))
			}
			for port := uint16(8080); port < 8380; port++ {
				_, err := tx.EndLease(port, leaseID(port))
				require.NoError(t, err)
			}
		})
		update(t, s, func(tx *store.Tx) {
			n, err := tx.PruneEnded(tx.Now().Add(time.Hour), 1000, 1000)
			require.NoError(t, err)
			require.Equal(t, 300, n)
			_, err = tx.Tombstone(leaseID(8080))
			require.ErrorIs(t, err, store.ErrNotFound)
			for range tx.EndedSince(time.Time{}) {
				require.Fail(t, "none is left")
			}
		})
	})
}

// Events that were recorded while the clock was ahead keep no others from going, and go
// with what is as old.
func TestEventsOfATimeToCome(t *testing.T) {
	now := time.Now().UTC()
	for name, c := range map[string]struct {
		ages []time.Duration // of the events as they say, in their order; below 0: of a time to come
		left []uint64
	}{
		"none":                      {[]time.Duration{3 * time.Hour, 2 * time.Hour, time.Minute}, []uint64{3}},
		"before an old one":         {[]time.Duration{3 * time.Hour, -100 * time.Hour, 2 * time.Hour, time.Minute}, []uint64{4}},
		"two before an old one":     {[]time.Duration{-100 * time.Hour, -99 * time.Hour, 2 * time.Hour, time.Minute}, []uint64{4}},
		"before a young one":        {[]time.Duration{3 * time.Hour, -100 * time.Hour, time.Minute}, []uint64{2, 3}},
		"nothing is behind it":      {[]time.Duration{3 * time.Hour, -100 * time.Hour}, []uint64{2}},
		"a young one before an old": {[]time.Duration{time.Minute, 2 * time.Hour}, []uint64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.Open(t)
			update(t, s, func(tx *store.Tx) {
				for _, age := range c.ages {
					_, err := tx.AppendEvent(store.Event{At: now.Add(-age)})
					require.NoError(t, err)
				}
			})
			update(t, s, func(tx *store.Tx) {
				n, err := tx.PruneEvents(now.Add(-time.Hour), 10)
				require.NoError(t, err)
				require.Equal(t, len(c.ages)-len(c.left), n)
			})
			view(t, s, func(tx *store.Tx) {
				evs, err := tx.Events(0, 0)
				require.NoError(t, err)
				var left []uint64
				for _, ev := range evs {
					left = append(left, ev.Seq)
				}
				require.Equal(t, c.left, left)
			})
		})
	}
	// Not even many of them stay for good.
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		for range 1100 {
			_, err := tx.AppendEvent(store.Event{At: now.Add(time.Hour)})
			require.NoError(t, err)
		}
	})
	update(t, s, func(tx *store.Tx) {
		n, err := tx.PruneEvents(now.Add(-time.Hour), 64)
		require.NoError(t, err)
		require.Equal(t, 64, n)
	})
}
