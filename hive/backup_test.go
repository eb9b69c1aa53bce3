package hive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

// backups are the automatic ones, oldest first.
func (r *rig) backups() []string {
	r.Helper()
	paths, err := filepath.Glob(filepath.Join(r.cfg.DataDir, "backups", "hive-auto-*.db"))
	require.NoError(r, err)
	return paths // the time in their names sorts them
}

func TestAutomaticBackups(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.Backup.Interval, r.cfg.Backup.Keep = 20*time.Millisecond, 2
	dir := filepath.Join(r.cfg.DataDir, "backups")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	other, torn := filepath.Join(dir, "mine.db"), filepath.Join(dir, ".hive-auto-20260101T000000.000Z.db.1234")
	old := time.Now().Add(-2 * time.Hour)
	for _, path := range []string{other, torn} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		require.NoError(t, os.Chtimes(path, old, old))
	}
	r.open()
	r.eventually("the first backup", func() bool { return len(r.backups()) == 1 })
	first := r.backups()[0]
	r.never("a backup of what has not changed", 200*time.Millisecond, func() bool { return len(r.backups()) > 1 })
	w := r.spawn("cpu")
	r.eventually("the one with the worker", func() bool {
		all := r.backups()
		return len(all) > 0 && holds(t, all[len(all)-1], w.WorkerID)
	})
	r.stopWorker(w.WorkerID)
	r.eventually("only the last two stay", func() bool {
		all := r.backups()
		_, err := os.Stat(first)
		return len(all) == 2 && os.IsNotExist(err)
	})
	require.FileExists(t, other, "what hive has not made stays")
	require.NoFileExists(t, torn)
	r.close()
	for _, path := range r.backups() {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		storetest.Check(t, path)
	}
	last := r.backups()
	r.open() // nothing has changed over the restart
	r.close()
	require.Equal(t, last, r.backups())
}

// However the clock is turned, what is pruned is the oldest of hive's own.
func TestAutomaticBackupsAndAWrongClock(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.Backup.Interval, r.cfg.Backup.Keep = time.Hour, 3
	dir := filepath.Join(r.cfg.DataDir, "backups")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "hive-auto-20200101T000000.000Z.db"), 0o700))
	others := []string{"hive-auto-20200101T000000.000Z.db", "hive-auto-before-the-move.db"}
	require.NoError(t, os.WriteFile(filepath.Join(dir, others[1]), []byte("x"), 0o600))
	r.open()
	now := time.Now().UTC().Truncate(time.Second)
	name := func(at time.Time) string { return "hive-auto-" + at.UTC().Format(store.StampFormat) + ".db" }
	at := func(when time.Time, want ...time.Time) {
		t.Helper()
		r.stopWorker(r.spawn("cpu").WorkerID) // something has changed
		require.NoError(t, r.h.BackUpIfDue(when))
		names := append([]string{}, others...)
		for _, at := range want {
			names = append(names, name(at))
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		var have []string
		for _, e := range entries {
			have = append(have, e.Name())
		}
		require.ElementsMatch(t, names, have)
	}
	ahead := now.AddDate(10, 0, 0) // the clock of a machine that has none of its own
	at(ahead, ahead)
	at(now, ahead, now)
	at(now.Add(time.Minute), ahead, now)
	at(now.Add(time.Hour), ahead, now, now.Add(time.Hour))
	at(now.Add(2*time.Hour), now, now.Add(time.Hour), now.Add(2*time.Hour))
	at(now.Add(2*time.Hour+time.Minute), now, now.Add(time.Hour), now.Add(2*time.Hour))
}

// A copy of a damaged file is no backup: it would take the place of good ones.
func TestAutomaticBackupsAreWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.Backup.Interval, r.cfg.Backup.Keep = time.Hour, 1
	r.open()
	w := r.spawn("cpu")
	require.NoError(t, r.h.BackUpIfDue(time.Now()))
	good := r.backups()
	require.Len(t, good, 1)
	r.close()
	whole := r.flipFirstEvent(nil)
	r.open()
	err := r.h.BackUpIfDue(time.Now().Add(2 * time.Hour))
	require.ErrorAs(t, err, new(*store.CorruptError))
	require.Equal(t, good, r.backups())
	r.stopWorker(w.WorkerID)
	r.close()
	r.flipFirstEvent(whole)
}

// holds reports whether a backup has the record of a worker.
func holds(t *testing.T, path, id string) bool {
	o, err := store.OpenOffline(path, false)
	if err != nil {
		return false // pruned meanwhile
	}
	defer func() { require.NoError(t, o.Close()) }()
	return o.View(func(tx *store.Tx) error { _, err := tx.Worker(id); return err }) == nil
}

func TestNoAutomaticBackupsUnlessAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.stopWorker(w.WorkerID)
	require.NoDirExists(t, filepath.Join(r.cfg.DataDir, "backups"))
}

func TestBackupOfARunningHive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	var buf bytes.Buffer
	n, err := r.h.Backup(t.Context(), &buf)
	require.NoError(t, err)
	require.EqualValues(t, buf.Len(), n)
	path := filepath.Join(t.TempDir(), "copy.db")
	_, err = store.BackupFrom(t.Context(), &buf, path, false)
	require.NoError(t, err)
	require.True(t, holds(t, path, w.WorkerID))
}

// A hive that finds its file damaged says what mends it.
func TestADamagedFileNamesTheSalvage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "hive.db")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<16), 0o600))
	r := newRig(t, 1)
	cfg := r.cfg
	cfg.DataDir = dir
	_, err := hive.Open(t.Context(), cfg)
	require.ErrorAs(t, err, new(*store.CorruptError))
	require.ErrorContains(t, err, "`hivectl db salvage --data-dir "+dir+"`")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 1<<16), raw, "nothing was written")
}
