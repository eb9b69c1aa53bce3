package db_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/db"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// stranger is a user who has nothing to do with hive.
const stranger = 54321

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root can give files away")
}

// newState is a state directory with a file that no hive has.
func newState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	s, err := store.Open(t.Context(), store.Options{Path: db.State(dir)})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return dir
}

func give(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.Lchown(path, stranger, stranger))
}

// refused requires a *db.Refusal that says all of it.
func refused(t *testing.T, err error, text, hint string) {
	t.Helper()
	var r *db.Refusal
	require.True(t, errors.As(err, &r), "%v", err)
	require.Contains(t, r.Text, text)
	require.Contains(t, r.Hint, hint)
}

// all is every command with a state directory; each may change something in it.
func all(t *testing.T, dir, backup string) map[string]error {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	errs := map[string]error{}
	_, errs["check"] = db.Check(ctx, dir)
	_, errs["dump"] = db.Dump(dir, io.Discard)
	_, errs["backup"] = db.Backup(ctx, dir, filepath.Join(t.TempDir(), "b.db"), true, now)
	_, errs["restore"] = db.Restore(ctx, dir, backup, false, now)
	_, errs["compact"] = db.Compact(ctx, dir)
	s, err := db.PlanSalvage(ctx, dir)
	if err == nil {
		require.NoError(t, s.Close())
	}
	errs["salvage"] = err
	return errs
}

// As root: another user's directory, and what that user put into it, is left alone.
func TestStateDirOfAnotherUser(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"the directory":    {func(t *testing.T, dir string) { give(t, dir) }, "DIR belongs to uid 54321 (mode 0700), who could change what hive does as root"},
		"the way":          {func(t *testing.T, dir string) { give(t, filepath.Dir(dir)) }, " belongs to uid 54321 (mode 0755), who could put something else in the place of DIR"},
		"the file":         {func(t *testing.T, dir string) { give(t, db.State(dir)) }, "DIR/hive.db belongs to uid 54321"},
		"open to a group":  {func(t *testing.T, dir string) { require.NoError(t, os.Chmod(dir, 0o770)) }, "DIR can be written to by its group"},
		"the file is open": {func(t *testing.T, dir string) { require.NoError(t, os.Chmod(db.State(dir), 0o666)) }, "DIR/hive.db can be written to by every user"},
		"a link": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(db.State(dir), dir+".db"))
			require.NoError(t, os.Symlink(dir+".db", db.State(dir)))
			give(t, db.State(dir))
		}, "DIR/hive.db belongs to uid 54321"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newState(t)
			backup := filepath.Join(t.TempDir(), "backup.db")
			_, err := db.Backup(t.Context(), dir, backup, false, time.Now())
			require.NoError(t, err)
			before, err := os.ReadFile(db.State(dir))
			require.NoError(t, err)
			tc.spoil(t, dir)
			for what, err := range all(t, dir, backup) {
				t.Log(what, err)
				refused(t, err, strings.ReplaceAll(tc.want, "DIR", dir), "run it as the user that hive runs as (sudo -u USER); or ")
			}
			after, err := os.ReadFile(db.State(dir))
			require.NoError(t, err)
			require.Equal(t, before, after)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing was made there")
		})
	}
}

// A backup goes nowhere where another user could exchange it, or has something.
func TestBackupToAnotherUser(t *testing.T) {
	needRoot(t)
	dir := newState(t)
	theirs := t.TempDir()
	give(t, theirs)
	sticky := filepath.Join(t.TempDir(), "tmp")
	require.NoError(t, os.Mkdir(sticky, 0o777))
	require.NoError(t, os.Chmod(sticky, 0o777|os.ModeSticky))
	fifo := filepath.Join(sticky, "fifo.db")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	occupied := filepath.Join(sticky, "theirs.db")
	require.NoError(t, os.WriteFile(occupied, []byte("theirs"), 0o666))
	give(t, occupied)
	ran := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(nil)), nil }
	for dest, want := range map[string]string{
		theirs:                          theirs + " belongs to uid 54321",
		filepath.Join(theirs, "b.db"):   "who could put something else in the place of " + theirs + "/b.db",
		occupied:                        occupied + " belongs to uid 54321",
		filepath.Join(theirs, "/x/..b"): theirs + " belongs to uid 54321",
	} {
		_, err := db.Backup(t.Context(), dir, dest, true, time.Now())
		refused(t, err, want, "run: chown root ")
		_, err = db.Receive(t.Context(), ran, dest, true, time.Now())
		refused(t, err, want, "run: chown root ")
	}
	entries, err := os.ReadDir(theirs)
	require.NoError(t, err)
	require.Empty(t, entries)
	_, err = db.Backup(t.Context(), dir, filepath.Join(sticky, "b.db"), false, time.Now())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = db.Backup(ctx, dir, fifo, true, time.Now())
	require.ErrorContains(t, err, "is not a regular file")
}

// What is restored becomes hive's state.
func TestRestoreOfAnotherUsersBackup(t *testing.T) {
	needRoot(t)
	dir := newState(t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	_, err := db.Backup(t.Context(), dir, backup, false, time.Now())
	require.NoError(t, err)
	give(t, backup)
	_, err = db.Restore(t.Context(), dir, backup, false, time.Now())
	refused(t, err, backup+" belongs to uid 54321", "run: chown root "+backup)
	require.NoError(t, os.Chown(backup, 0, 0))
	_, err = db.Restore(t.Context(), dir, backup, false, time.Now())
	require.NoError(t, err)

	// Nor does a salvage take one, or what one leads to.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "backups"), 0o700))
	inside := filepath.Join(dir, "backups", "b.db")
	require.NoError(t, os.Rename(backup, inside))
	require.NoError(t, os.Truncate(db.State(dir), 5000))
	give(t, inside)
	_, err = db.PlanSalvage(t.Context(), dir)
	refused(t, err, inside+" belongs to uid 54321", "run: chown root "+inside)
	require.NoError(t, os.Chown(inside, 0, 0))
	s, err := db.PlanSalvage(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
