//go:build linux

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store"
)

// withStep2 opens a file as a build would that has one more schema: a bucket with a
// copy of every worker, which takes several pages.
func withStep2(path string) store.Options {
	o := store.Options{Path: path, TakeOver: true, Preallocate: 64 << 10}
	store.SetSteps(&o, append(migrations.Steps(), migrations.Step{To: 2, Name: "copy the workers", Run: copyWorkers}))
	return o
}

func copyWorkers(btx *bbolt.Tx) error {
	later, err := btx.CreateBucket([]byte("later"))
	if err != nil {
		return err
	}
	return btx.Bucket([]byte("workers")).ForEach(func(k, v []byte) error { return later.Put(k, v) })
}

// An older build refuses a newer file, and says the way back: the backup that was
// made before the upgrade, and the command that puts it in place.
func TestTheWayBack(t *testing.T) {
	path := recorded(t)["schema1-now"]
	old := everything(t, path, "meta/file", "meta/incarnation")
	require.Equal(t, 2, openClose(t, withStep2(path)).Schema)
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	_, err = store.Open(t.Context(), store.Options{Path: path, TakeOver: true})
	require.ErrorIs(t, err, migrations.ErrNewer)
	backups, err2 := filepath.Glob(filepath.Join(filepath.Dir(path), "backups", "hive-schema1-*.db"))
	require.NoError(t, err2)
	require.Len(t, backups, 1)
	require.ErrorContains(t, err, "state file has schema 2, this build supports up to schema 1")
	require.ErrorContains(t, err, "`hivectl db restore --data-dir "+filepath.Dir(path)+" "+backups[0]+"`")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after, "the file is not touched")

	_, err = store.Restore(t.Context(), backups[0], path, path+".newer", false)
	require.NoError(t, err, "that the present file is newer does not matter")
	require.Equal(t, old, everything(t, path, "meta/file", "meta/incarnation"))
	require.Equal(t, 1, openClose(t, store.Options{Path: path, TakeOver: true}).Schema)

	require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(path), "backups")))
	require.NoError(t, os.Rename(path+".newer", path))
	_, err = store.Open(t.Context(), store.Options{Path: path, TakeOver: true})
	require.ErrorContains(t, err, "there is no backup from before the upgrade in "+filepath.Join(filepath.Dir(path), "backups"))
}

// The other commands refuse it too: they do not know what the records mean.
func TestANewerFileIsLeftAlone(t *testing.T) {
	path := recorded(t)["schema1-now"]
	require.Equal(t, 2, openClose(t, withStep2(path)).Schema)
	require.ErrorIs(t, offlineCheck(t, path), migrations.ErrNewer)
	_, _, err := store.Compact(t.Context(), path)
	require.ErrorIs(t, err, migrations.ErrNewer)
	_, err = store.Restore(t.Context(), path, filepath.Join(t.TempDir(), "hive.db"), "", false)
	require.ErrorIs(t, err, migrations.ErrNewer)
	h, err := store.LockFile(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Release()) }()
	_, err = store.Gather(h.File(), false)
	require.ErrorIs(t, err, migrations.ErrNewer)
}
