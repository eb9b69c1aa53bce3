package salvage

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// A backup of a time to come was made while the clock was ahead: it may be older than any.
func TestTheNewestBackup(t *testing.T) {
	dir := t.TempDir()
	for name, at := range map[string]time.Time{
		"old.db": time.Now().Add(-48 * time.Hour), "new.db": time.Now().Add(-time.Hour), "ahead.db": time.Now().Add(1000 * time.Hour),
	} {
		path := filepath.Join(dir, name)
		st, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(t, err)
		require.NoError(t, st.Close())
		require.NoError(t, os.Chtimes(path, at, at))
	}
	for _, want := range []string{"new.db", "old.db", "ahead.db"} {
		path, at, err := newestGood(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, want, filepath.Base(path))
		require.False(t, at.IsZero())
		require.NoError(t, os.Remove(path))
	}
}

// There is nothing to make a file from: an empty one only keeps hive from making a new one.
func TestNothingToSalvage(t *testing.T) {
	dir := t.TempDir()
	_, err := Make(t.Context(), dir)
	require.ErrorIs(t, err, ErrNothing)
	path := filepath.Join(dir, "hive.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Make(t.Context(), dir)
	require.ErrorIs(t, err, ErrNothing)
	require.ErrorContains(t, err, path+" is empty: remove it first; no state file, no good backup and no running worker")
}
