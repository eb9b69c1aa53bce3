//go:build linux

package store_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

func gathered(t *testing.T, file []byte) *store.Gathered {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hive.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	h, err := store.LockFile(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Release()) }()
	g, err := store.Gather(h.File(), false)
	require.NoError(t, err)
	return g
}

func TestGatherAWholeFile(t *testing.T) {
	file, _ := sample(t)
	g := gathered(t, file)
	require.Empty(t, g.Damage)
	require.Len(t, g.Leases, 42)
	require.Len(t, g.Workers, 42)
	require.Len(t, g.Tombstones, 6)
	require.Len(t, g.Jobs, 48)
	require.Len(t, g.Names, 48)
	require.Len(t, g.Events, 96)
	require.Len(t, g.StateIDs, 1)
	require.EqualValues(t, 96, g.Sequence)
	require.EqualValues(t, 5, g.Cursor)
	require.EqualValues(t, 1, g.Incarnation)
	for b, whole := range g.Whole {
		require.True(t, whole, b)
	}
}

// Wherever a page is lost, the others are read, and what is said to be current
// is what the file held. A record that is missing is of a bucket that is not whole.
func TestGatherAroundEachPage(t *testing.T) {
	file, _ := sample(t)
	truth := gathered(t, file)
	current := map[string]store.Worker{}
	for _, w := range truth.Workers {
		current[w.Record.WorkerID] = w.Record
	}
	for at := 0; at+4096 <= len(file); at += 4096 {
		damaged := append([]byte(nil), file...)
		clear(damaged[at : at+4096])
		g := gathered(t, damaged)
		have := map[string]bool{}
		for _, w := range g.Workers {
			if w.Source == store.FromTree || w.Source == store.FromLost {
				require.Equal(t, current[w.Record.WorkerID], w.Record, "page %d", at/4096)
				have[w.Record.WorkerID] = true
			}
		}
		if at >= 2*4096 && len(have) < len(current) {
			require.False(t, g.Whole["workers"], "page %d", at/4096)
			require.NotEmpty(t, g.Damage)
		}
		require.Greater(t, len(g.Workers), 20, "page %d: the others are read", at/4096)
	}
}

// Both meta pages gone: everything is read from loose pages, with nothing to tell
// what is current.
func TestGatherWithoutMetaPages(t *testing.T) {
	file, _ := sample(t)
	clear(file[:2*4096])
	g := gathered(t, file)
	ids := map[string]bool{}
	for _, w := range g.Workers {
		require.Equal(t, store.FromFreed, w.Source)
		ids[w.Record.WorkerID] = true
	}
	require.GreaterOrEqual(t, len(ids), 42)
	require.EqualValues(t, 96, g.Sequence)
	require.False(t, g.Whole["workers"])
}

func TestGatherWhatIsNoStateFile(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	file, _ := sample(t)
	noise := make([]byte, len(file))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for name, bytes := range map[string][]byte{"nothing": nil, "one byte": {1}, "zeros": make([]byte, len(file)), "noise": noise} {
		g := gathered(t, bytes)
		require.NotEmpty(t, g.Damage, name)
		require.Empty(t, g.Workers, name)
		require.Empty(t, g.StateIDs, name)
	}
	for range 60 { // it comes to an end whatever stands where
		damaged := append([]byte(nil), file...)
		for range 20 {
			at := random.IntN(len(damaged) - 8)
			copy(damaged[at:], noise[at:at+8])
		}
		gathered(t, damaged)
	}
}

func TestRebuildWhatWasGathered(t *testing.T) {
	file, _ := sample(t)
	g := gathered(t, file)
	c := store.Content{StateID: g.StateIDs[0].Record, Incarnation: 7, Cursor: g.Cursor, Sequence: g.Sequence + 100}
	for _, v := range g.Leases {
		c.Leases = append(c.Leases, v.Record)
	}
	for _, v := range g.Workers {
		c.Workers = append(c.Workers, v.Record)
	}
	for _, v := range g.Tombstones {
		c.Tombstones = append(c.Tombstones, v.Record)
	}
	for _, v := range g.Names {
		c.Names = append(c.Names, v.Record)
	}
	for _, v := range g.Jobs {
		c.Jobs = append(c.Jobs, v.Record)
	}
	for _, v := range g.Events {
		c.Events = append(c.Events, v.Record)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "hive.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	held, err := store.LockFile(path)
	require.NoError(t, err)
	require.NoError(t, store.Rebuild(t.Context(), path, held, path+".damaged", c))
	require.NoError(t, held.Release())
	require.Equal(t, []string{"hive.db", "hive.db.damaged"}, namesIn(t, dir))
	want, got := dumped(t, path+".damaged"), dumped(t, path)
	for key, value := range want.good {
		if len(key) < 5 || key[:5] != "meta/" {
			if _, there := got.good[key]; !there && key[:9] == "byworker/" {
				continue // of a worker that has no record
			}
			require.Equal(t, value, got.good[key], key)
		}
	}
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.True(t, s.Meta().Relocated)
	require.EqualValues(t, 7, s.Meta().Incarnation)
	update(t, s, func(tx *store.Tx) {
		ev, err := tx.AppendEvent(store.Event{Message: "after it"})
		require.NoError(t, err)
		require.EqualValues(t, 197, ev.Seq)
	})
	require.NoError(t, s.Check(t.Context()))
}

// What contradicts itself does not come into place.
func TestRebuildChecksWhatItHasWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hive.db")
	err := store.Rebuild(t.Context(), path, nil, "", store.Content{Workers: []store.Worker{{WorkerID: "a", State: store.WorkerReady, Port: 8080}}})
	require.ErrorIs(t, err, store.ErrInconsistent)
	require.Empty(t, namesIn(t, dir))
}
