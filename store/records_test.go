//go:build linux

package store_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

// update and view run fn with the test's assertions inside.
func update(t *testing.T, s *store.Store, fn func(tx *store.Tx)) {
	t.Helper()
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error { fn(tx); return nil }))
}

func view(t *testing.T, s *store.Store, fn func(tx *store.Tx)) {
	t.Helper()
	require.NoError(t, s.View(func(tx *store.Tx) error { fn(tx); return nil }))
}

func processLease(port uint16, id string, pid int) store.Lease {
	return store.Lease{
		Port: port, LeaseID: id, Kind: store.LeaseProcess, State: store.LeaseHeld,
		Identity: &store.Identity{PID: pid},
	}
}

func TestLeaseAndMappingStayInStep(t *testing.T) {
	s := storetest.Open(t)
	l := processLease(8080, "l1", 42)
	ports := func(tx *store.Tx, pid int) []uint16 {
		p, err := tx.PortsOfPID(pid)
		require.NoError(t, err)
		return p
	}
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutLease(l))
		require.NoError(t, tx.PutLease(processLease(8081, "l2", 42)))
		require.Equal(t, []uint16{8080, 8081}, ports(tx, 42))

		err := tx.PutLease(processLease(8080, "other", 43))
		require.ErrorIs(t, err, store.ErrLeaseConflict, "a port has one lease")
		_, err = tx.EndLease(8080, "other")
		require.ErrorIs(t, err, store.ErrLeaseConflict)
		_, err = tx.EndLease(8082, "l1")
		require.ErrorIs(t, err, store.ErrNotFound)

		l.Identity = &store.Identity{PID: 43} // the holder changes
		require.NoError(t, tx.PutLease(l))
		require.Equal(t, []uint16{8081}, ports(tx, 42))
		require.Equal(t, []uint16{8080}, ports(tx, 43))

		l.Identity, l.State = nil, store.LeaseQuarantined
		require.NoError(t, tx.PutLease(l))
		require.Empty(t, ports(tx, 43))
		_, err = tx.PIDOfPort(8080)
		require.ErrorIs(t, err, store.ErrNotFound)
		pid, err := tx.PIDOfPort(8081)
		require.NoError(t, err)
		require.Equal(t, 42, pid)
	})
	update(t, s, func(tx *store.Tx) {
		ended, err := tx.EndLease(8080, "l1")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(l, ended))
		_, err = tx.Lease(8080)
		require.ErrorIs(t, err, store.ErrNotFound)
		stone, err := tx.Tombstone("l1")
		require.NoError(t, err)
		require.Equal(t, store.Tombstone{Lease: l, EndedAt: tx.Now()}, stone)
		require.NoError(t, tx.PutLease(processLease(8080, "l3", 42)), "the port is free again")
	})
	require.Empty(t, func() (none []uint16) { view(t, s, func(tx *store.Tx) { none = ports(tx, -1) }); return }())
}

func TestALeaseOfSeveralPortsIsOne(t *testing.T) {
	s := storetest.Open(t)
	l := processLease(8081, "l1", 42)
	l.Ports = []uint16{8081, 8082}
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutLease(processLease(8083, "l2", 42)))
		over := l
		over.Ports = []uint16{8081, 8082, 8083}
		require.ErrorIs(t, tx.PutLease(over), store.ErrLeaseConflict)
		_, err := tx.Lease(8081)
		require.ErrorIs(t, err, store.ErrNotFound, "all ports or none")

		require.NoError(t, tx.PutLease(l))
		require.ErrorIs(t, tx.PutLease(processLease(8082, "l1", 42)), store.ErrInvalid, "its ports do not change")
		second, err := tx.Lease(8082)
		require.NoError(t, err)
		require.Equal(t, uint16(8082), second.Port)
		ports, err := tx.PortsOfPID(42)
		require.NoError(t, err)
		require.Equal(t, []uint16{8081, 8082, 8083}, ports)
	})
	require.NoError(t, s.Check(t.Context()))
	update(t, s, func(tx *store.Tx) {
		_, err := tx.EndLease(8082, "l1")
		require.NoError(t, err)
		_, err = tx.Lease(8081)
		require.ErrorIs(t, err, store.ErrNotFound)
		var ended []uint16
		for stone, err := range tx.EndedSince(tx.Now()) {
			require.NoError(t, err)
			ended = append(ended, stone.Lease.Port)
		}
		require.Equal(t, []uint16{8082, 8081}, ended)
		for range tx.EndedSince(tx.Now().Add(time.Second)) {
			t.Error("none ended later")
		}
	})
}

