//go:build linux

package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store"
)

// dump is everything the typed methods say, as text.
func dump(tx *store.Tx) (string, error) {
	var out strings.Builder
	say := func(v any, err error) error {
		fmt.Fprintf(&out, "%+v\n", v)
		return err
	}
	for l, err := range tx.Leases() {
		if err := say(l.LeaseID, err); err != nil {
			return "", err
		}
		ports, err := tx.PortsOfPID(100000 + int(l.Port))
		if err := say(ports, err); err != nil {
			return "", err
		}
	}
	for w, err := range tx.Workers() {
		if err := say(w.WorkerID, err); err != nil {
			return "", err
		}
		events, err := tx.WorkerEvents(w.WorkerID, 0, 0)
		if err := say(events, err); err != nil {
			return "", err
		}
	}
	for j, err := range tx.Jobs("", false) {
		if err := say(j, err); err != nil {
			return "", err
		}
		events, err := tx.JobEvents(j.JobID, 0, 0)
		if err := say(events, err); err != nil {
			return "", err
		}
	}
	for n, err := range tx.NamedPorts() {
		if err := say(n, err); err != nil {
			return "", err
		}
	}
	cursor, err := tx.Cursor()
	return out.String(), say(cursor, err)
}

// sample is a state file with all kinds of records over several pages, and what
// it says after its last commit and after the one before.
func sample(t *testing.T) (file []byte, states map[string]bool) {
	path := filepath.Join(t.TempDir(), "sample.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	states = map[string]bool{}
	for round := range uint16(6) {
		update(t, s, func(tx *store.Tx) {
			for i := range uint16(8) {
				port := 8080 + 8*round + i
				require.NoError(t, putWorker(tx, port))
				job := fmt.Sprintf("job-%d", port)
				require.NoError(t, tx.PutJob(store.Job{JobID: job, Operation: "worker_spawn", State: store.JobSucceeded}))
				require.NoError(t, tx.SetNamedPort(fmt.Sprintf("name-%d", port), port))
				for range 2 {
					_, err := tx.AppendEvent(store.Event{JobID: job, WorkerID: workerID(port), Message: "something happened"})
					require.NoError(t, err)
				}
			}
			require.NoError(t, tx.DeleteWorker(workerID(8080+8*round)))
			_, err := tx.EndLease(8080+8*round, leaseID(8080+8*round))
			require.NoError(t, err)
			require.NoError(t, tx.SetCursor(round))
		})
		if round >= 4 {
			view(t, s, func(tx *store.Tx) {
				state, err := dump(tx)
				require.NoError(t, err)
				states[state] = true
			})
		}
	}
	used := s.Stats().FileBytes
	require.NoError(t, s.Close())
	file, err = os.ReadFile(path)
	require.NoError(t, err)
	return file[:used], states // behind it there is only what bbolt has grown the file by
}

// verifyOutcome opens a damaged file. Either somebody says that it is damaged, or what
// it says is right: the last state, or the one before if a meta page was hit.
// The test process survives in any case; that is the other half of the test.
func verifyOutcome(t *testing.T, file []byte, states map[string]bool) (noticed bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	s, err := store.Open(t.Context(), store.Options{Path: path, Preallocate: 64 << 10})
	if err != nil {
		requireDamage(t, err)
		return true
	}
	defer func() { require.NoError(t, s.Close()) }()
	var state string
	err = s.View(func(tx *store.Tx) error {
		state, err = dump(tx)
		return err
	})
	found := s.Check(t.Context())
	if err != nil {
		requireDamage(t, err)
		require.Error(t, found, "Check says nothing, reading says: %v", err)
		return true
	}
	if found != nil {
		return true
	}
	require.True(t, states[state], "nobody says that this is damaged:\n%s", state)
	requireWritable(t, s)
	return false
}

func requireDamage(t *testing.T, err error) {
	t.Helper()
	var corrupt *store.CorruptError
	if errors.As(err, &corrupt) {
		require.Contains(t, err.Error(), "is damaged")
		return
	}
	// An empty root reads as a new file or as somebody else's.
	require.True(t, errors.Is(err, migrations.ErrForeign) || errors.Is(err, store.ErrNotFound), "%v", err)
}

// requireWritable writes to a file that passed: damage in what only writers
// use, like the sequence, must not overwrite anything either.
func requireWritable(t *testing.T, s *store.Store) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		if err := putWorker(tx, 9999); err != nil {
			return err
		}
		_, err := tx.AppendEvent(store.Event{Message: "after the damage"})
		return err
	})
	if err == nil {
		require.NoError(t, s.Check(t.Context()))
		return
	}
	requireDamage(t, err)
}

func TestFlippedBits(t *testing.T) {
	file, states := sample(t)
	random := rand.New(rand.NewPCG(1, 2))
	noticed := 0
	const rounds = 150
	for i := range rounds {
		damaged := append([]byte(nil), file...)
		at := random.IntN(len(damaged) - 8)
		what := fmt.Sprintf("one bit at %d", at)
		if i%2 == 0 {
			damaged[at] ^= 1 << random.IntN(8)
		} else {
			what = fmt.Sprintf("eight bytes at %d", at)
			binary.LittleEndian.PutUint64(damaged[at:], random.Uint64())
		}
		ok := t.Run(what, func(t *testing.T) {
			if verifyOutcome(t, damaged, states) {
				noticed++
			}
		})
		if !ok {
			return
		}
	}
	t.Logf("%d of %d were noticed; the others hit nothing that is used", noticed, rounds)
	require.Greater(t, noticed, rounds/10)
}

