//go:build linux

package store_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

// openUnchecked is for stores that are left inconsistent on purpose.
func openUnchecked(t *testing.T) (*store.Store, string) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, path
}

func TestCheckFindsContradictions(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(tx *store.Tx) error
		says  string
	}{
		"a lease without its mapping": {
			func(tx *store.Tx) error { return store.RawDelete(tx, "pids", []byte{0, 1, 0xa6, 0x30, 0x1f, 0x90}) },
			"whose mapping says",
		},
		"a mapping of another lease": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "pids", []byte{0, 1, 0xa6, 0x30, 0x1f, 0x90}, "other")
			},
			"whose mapping says",
		},
		"a mapping without a lease": {
			func(tx *store.Tx) error { return store.RawPut(tx, "pids", []byte{0, 0, 0, 1, 0x1f, 0x91}, "l") },
			"process 1 is mapped to port 8081",
		},
		"a mapping under a short key": {
			func(tx *store.Tx) error { return store.RawPut(tx, "pids", []byte{1}, "l") },
			"PID mapping under key 01",
		},
		"a lease under another port": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "leases", []byte{0x1f, 0x91}, store.Lease{Port: 8082, LeaseID: "l", Kind: store.LeaseTTL})
			},
			"the lease of port 8082 is under key 1f91",
		},
		"a live worker without a lease": {
			func(tx *store.Tx) error { _, err := tx.EndLease(8080, leaseID(8080)); return err },
			"does not hold port 8080",
		},
		"a live worker without one of its ports": {
			func(tx *store.Tx) error {
				w, err := tx.Worker(workerID(8080))
				require.NoError(t, err)
				w.Ports = append(w.Ports, 8081)
				return tx.PutWorker(w)
			},
			"does not hold port 8081",
		},
		"a held lease without its worker": {
			func(tx *store.Tx) error { return tx.DeleteWorker(workerID(8080)) },
			"which has no record",
		},
		"an idempotency key of no job": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "keys", []byte("k"), store.Keyed{JobID: "j"})
			},
			`stands for job "j", which does not have that key`,
		},
		"an event without its index": {
			func(tx *store.Tx) error {
				return store.RawDelete(tx, "byjob", []byte("j\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
			},
			"event 1 is missing in byjob",
		},
		"an event without its worker's index": {
			func(tx *store.Tx) error {
				return store.RawDelete(tx, "byworker", []byte(workerID(8080)+"\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
			},
			"event 1 is missing in byworker",
		},
		"an index without its event": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "byjob", []byte("k\x00\x00\x00\x00\x00\x00\x00\x00\x01"), struct{}{})
			},
			"there is no such event",
		},
		"an event under another number": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "events", []byte{0, 0, 0, 0, 0, 0, 0, 9}, store.Event{Seq: 8})
			},
			"event 8 is under key",
		},
		"a gap in the events of a job": {
			func(tx *store.Tx) error {
				require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
				ev, err := tx.AppendEvent(store.Event{JobID: "j"})
				require.NoError(t, err)
				ev.JobSeq = 3
				return store.RawPut(tx, "events", []byte{0, 0, 0, 0, 0, 0, 0, 2}, ev)
			},
			"event 2 is number 3 of j, expected 2",
		},
		"an event without a number behind one that has it": {
			func(tx *store.Tx) error {
				require.NoError(t, tx.PutJob(store.Job{JobID: "j"}))
				ev, err := tx.AppendEvent(store.Event{JobID: "j"})
				require.NoError(t, err)
				ev.JobSeq = 0
				return store.RawPut(tx, "events", []byte{0, 0, 0, 0, 0, 0, 0, 2}, ev)
			},
			"event 2 is number 0 of j",
		},
		"a removed event that was never written": {
			func(tx *store.Tx) error { return store.RawPut(tx, "meta", []byte("pruned"), 2) },
			"the sequence of events is at 1, behind event 2",
		},
		"a sequence that is behind": {
			func(tx *store.Tx) error {
				return store.RawPut(tx, "events", []byte{0, 0, 0, 0, 0, 0, 0, 9}, store.Event{Seq: 9})
			},
			"the sequence of events is at 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := openUnchecked(t)
			update(t, s, func(tx *store.Tx) {
				require.NoError(t, putWorker(tx, 8080))
				_, err := tx.AppendEvent(store.Event{JobID: "j", WorkerID: workerID(8080)})
				require.NoError(t, err)
			})
			require.NoError(t, s.Check(t.Context()))
			require.NoError(t, s.Update(t.Context(), c.spoil))
			err := s.Check(t.Context())
			require.ErrorIs(t, err, store.ErrInconsistent)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// A sequence behind the newest event would overwrite it.
func TestSequenceThatWentBackIsNoticed(t *testing.T) {
	s, _ := openUnchecked(t)
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
		return store.RawPut(tx, "events", []byte{0, 0, 0, 0, 0, 0, 0, 9}, store.Event{Seq: 9})
	}))
	var corrupt *store.CorruptError
	require.ErrorAs(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{})
		return err
	}), &corrupt)
}

func TestCheckListsAtMostAHundredFindings(t *testing.T) {
	s, _ := openUnchecked(t)
	update(t, s, func(tx *store.Tx) {
		for i := range 300 {
			require.NoError(t, store.RawPut(tx, "pids", []byte{0, 0, 0, 1, byte(i >> 8), byte(i)}, "l"))
		}
	})
	err := s.Check(t.Context())
	require.ErrorContains(t, err, "more findings are not listed")
	require.Equal(t, 100, bytes.Count([]byte(err.Error()), []byte("is mapped to port")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Check(ctx), context.Canceled)
}

// Check and Backup while others write: nothing is torn, and the race detector
// sees whether bbolt's list of free pages is shared.
func TestCheckAndBackupUnderLoad(t *testing.T) {
	s := storetest.Open(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for c := range uint16(4) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				port := 8080 + c
				if err := s.Update(t.Context(), func(tx *store.Tx) error { return putWorker(tx, port) }); err != nil {
					t.Error(err)
					return
				}
				if err := s.Update(t.Context(), func(tx *store.Tx) error {
					_, err := tx.EndLease(port, leaseID(port))
					if err != nil {
						return err
					}
					return tx.DeleteWorker(workerID(port))
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	for range 10 {
		require.NoError(t, s.Check(t.Context()))
		f, err := os.Create(path)
		require.NoError(t, err)
		n, err := s.Backup(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, info.Size(), n)
	}
	close(stop)
	wg.Wait()
	require.NoError(t, s.Close())
	require.ErrorIs(t, func() error { _, err := s.Backup(&bytes.Buffer{}); return err }(), store.ErrClosed)
	backup, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.True(t, backup.Meta().Relocated, "a backup is a file of its own")
	require.NoError(t, backup.Check(t.Context()))
	require.NoError(t, backup.Close())
}
