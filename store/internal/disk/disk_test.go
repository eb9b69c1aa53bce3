//go:build linux

package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store/internal/disk"
)

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func put(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestWriteFileIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	write := func(s string) func(*os.File) error {
		return func(f *os.File) error {
			require.NotContains(t, names(t, dir), "file.tmp")
			_, err := f.WriteString(s)
			return err
		}
	}
	require.NoError(t, disk.WriteFile(path, false, write("one")))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())

	require.ErrorIs(t, disk.WriteFile(path, false, write("two")), fs.ErrExist)
	require.Equal(t, "one", text(t, path), "what was there stays")
	require.NoError(t, disk.WriteFile(path, true, write("two")))
	require.Equal(t, "two", text(t, path))

	cause := errors.New("half way")
	err = disk.WriteFile(path, true, func(f *os.File) error {
		_, _ = f.WriteString("thr")
		return cause
	})
	require.ErrorIs(t, err, cause)
	require.Equal(t, "two", text(t, path))
	require.Equal(t, []string{"file"}, names(t, dir), "no temporary file is left")
	require.ErrorIs(t, disk.WriteFile(filepath.Join(dir, "none", "file"), true, write("")), fs.ErrNotExist)
}

func TestReplaceKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path, fresh, saved := filepath.Join(dir, "file"), filepath.Join(dir, "fresh"), filepath.Join(dir, "saved")
	put(t, path, "old")
	put(t, fresh, "new")
	put(t, saved, "other")
	require.ErrorIs(t, disk.Replace(fresh, path, saved), fs.ErrExist, "another file that was put aside is kept")
	require.Equal(t, "old", text(t, path))
	require.NoError(t, os.Remove(saved))

	require.NoError(t, disk.Replace(fresh, path, saved))
	require.Equal(t, "new", text(t, path))
	require.Equal(t, "old", text(t, saved))

	put(t, fresh, "newer")
	require.NoError(t, disk.Replace(fresh, path, ""))
	require.Equal(t, []string{"file", "saved"}, names(t, dir))
}

func TestPutNewDoesNotReplace(t *testing.T) {
	dir := t.TempDir()
	path, fresh := filepath.Join(dir, "file"), filepath.Join(dir, "fresh")
	put(t, fresh, "new")
	require.NoError(t, disk.PutNew(fresh, path))
	require.Equal(t, "new", text(t, path))
	require.NoError(t, os.Remove(fresh)) // it is the same file
	put(t, path, "a hive's that was started meanwhile")
	put(t, fresh, "newer")
	var locked *disk.LockedError
	require.ErrorAs(t, disk.PutNew(fresh, path), &locked)
	require.Equal(t, path, locked.Path)
	require.Equal(t, "a hive's that was started meanwhile", text(t, path))
}

func TestTempBesideRemovesOnlyStaleOnesOfItsKind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hive.db")
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{".hive.db.restore-1", ".hive.db.salvage-1", "hive.db.restore-2", ".other.db.restore-1"} {
		put(t, filepath.Join(dir, name), "")
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	put(t, filepath.Join(dir, ".hive.db.restore-young"), "")
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".hive.db.restore-dir"), 0o700))
	require.NoError(t, os.Chtimes(filepath.Join(dir, ".hive.db.restore-dir"), old, old))

	temp, err := disk.TempBeside(path, "restore")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		filepath.Base(temp), ".hive.db.salvage-1", "hive.db.restore-2", ".other.db.restore-1",
		".hive.db.restore-young", ".hive.db.restore-dir",
	}, names(t, dir))
	disk.Discard(temp)
	disk.Discard(temp) // gone already
	require.NoFileExists(t, temp)
	_, err = disk.TempBeside(filepath.Join(dir, "none", "hive.db"), "restore")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, path, "")
	open := func() *os.File {
		f, err := os.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	one, two, three := open(), open(), open()
	require.NoError(t, disk.LockHere(one, path, false))
	require.NoError(t, disk.LockHere(two, path, false), "readers share it")
	var locked *disk.LockedError
	require.ErrorAs(t, disk.LockHere(three, path, true), &locked)
	require.Contains(t, locked.Error(), path)
	require.NoError(t, disk.Unlock(one))
	require.NoError(t, disk.Unlock(two))
	require.NoError(t, disk.LockHere(three, path, true))
	require.ErrorAs(t, disk.LockHere(one, path, false), &locked)
	require.NoError(t, three.Close(), "which releases it, as the death of its process does")
	require.NoError(t, disk.LockHere(one, path, true))

	// Replaced between open and lock: the lock would protect a file that nobody finds again.
	require.NoError(t, disk.Unlock(one))
	put(t, path+".new", "")
	require.NoError(t, os.Rename(path+".new", path))
	require.False(t, disk.Named(one, path))
	require.ErrorAs(t, disk.LockHere(one, path, true), &locked)
	require.True(t, disk.Named(open(), path))
	require.NoError(t, os.Remove(path))
	require.False(t, disk.Named(one, path))
}

func TestLockedErrorSaysWhoHasIt(t *testing.T) {
	require.EqualError(t, &disk.LockedError{Path: "/x", PID: 4711}, "state file /x is held by process 4711: is a hive already running on this directory?")
	require.ErrorContains(t, &disk.LockedError{Path: "/x"}, "cannot be seen from here")
}

func TestIdentityTellsACopy(t *testing.T) {
	dir := t.TempDir()
	identify := func(name string) disk.ID {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		defer f.Close()
		id, err := disk.Identify(f)
		require.NoError(t, err)
		require.NotZero(t, id.Ino)
		return id
	}
	put(t, filepath.Join(dir, "a"), "same")
	put(t, filepath.Join(dir, "b"), "same")
	require.True(t, identify("a").Same(identify("a")))
	require.False(t, identify("a").Same(identify("b")))
	require.NoError(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
	c := identify("c")
	require.False(t, c.Same(identify("b")), "a name is not what a file is")

	reused := c
	reused.Born++
	require.False(t, c.Same(reused), "another file with the inode number of one that is gone")
	reused.Born = 0
	require.True(t, c.Same(reused), "a file system that keeps no time of creation")
	require.True(t, c.Same(disk.ID{}), "a system that knows no identity")
}

func TestClaimHasOneHolder(t *testing.T) {
	id := filepath.Base(t.TempDir()) + "-" + time.Now().Format(time.RFC3339Nano)
	c, err := disk.NewClaim(id)
	require.NoError(t, err)
	_, err = disk.NewClaim(id)
	require.ErrorIs(t, err, disk.ErrClaimed)
	other, err := disk.NewClaim(id + "-other")
	require.NoError(t, err)
	require.NoError(t, other.Release())
	require.NoError(t, c.Release())
	c, err = disk.NewClaim(id)
	require.NoError(t, err)
	require.NoError(t, c.Release())
	require.NoError(t, (*disk.Claim)(nil).Release())
}
