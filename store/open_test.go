//go:build linux

package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

// openClose opens the file, says what it is, and closes it.
func openClose(t *testing.T, o store.Options) store.Meta {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return s.Meta()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o600))
}

func TestNewFile(t *testing.T) {
	o := store.Options{Path: filepath.Join(t.TempDir(), "hive.db"), MachineID: "m1"}
	first := openClose(t, o)
	require.Equal(t, migrations.Current(), first.Schema)
	require.Len(t, first.StateID, 36)
	require.EqualValues(t, 1, first.Incarnation)
	require.Equal(t, "m1", first.MachineID)
	require.NotZero(t, first.Ino)
	require.WithinDuration(t, time.Now(), first.CreatedAt, time.Minute)
	require.False(t, first.Relocated)
	info, err := os.Stat(o.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Equal(t, first, openClose(t, o), "nothing changes when it is opened again")
	_, err = store.Open(t.Context(), store.Options{})
	require.ErrorContains(t, err, "no path")
	_, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "no", "hive.db")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A file is never seen before it is whole, and one that is empty is none of a hive that was
// killed at its first start: it is all that is left of another.
func TestAnEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path, OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NotZero(t, info.Size())
		require.Zero(t, flag&os.O_CREATE)
		return os.OpenFile(name, flag, perm)
	}})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")

	require.NoError(t, os.Truncate(path, 0))
	_, err = store.Open(t.Context(), store.Options{Path: path})
	require.ErrorContains(t, err, "state file "+path+" is damaged: it is empty")
	require.ErrorAs(t, err, new(*store.CorruptError))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Size(), "it stays as it is")
	require.NoError(t, os.Remove(path))
	openClose(t, store.Options{Path: path})
}

// childHold opens a store and keeps it until its standard input ends.
func childHold(args []string) int {
	ctx, done := childContext()
	defer done()
	s, err := store.Open(ctx, store.Options{Path: args[0]})
	if err != nil {
		return childFailed(err)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(); err != nil {
		return childFailed(err)
	}
	return 0
}

// holder starts a process that holds the file, and ends it.
func holder(t *testing.T, path string) (pid int, end func(kill bool)) {
	t.Helper()
	cmd := childCommand(t, "hold", path)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)
	return cmd.Process.Pid, func(kill bool) {
		if kill {
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			return
		}
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	}
}

func TestSecondProcessIsToldWhoHoldsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	pid, end := holder(t, path)
	start := time.Now()
	_, err := store.Open(t.Context(), store.Options{Path: path, LockTimeout: 100 * time.Millisecond})
	var locked *store.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, &store.LockedError{Path: path, PID: pid}, locked)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", pid))
	require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = store.Open(ctx, store.Options{Path: path, LockTimeout: time.Hour})
	require.ErrorIs(t, err, context.DeadlineExceeded, "ctx ends the waiting")
	require.Contains(t, (&store.LockedError{Path: path}).Error(), "a process that cannot be seen from here", "helps without a PID too")

	// A hive that is restarted waits for the one that is on its way out.
	opened := make(chan error, 1)
	go func() {
		s, err := store.Open(t.Context(), store.Options{Path: path, LockTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	end(true)
	require.NoError(t, <-opened)
	storetest.Check(t, path)
}

func TestCopyOfARunningHiveIsRefused(t *testing.T) {
	dir := t.TempDir()
	original, copied := filepath.Join(dir, "hive.db"), filepath.Join(dir, "copy.db")
	first := openClose(t, store.Options{Path: original})
	_, end := holder(t, original)
	copyFile(t, original, copied)
	before, err := os.ReadFile(copied)
	require.NoError(t, err)
	_, err = store.Open(t.Context(), store.Options{Path: copied})
	require.ErrorIs(t, err, store.ErrClaimed)
	after, err := os.ReadFile(copied)
	require.NoError(t, err)
	require.Equal(t, before, after, "nothing is written to it")
	end(false)

	moved := openClose(t, store.Options{Path: copied})
	require.True(t, moved.Relocated)
	require.NotEqual(t, first.StateID, moved.StateID)
	require.Equal(t, first.CreatedAt, moved.CreatedAt)
	again := openClose(t, store.Options{Path: copied})
	require.False(t, again.Relocated, "only the first start is told")
	require.Equal(t, moved.StateID, again.StateID)

	// Now they are two states, and run side by side.
	_, end = holder(t, original)
	require.Equal(t, moved.StateID, openClose(t, store.Options{Path: copied}).StateID)
	end(false)
	require.Equal(t, first.StateID, openClose(t, store.Options{Path: original}).StateID)
}

// A backup put back by delete and copy often gets the same inode number again.
func TestRestoredFileWithTheSameInodeIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	first := openClose(t, store.Options{Path: path})
	copyFile(t, path, path+".bak")
	require.NoError(t, os.Remove(path))
	copyFile(t, path+".bak", path)
	second := openClose(t, store.Options{Path: path})
	require.True(t, second.Relocated)
	require.NotEqual(t, first.StateID, second.StateID)
}

func TestOtherMachine(t *testing.T) {
	o := store.Options{Path: filepath.Join(t.TempDir(), "hive.db")}
	require.Empty(t, openClose(t, o).MachineID)
	o.MachineID = "m1"
	first := openClose(t, o)
	require.Equal(t, "m1", first.MachineID)
	o.MachineID = ""
	require.Equal(t, first, openClose(t, o), "without an id nothing is compared or lost")
	o.MachineID = "m2"
	_, err := store.Open(t.Context(), o)
	var other *store.OtherMachineError
	require.ErrorAs(t, err, &other)
	require.Equal(t, &store.OtherMachineError{Path: o.Path, Recorded: "m1", This: "m2"}, other)
	require.ErrorContains(t, err, "--take-over")
	o.TakeOver = true
	taken := openClose(t, o)
	require.Equal(t, "m2", taken.MachineID)
	require.EqualValues(t, 2, taken.Incarnation)
	require.EqualValues(t, 2, openClose(t, o).Incarnation, "there is nothing left to take over")
}

func TestMigrationMakesABackupAndOlderBuildRefuses(t *testing.T) {
	dir := t.TempDir()
	o := store.Options{Path: filepath.Join(dir, "hive.db"), BackupDir: filepath.Join(dir, "b", "backups")}
	s, err := store.Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), setName("kept", 8080)))
	require.NoError(t, s.Close())
	require.NoDirExists(t, o.BackupDir, "creating a file needs no backup")

	newer := o
	broken := errors.New("broken")
	store.SetSteps(&newer, append(migrations.Steps(), migrations.Step{To: 2, Name: "break", Run: func(*bbolt.Tx) error { return broken }}))
	_, err = store.Open(t.Context(), newer)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, openClose(t, o).Schema)

	store.SetSteps(&newer, append(migrations.Steps(), migrations.Step{To: 2, Name: "add a bucket", Run: func(btx *bbolt.Tx) error {
		_, err := btx.CreateBucket([]byte("later"))
		return err
	}}))
	require.Equal(t, 2, openClose(t, newer).Schema)
	_, err = store.Open(t.Context(), o)
	require.ErrorIs(t, err, migrations.ErrNewer)
	require.ErrorContains(t, err, "schema 2")
	require.ErrorContains(t, err, "up to schema 1")

	backups, err := filepath.Glob(filepath.Join(o.BackupDir, "hive-schema1-*.db"))
	require.NoError(t, err)
	require.Len(t, backups, 2, "one for each attempt")
	left, err := os.ReadDir(o.BackupDir)
	require.NoError(t, err)
	require.Len(t, left, 2, "no temporary files")
	for _, b := range backups {
		storetest.Check(t, b)
		s, err := store.Open(t.Context(), store.Options{Path: b})
		require.NoError(t, err)
		require.Equal(t, map[string]uint16{"kept": 8080}, names(t, s))
		require.NoError(t, s.Close())
	}
}

// A first start that was killed between creating the buckets and writing the
// state id is finished by the next one; a state id missing beside records is damage.
func TestInterruptedFirstStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, migrations.Apply(db, migrations.Steps(), nil))
	require.NoError(t, db.Close())
	require.NotEmpty(t, openClose(t, store.Options{Path: path}).StateID)

	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error { return store.RawDelete(tx, "meta", []byte("state_id")) }))
	require.NoError(t, s.Close())
	var corrupt *store.CorruptError
	_, err = store.Open(t.Context(), store.Options{Path: path})
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, "state_id", corrupt.Key)
}

func TestOpenFileErrorComesThrough(t *testing.T) {
	broken := errors.New("broken")
	_, err := store.Open(t.Context(), store.Options{
		Path:     filepath.Join(t.TempDir(), "hive.db"),
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return nil, broken },
	})
	require.ErrorIs(t, err, broken)
}