// A PID that came back may already stand for another lease of the same port
// when the old one is cleaned up.
func TestMappingOfAnotherLeaseIsLeftAlone(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutLease(processLease(8080, "l1", 42)))
		key := []byte{0, 0, 0, 42, 0x1f, 0x90}
		require.NoError(t, store.RawPut(tx, "pids", key, "l2"))
		_, err := tx.EndLease(8080, "l1")
		require.NoError(t, err)
		keys, err := store.RawKeys(tx, "pids")
		require.NoError(t, err)
		require.Equal(t, []string{string(key)}, keys)
		require.NoError(t, store.RawDelete(tx, "pids", key))
	})
}

func TestInvalidRecordsAreRefused(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		for name, edit := range map[string]func(*store.Lease){
			"no port":                func(l *store.Lease) { l.Port = 0 },
			"no id":                  func(l *store.Lease) { l.LeaseID = "" },
			"kind":                   func(l *store.Lease) { l.Kind = "rent" },
			"state":                  func(l *store.Lease) { l.State = "" },
			"pid":                    func(l *store.Lease) { l.Identity.PID = 0 },
			"ports without the port": func(l *store.Lease) { l.Ports = []uint16{8081, 8082} },
			"ports out of order":     func(l *store.Lease) { l.Ports = []uint16{8081, 8080} },
		} {
			l := processLease(8080, "l1", 42)
			edit(&l)
			require.ErrorIs(t, tx.PutLease(l), store.ErrInvalid, name)
		}
		require.ErrorIs(t, tx.PutWorker(store.Worker{}), store.ErrInvalid)
		require.ErrorIs(t, tx.PutJob(store.Job{}), store.ErrInvalid)
		require.ErrorIs(t, tx.PutJob(store.Job{JobID: "j", Request: json.RawMessage("{")}), store.ErrInvalid)
		require.ErrorIs(t, tx.PutJob(store.Job{JobID: string(make([]byte, 40000))}), store.ErrInvalid, "bbolt's limit")
		require.ErrorIs(t, tx.SetNamedPort("", 1), store.ErrInvalid)
	})
	require.ErrorIs(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{JobID: "a\x00b"})
		return err
	}), store.ErrInvalid)
}

// The ports of one lease end in one transaction, so at the same time.
func TestTombstonesAreKeptAndPruned(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		for _, port := range []uint16{8080, 8081, 8082} {
			require.NoError(t, tx.PutLease(processLease(port, "l1", 42)))
			_, err := tx.EndLease(port, "l1")
			require.NoError(t, err)
		}
	})
	update(t, s, func(tx *store.Tx) {
		n, err := tx.PruneEnded(tx.Now().Add(-time.Minute), 10)
		require.NoError(t, err)
		require.Zero(t, n, "they are not that old")
		n, err = tx.PruneEnded(tx.Now().Add(time.Minute), 2)
		require.NoError(t, err)
		require.Equal(t, 2, n, "the limit holds")
		stone, err := tx.Tombstone("l1")
		require.NoError(t, err)
		require.EqualValues(t, 8082, stone.Lease.Port, "oldest first")
		n, err = tx.PruneEnded(tx.Now().Add(time.Minute), 10)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = tx.Tombstone("l1")
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// The loop that frees stale leases writes under its own iterator. In a bucket
// that was written in the same transaction a bbolt cursor then skips every
// second lease.
func TestLoopMayWriteUnderTheIterator(t *testing.T) {
	const n = 500 // several pages
	acquire := func(tx *store.Tx) {
		for i := range uint16(n) {
			require.NoError(t, tx.PutLease(processLease(8080+i, leaseID(i), 42)))
		}
	}
	release := func(tx *store.Tx) {
		seen := 0
		for l, err := range tx.Leases() {
			require.NoError(t, err)
			require.EqualValues(t, 8080+seen, l.Port)
			seen++
			_, err = tx.EndLease(l.Port, l.LeaseID)
			require.NoError(t, err)
		}
		require.Equal(t, n, seen)
		for range tx.Leases() {
			t.Error("a lease is left")
		}
	}
	s := storetest.Open(t)
	update(t, s, acquire)
	update(t, s, release)
	update(t, s, func(tx *store.Tx) {
		acquire(tx)
		release(tx)
	})
}

func TestJobsAreListedFromBothEnds(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		for i := range 5 {
			require.NoError(t, tx.PutJob(store.Job{JobID: fmt.Sprintf("job-%d", i), Request: json.RawMessage(`{"a":1}`), State: store.JobQueued}))
		}
	})
	list := func(after string, newestFirst bool) (ids []string) {
		view(t, s, func(tx *store.Tx) {
			for j, err := range tx.Jobs(after, newestFirst) {
				require.NoError(t, err)
				ids = append(ids, j.JobID)
			}
		})
		return ids
	}
	require.Equal(t, []string{"job-0", "job-1", "job-2", "job-3", "job-4"}, list("", false))
	require.Equal(t, []string{"job-4", "job-3", "job-2", "job-1", "job-0"}, list("", true))
	require.Equal(t, []string{"job-3", "job-4"}, list("job-2", false))
	require.Equal(t, []string{"job-1", "job-0"}, list("job-2", true))
	require.Equal(t, []string{"job-1", "job-0"}, list("job-1x", true), "the job behind which it starts may be gone")
	require.Equal(t, []string{"job-4", "job-3", "job-2", "job-1", "job-0"}, list("job-9", true))
	require.Empty(t, list("job-9", false))
	require.Empty(t, list("a", true))
}

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

