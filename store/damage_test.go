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

// sample is a state file with all kinds of records over several pages, and what it says after
// its last commit (true) and after the one before.
func sample(t *testing.T) (file []byte, states map[string]bool) {
	t.Helper()
	_, file, states = sampleAt(t, 8)
	return file, states
}

// sampleAt is sample with the path of the file, where it is not a copy, and with so many workers
// a round.
func sampleAt(t *testing.T, workers uint16) (path string, file []byte, states map[string]bool) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sample.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	states = map[string]bool{}
	for round := range uint16(6) {
		update(t, s, func(tx *store.Tx) {
			for i := range workers {
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
				states[state] = round == 5
			})
		}
	}
	used := s.Stats().FileBytes
	require.NoError(t, s.Close())
	file, err = os.ReadFile(path)
	require.NoError(t, err)
	return path, file[:used], states // behind it there is only what bbolt has grown the file by
}

// verifyOutcome checks and opens a damaged file. Either both say that it is damaged, or what it
// says is right: the last state, or the one before if a meta page was hit, and then both say so.
// The test process survives in any case; that is the other half of the test. With write
// something is written to a file in which nothing is noticed. It is written in place: of a
// copy the opening records that it is one, which costs time.
func verifyOutcome(t *testing.T, path string, file []byte, states map[string]bool, write bool) (noticed bool) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, file, 0o600))
	lost, checked := offlineOutcome(t, path)
	s, err := store.Open(t.Context(), store.Options{Path: path, Preallocate: 64 << 10})
	if err != nil {
		requireDamage(t, err)
		require.Error(t, checked, "the check says nothing, the opening says: %v", err)
		return true
	}
	defer func() { require.NoError(t, s.Close()) }()
	requireReadLater(t, checked)
	require.Equal(t, lost, s.Meta().MetaPageLost)
	var state string
	err = s.View(func(tx *store.Tx) error {
		state, err = dump(tx)
		return err
	})
	if err != nil {
		requireDamage(t, err)
		require.Error(t, checked, "Check says nothing, reading says: %v", err)
	}
	if checked != nil {
		require.Error(t, s.Check(t.Context()), "that of a hive says nothing, the other: %v", checked)
		return true
	}
	last, known := states[state]
	require.True(t, known, "nobody says that this is damaged:\n%s", state)
	require.True(t, last || lost, "the last transaction is missing, and nobody says so")
	if write {
		requireWritable(t, s)
	}
	return false
}

// offlineOutcome is what a check says without a hive.
func offlineOutcome(t *testing.T, path string) (metaPageLost bool, err error) {
	t.Helper()
	o, err := store.OpenOffline(path, false)
	if err != nil {
		requireDamage(t, err)
		return false, err
	}
	defer func() { require.NoError(t, o.Close()) }()
	return o.Meta().MetaPageLost, o.Check(t.Context())
}

// requireReadLater requires that what a check has found is in records that the opening leaves
// alone, and that nothing is missing in those that hive goes by when it starts.
func requireReadLater(t *testing.T, checked error) {
	t.Helper()
	found, rest := store.Findings(checked)
	require.NoError(t, rest)
	for _, f := range found {
		require.Contains(t, []string{"ended", "jobs", "events", "byjob", "byworker", "keys"}, f.Bucket, f.Reason)
	}
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
	path, file, states := sampleAt(t, 3)
	random := rand.New(rand.NewPCG(1, 2))
	noticed := 0
	const rounds = 550
	for i := range rounds {
		damaged := append([]byte(nil), file...)
		at := random.IntN(len(damaged) - 8)
		what := fmt.Sprintf("one bit at %d", at)
		if i%11 > 0 {
			damaged[at] ^= 1 << random.IntN(8)
		} else {
			what = fmt.Sprintf("eight bytes at %d", at)
			binary.LittleEndian.PutUint64(damaged[at:], random.Uint64())
		}
		ok := t.Run(what, func(t *testing.T) {
			if verifyOutcome(t, path, damaged, states, i%8 == 0) {
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
	path, file, states := sampleAt(t, 8)
	// Each page boundary, and the middle of each page.
	for size := 0; size < len(file); size += 2048 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			require.True(t, verifyOutcome(t, path, file[:size], states, false))
		})
	}
	t.Run("zeros", func(t *testing.T) {
		require.True(t, verifyOutcome(t, path, make([]byte, len(file)), states, false))
	})
	t.Run("not a state file", func(t *testing.T) {
		require.True(t, verifyOutcome(t, path, []byte(strings.Repeat("workers:\n", 5000)), states, false))
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
			require.True(t, verifyOutcome(t, path, file, states, false))
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
