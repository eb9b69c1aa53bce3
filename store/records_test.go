//go:build linux

package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
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
		n, err := tx.PruneEnded(tx.Now().Add(-time.Minute), 1000, 10)
		require.NoError(t, err)
		require.Zero(t, n, "they are not that old")
		n, err = tx.PruneEnded(tx.Now().Add(time.Minute), 1000, 2)
		require.NoError(t, err)
		require.Equal(t, 2, n, "the limit holds")
		stone, err := tx.Tombstone("l1")
		require.NoError(t, err)
		require.EqualValues(t, 8082, stone.Lease.Port, "oldest first")
		n, err = tx.PruneEnded(tx.Now().Add(time.Minute), 1000, 10)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = tx.Tombstone("l1")
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// Young ones go too if there are too many later ones.
func TestSurplusTombstonesArePruned(t *testing.T) {
	s := storetest.Open(t)
	for port := uint16(8080); port < 8090; port++ {
		update(t, s, func(tx *store.Tx) {
			require.NoError(t, tx.PutLease(processLease(port, leaseID(port), 42)))
			_, err := tx.EndLease(port, leaseID(port))
			require.NoError(t, err)
		})
	}
	update(t, s, func(tx *store.Tx) {
		old := tx.Now().Add(-time.Hour)
		for _, c := range []struct{ keep, limit, removed int }{{10, 100, 0}, {7, 2, 2}, {7, 100, 1}, {7, 100, 0}} {
			n, err := tx.PruneEnded(old, c.keep, c.limit)
			require.NoError(t, err)
			require.Equal(t, c.removed, n)
		}
		for port := uint16(8080); port < 8090; port++ {
			_, err := tx.Tombstone(leaseID(port))
			require.Equal(t, port < 8083, errors.Is(err, store.ErrNotFound), "%d", port)
		}
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