func TestTruncatedFiles(t *testing.T) {
	file, states := sample(t)
	for _, size := range []int{1, 100, 4095, 4096, 8191, 8192, 12288, 16384, len(file) / 4, len(file) / 2, len(file) * 3 / 4} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			require.True(t, verifyOutcome(t, file[:size], states))
		})
	}
	t.Run("zeros", func(t *testing.T) {
		require.True(t, verifyOutcome(t, make([]byte, len(file)), states))
	})
	t.Run("not a state file", func(t *testing.T) {
		require.True(t, verifyOutcome(t, []byte(strings.Repeat("workers:\n", 5000)), states))
	})
}

// Damage that would end the process inside bbolt, one of each kind.
func TestDamageThatWouldKillTheProcess(t *testing.T) {
	const page, header = 4096, 16
	ne := binary.NativeEndian
	for name, spoil := range map[string]func(t *testing.T, file []byte, root, freelist int){
		"a page that is its own child": func(t *testing.T, file []byte, root, _ int) {
			ne.PutUint16(file[root+8:], 1)           // a branch
			ne.PutUint16(file[root+10:], 1)          // of one child
			ne.PutUint32(file[root+header:], header) // its key
			ne.PutUint32(file[root+header+4:], 1)
			ne.PutUint64(file[root+header+8:], uint64(root/page))
		},
		"a list of free pages without end": func(t *testing.T, file []byte, _, freelist int) {
			ne.PutUint16(file[freelist+10:], 0xffff)
			ne.PutUint64(file[freelist+header:], 1<<40)
		},
		"a key beyond the mapping": func(t *testing.T, file []byte, root, _ int) {
			ne.PutUint32(file[root+header+4:], 0xfffffff0)
		},
		"a bucket beyond the file": func(t *testing.T, file []byte, root, _ int) {
			ne.PutUint16(file[root+8:], 1)
			ne.PutUint64(file[root+header+8:], 1<<30)
		},
		"a used page that is listed as free": func(t *testing.T, file []byte, root, freelist int) {
			require.NotZero(t, ne.Uint16(file[freelist+10:]))
			ne.PutUint64(file[freelist+header:], uint64(root/page))
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, states := sample(t)
			root, freelist := entryPoints(t, file)
			spoil(t, file, root, freelist)
			path := filepath.Join(t.TempDir(), "damaged.db")
			require.NoError(t, os.WriteFile(path, file, 0o600))
			_, err := store.Open(t.Context(), store.Options{Path: path})
			var corrupt *store.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.True(t, verifyOutcome(t, file, states))
		})
	}
}

// entryPoints finds where the newest meta page leads to.
func entryPoints(t *testing.T, file []byte) (root, freelist int) {
	newest := uint64(0)
	for _, at := range []int{16, 4096 + 16} {
		meta := file[at : at+64]
		sum := fnv.New64a()
		sum.Write(meta[:56])
		require.Equal(t, sum.Sum64(), binary.NativeEndian.Uint64(meta[56:]))
		if txid := binary.NativeEndian.Uint64(meta[48:]); txid > newest {
			newest = txid
			root = int(binary.NativeEndian.Uint64(meta[16:])) * 4096
			freelist = int(binary.NativeEndian.Uint64(meta[32:])) * 4096
		}
	}
	return root, freelist
}

// A bucket of somebody else's making is not repaired or written to.
func TestForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}))
	require.NoError(t, db.Close())
	_, err = store.Open(t.Context(), store.Options{Path: path})
	require.ErrorIs(t, err, migrations.ErrForeign)
}

// A good record under a wrong key is what a flipped bit in a key makes: a lease
// or a name of another port. The checksum covers the key.
func TestRecordUnderAnotherKey(t *testing.T) {
	for bucket, keys := range map[string][2]string{
		"names":   {"name", "nane"},
		"workers": {workerID(8080), workerID(8081)},
		"leases":  {"\x1f\x90", "\x1f\x91"},
	} {
		t.Run(bucket, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hive.db")
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			update(t, s, func(tx *store.Tx) {
				require.NoError(t, putWorker(tx, 8080))
				require.NoError(t, tx.SetNamedPort("name", 8080))
			})
			require.NoError(t, s.Close())
			db, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(bucket))
				value := b.Get([]byte(keys[0]))
				require.NotEmpty(t, value)
				return errors.Join(b.Put([]byte(keys[1]), value), b.Delete([]byte(keys[0])))
			}))
			require.NoError(t, db.Close())
			_, err = store.Open(t.Context(), store.Options{Path: path})
			var corrupt *store.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, bucket, corrupt.Bucket)
			require.Contains(t, corrupt.Reason, "checksum")
		})
	}
}

// Records that Open does not look at are verified when they are read, and by
// Check; the error names the record.
func TestDamagedJobIsNamedWhenItIsRead(t *testing.T) {
	s, path := openUnchecked(t)
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutJob(store.Job{JobID: "job-1", Operation: "worker_spawn"}))
	})
	require.NoError(t, s.Close())
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("jobs"))
		value := append([]byte(nil), b.Get([]byte("job-1"))...)
		value[len(value)-1] ^= 1
		return b.Put([]byte("job-1"), value)
	}))
	require.NoError(t, db.Close())
	s, err = store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	want := &store.CorruptError{Path: path, Bucket: "jobs", Key: "job-1", Reason: "checksum differs"}
	var corrupt *store.CorruptError
	require.ErrorAs(t, s.View(func(tx *store.Tx) error { _, err := tx.Job("job-1"); return err }), &corrupt)
	require.Equal(t, want, corrupt)
	require.ErrorAs(t, s.Check(t.Context()), &corrupt)
	require.Equal(t, want, corrupt)
	require.ErrorContains(t, corrupt, "bucket jobs, key job-1")
}
