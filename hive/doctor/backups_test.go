package doctor_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/doctor"
)

func TestFindBackups(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backups")
	found, err := doctor.FindBackups(dir)
	require.NoError(t, err, "no directory yet")
	require.Zero(t, found)

	require.NoError(t, os.Mkdir(dir, 0o700))
	newest := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, at := range map[string]time.Time{
		"hive-auto-1.db":       newest.Add(-time.Hour),
		"by-hand.db":           newest, // whoever made it
		".hive-auto-2.db.part": newest.Add(time.Hour),
		"notes.txt":            newest.Add(time.Hour),
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	found, err = doctor.FindBackups(dir)
	require.NoError(t, err)
	require.Equal(t, 2, found.Count)
	require.True(t, newest.Equal(found.Newest), found.Newest)

	_, err = doctor.FindBackups(filepath.Join(dir, "notes.txt"))
	require.ErrorContains(t, err, "list the backups: ")
}
