//go:build linux

package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/store"
)

// A hive that was ended in its first start leaves a file without records, and the next one goes
// on with it: it is nobody else's, and not damaged.
func TestAFileThatWasNotUsedYet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.ErrorIs(t, offlineCheck(t, path), store.ErrUnused)
	openClose(t, store.Options{Path: path})
	require.NoError(t, offlineCheck(t, path))
}

// hive starts with a file of which one meta page is lost, and writes it anew; so it is not
// damaged for others either. But the last transaction may be missing, and both say that.
func TestOneMetaPageIsLost(t *testing.T) {
	file, states := sample(t)
	first, second := file[:4096], file[4096:8192]
	newer := 0
	if txid(second) > txid(first) {
		newer = 1
	}
	metas := [][]byte{first, second}
	zeros := make([]byte, 4096)
	for name, c := range map[string]struct {
		metas [][]byte
		last  bool // nothing is missing
	}{
		"the older":       {withMeta(metas, 1-newer, zeros), true},
		"the newer":       {withMeta(metas, newer, zeros), false},
		"swapped":         {[][]byte{second, first}, true},
		"the newer twice": {[][]byte{metas[newer], metas[newer]}, true},
		"the older twice": {[][]byte{metas[1-newer], metas[1-newer]}, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hive.db")
			require.NoError(t, os.WriteFile(path, slices.Concat(c.metas[0], c.metas[1], file[8192:]), 0o600))
			lost, err := offlineOutcome(t, path)
			require.NoError(t, err)
			require.True(t, lost)
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			require.True(t, s.Meta().MetaPageLost)
			require.NoError(t, s.Check(t.Context()))
			last, known := states[stateOf(t, s)]
			require.True(t, known)
			require.Equal(t, c.last, last)
			update(t, s, func(tx *store.Tx) { require.NoError(t, tx.SetCursor(9)) }) // of two that were swapped the opening writes one
			require.NoError(t, s.Close())
			lost, err = offlineOutcome(t, path)
			require.NoError(t, err)
			require.False(t, lost, "it was written anew")
		})
	}
}

func withMeta(metas [][]byte, n int, page []byte) [][]byte {
	metas = slices.Clone(metas)
	metas[n] = page
	return metas
}

// txid is the number of a meta page's transaction.
func txid(meta []byte) uint64 { return binary.NativeEndian.Uint64(meta[16+48:]) }

func stateOf(t *testing.T, s *store.Store) (state string) {
	t.Helper()
	require.NoError(t, s.View(func(tx *store.Tx) (err error) {
		state, err = dump(tx)
		return err
	}))
	return state
}

// bbolt keeps the number of the last event without a checksum. One that is too low would be
// given out twice; one that is too high leaves a gap, and does no harm.
func TestFlipsInTheSequence(t *testing.T) {
	path, file, states := sampleAt(t, 3)
	root, _ := entryPoints(t, file)
	at := bytes.Index(file[root:][:4096], []byte("events")) + root + len("events") + 8
	require.EqualValues(t, 36, binary.NativeEndian.Uint64(file[at:]))
	for bit := range 64 {
		damaged := bytes.Clone(file)
		damaged[at+bit/8] ^= 1 << (bit % 8)
		lower := binary.NativeEndian.Uint64(damaged[at:]) < 36
		require.Equal(t, lower, verifyOutcome(t, path, damaged, states, bit%8 == 0), "bit %d", bit)
		if lower {
			_, err := store.Open(t.Context(), store.Options{Path: path})
			require.ErrorContains(t, err, "the sequence is behind it")
		}
	}
}

// An older copy is a whole file: nobody can tell what is missing. One that was put in the place
// of the file is known to be another file; one that was written onto it is not (package
// comment), and its transactions go on where it ended.
func TestAnOlderCopyInThePlaceOfTheFile(t *testing.T) {
	dir := t.TempDir()
	path, older := filepath.Join(dir, "hive.db"), filepath.Join(dir, "older.db")
	for range 2 {
		s, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		update(t, s, func(tx *store.Tx) {
			_, err := tx.AppendEvent(store.Event{Message: "something happened"})
			require.NoError(t, err)
		})
		require.NoError(t, s.Close())
		if _, err := os.Stat(older); err != nil {
			copyFile(t, path, older)
		}
	}
	for _, c := range []struct {
		put       func()
		relocated bool
	}{
		{func() { copyFile(t, older, path) }, false},
		{func() { require.NoError(t, os.Rename(older, path)) }, true},
	} {
		c.put()
		require.NoError(t, offlineCheck(t, path))
		s, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		require.Equal(t, c.relocated, s.Meta().Relocated)
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.View(func(tx *store.Tx) error {
			b, err := tx.EventBounds()
			require.EqualValues(t, 1, b.Newest)
			return err
		}))
		require.NoError(t, s.Close())
	}
}

// A file that is copied while a hive writes to it is of several moments. Either both say that
// it is damaged, or it can be read and written.
func TestCopiesOfAFileThatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	var commits atomic.Int64
	go func() { stopped <- writeUntil(s, stop, &commits) }()
	var copies [][]byte
	for len(copies) < 30 {
		copies = append(copies, copySlowly(t, path, &commits))
	}
	close(stop)
	require.NoError(t, <-stopped)
	require.NoError(t, s.Close())
	place, damaged := filepath.Join(t.TempDir(), "copy.db"), 0
	for _, c := range copies {
		require.NoError(t, os.WriteFile(place, c, 0o600))
		_, checked := offlineOutcome(t, place)
		s, err := store.Open(t.Context(), store.Options{Path: place, Preallocate: 64 << 10})
		if err != nil {
			requireDamage(t, err)
			require.Error(t, checked)
			damaged++
			continue
		}
		if checked == nil {
			stateOf(t, s)
			requireWritable(t, s)
		} else {
			require.Error(t, s.Check(t.Context()))
			damaged++
		}
		require.NoError(t, s.Close())
	}
	t.Logf("%d of %d copies were damaged", damaged, len(copies))
}

// writeUntil writes records of all kinds in one transaction after the other.
func writeUntil(s *store.Store, stop chan struct{}, commits *atomic.Int64) error {
	for n := uint16(0); ; n++ {
		commits.Add(1)
		select {
		case <-stop:
			return nil
		default:
		}
		port := 8080 + n%64
		err := s.Update(context.Background(), func(tx *store.Tx) error {
			if _, err := tx.EndLease(port, leaseID(port)); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			job := fmt.Sprintf("job-%05d", n)
			for range 3 {
				if _, err := tx.AppendEvent(store.Event{JobID: job, WorkerID: workerID(port), Message: "something happened"}); err != nil {
					return err
				}
			}
			return errors.Join(putWorker(tx, port), tx.PutJob(store.Job{JobID: job, Operation: "worker_spawn", State: store.JobSucceeded}))
		})
		if err != nil {
			return err
		}
	}
}

// copySlowly copies the beginning of a file, which is all of it that is in use, while some
// transactions are committed.
func copySlowly(t *testing.T, path string, commits *atomic.Int64) (content []byte) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for part := make([]byte, 8*4096); len(content) < 16*len(part); {
		n, err := f.Read(part)
		if errors.Is(err, io.EOF) { // it does not have as much yet
			break
		}
		require.NoError(t, err)
		content = append(content, part[:n]...)
		if len(content)%(4*len(part)) != 0 {
			continue
		}
		before := commits.Load()
		require.Eventually(t, func() bool { return commits.Load() > before }, time.Minute, 100*time.Microsecond)
	}
	return content
}