// What a transaction hands out must live on after it: bbolt's memory does not.
func TestRecordsOutliveTheTransaction(t *testing.T) {
	s := storetest.Open(t)
	job := store.Job{JobID: "j", Request: json.RawMessage(`{"operation":"worker_spawn"}`), State: store.JobRunning}
	update(t, s, func(tx *store.Tx) { require.NoError(t, tx.PutJob(job)) })
	var got store.Job
	view(t, s, func(tx *store.Tx) {
		var err error
		got, err = tx.Job("j")
		require.NoError(t, err)
	})
	for i := range 50 { // the page is freed, used again, and written over
		update(t, s, func(tx *store.Tx) {
			require.NoError(t, tx.PutJob(store.Job{JobID: "j", Request: json.RawMessage(fmt.Sprintf(`{"operation":"%012d"}`, i))}))
		})
	}
	require.Empty(t, cmp.Diff(job, got))
	_, err := func() (j store.Job, err error) {
		view(t, s, func(tx *store.Tx) { j, err = tx.Job("none") })
		return
	}()
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestKeyedJobs(t *testing.T) {
	s := storetest.Open(t)
	update(t, s, func(tx *store.Tx) {
		require.ErrorIs(t, tx.PutKeyedJob(store.Job{JobID: "j"}, "d"), store.ErrInvalid, "no key")
		require.NoError(t, tx.PutKeyedJob(store.Job{JobID: "j", Key: "k"}, "d"))
		require.NoError(t, tx.PutJob(store.Job{JobID: "other"}))
	})
	update(t, s, func(tx *store.Tx) {
		require.ErrorIs(t, tx.PutKeyedJob(store.Job{JobID: "j2", Key: "k"}, "e"), store.ErrInvalid, "taken")
		keyed, err := tx.Keyed("k")
		require.NoError(t, err)
		require.Equal(t, store.Keyed{JobID: "j", Digest: "d"}, keyed)
		n, err := tx.CountJobs()
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.NoError(t, tx.DeleteJob("j"))
		_, err = tx.Keyed("k")
		require.ErrorIs(t, err, store.ErrNotFound, "the key goes with its job")
		require.NoError(t, tx.PutKeyedJob(store.Job{JobID: "j2", Key: "k"}, "e"), "and may be used again")
	})
}

// The queen that introduced itself is there after a restart, and can be forgotten.
func TestQueen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	for _, want := range []string{"", "http://queen.lan:7833", ""} {
		s, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		update(t, s, func(tx *store.Tx) { require.NoError(t, tx.SetQueen(want)) })
		require.NoError(t, s.Close())
		s, err = store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		require.NoError(t, s.View(func(tx *store.Tx) error {
			got, err := tx.Queen()
			require.Equal(t, want, got)
			return err
		}))
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.Close())
	}
}
