//go:build linux

package store_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

// written is a state file of the sample, closed.
func written(t *testing.T) string {
	file, _ := sample(t)
	path := filepath.Join(t.TempDir(), "hive.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	return path
}

func offlineCheck(t *testing.T, path string) error {
	t.Helper()
	o, err := store.OpenOffline(path, false)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, o.Close()) }()
	return o.Check(t.Context())
}

func TestOfflineCheckWritesNothing(t *testing.T) {
	path := written(t)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o400))
	require.NoError(t, offlineCheck(t, path))
	o, err := store.OpenOffline(path, false)
	require.NoError(t, err)
	v, err := o.Overview()
	require.NoError(t, err)
	require.NoError(t, o.Close())
	require.Equal(t, 42, v.Live)
	counts := map[string]int{}
	for _, c := range v.Records {
		counts[c.Bucket] = c.Records
	}
	require.Equal(t, map[string]int{
		"meta": 8, "leases": 42, "pids": 42, "ended": 6, "workers": 42, "names": 48,
		"jobs": 48, "events": 96, "byjob": 96, "byworker": 84, "keys": 0,
	}, counts)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestOfflineIsRefusedWhileAHiveHasTheFile(t *testing.T) {
	path := written(t)
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	want := &store.LockedError{Path: path, PID: os.Getpid()}
	for name, use := range map[string]func() error{
		"check":   func() error { return offlineCheck(t, path) },
		"dump":    func() error { return store.Dump(path, func(store.Record) error { return nil }) },
		"backup":  func() error { _, err := store.BackupOffline(t.Context(), path, path+".copy", false); return err },
		"compact": func() error { _, _, err := store.Compact(t.Context(), path); return err },
		"backup over it": func() error {
			file, err := os.Open(path)
			require.NoError(t, err)
			defer file.Close()
			_, err = store.BackupFrom(t.Context(), file, path, true)
			return err
		},
		"restore over it": func() error {
			backup := written(t)
			_, err := store.Restore(t.Context(), backup, path, path+".aside", false)
			return err
		},
		"take": func() error { _, err := store.LockFile(path); return err },
		"backup onto itself": func() error {
			_, err := store.BackupOffline(t.Context(), path, path, true)
			return err
		},
	} {
		var locked *store.LockedError
		require.ErrorAs(t, use(), &locked, name)
		require.Equal(t, want, locked, name)
	}
	require.Equal(t, []string{"hive.db"}, namesIn(t, filepath.Dir(path)))
}

func namesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Each kind of contradiction names its bucket and record.
func TestFindingsNameTheRecord(t *testing.T) {
	s, path := openUnchecked(t)
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, putWorker(tx, 8080))
		require.NoError(t, putWorker(tx, 8081))
		require.NoError(t, store.RawDelete(tx, "workers", []byte(workerID(8080))))
		require.NoError(t, store.RawPut(tx, "pids", []byte{0, 0, 0, 7, 0x1f, 0x90}, "another"))
	})
	require.NoError(t, s.Close())
	list, rest := store.Findings(offlineCheck(t, path))
	require.NoError(t, rest)
	require.Len(t, list, 2)
	require.Equal(t, "leases", list[0].Bucket)
	require.Equal(t, "8080", list[0].Key)
	require.Equal(t, "pids", list[1].Bucket)
	require.Equal(t, "7/8080", list[1].Key)
	require.Contains(t, list[0].String(), "leases 8080: lease lease-8080 of port 8080 is held by worker")
}

// A dump of a damaged file has every record that can be read, and says what cannot.
func TestDump(t *testing.T) {
	path := written(t)
	whole := dumped(t, path)
	require.Empty(t, whole.bad)
	require.Len(t, whole.good, 8+42+42+6+42+48+48+96+96+84)
	require.Contains(t, whole.good, "leases/8081")
	require.Contains(t, whole.good, "pids/108081/8081")
	require.Contains(t, whole.good, "events/96")
	require.Contains(t, whole.good, "byjob/job-8080/1")
	require.Contains(t, whole.good, "workers/"+workerID(8081))

	size := fileSize(t, path)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		damaged := filepath.Join(t.TempDir(), "hive.db")
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		at := random.Int64N(size - 4096)
		clear(file[at : at+4096])
		require.NoError(t, os.WriteFile(damaged, file, 0o600))
		d := dumped(t, damaged)
		for key, value := range d.good {
			require.Equal(t, whole.good[key], value, "zeros at %d: %s", at, key)
		}
		if len(d.good) < len(whole.good) {
			require.NotEmpty(t, d.bad, "zeros at %d: records are missing and nothing says so", at)
		}
	}
}

type dumpOf struct {
	good map[string]string
	bad  []store.Record
}

func dumped(t *testing.T, path string) dumpOf {
	t.Helper()
	d := dumpOf{good: map[string]string{}}
	require.NoError(t, store.Dump(path, func(r store.Record) error {
		if r.Error != "" {
			d.bad = append(d.bad, r)
			return nil
		}
		require.True(t, r.Value == nil || json.Valid(r.Value))
		d.good[r.Bucket+"/"+r.Key] = string(r.Value)
		return nil
	}))
	return d
}

func fileSize(t *testing.T, path string) int64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

func TestBackupOffline(t *testing.T) {
	path := written(t)
	to := filepath.Join(t.TempDir(), "copy.db")
	v, err := store.BackupOffline(t.Context(), path, to, false)
	require.NoError(t, err)
	require.Equal(t, 42, v.Live)
	info, err := os.Stat(to)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.Equal(t, dumped(t, path), dumped(t, to))
	_, err = store.BackupOffline(t.Context(), path, to, false)
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = store.BackupOffline(t.Context(), path, to, true)
	require.NoError(t, err)
	_, err = store.BackupOffline(t.Context(), path, path, true)
	require.ErrorAs(t, err, new(*store.LockedError), "the state file is no place for its backup")
	device := filepath.Join(t.TempDir(), "null") // root would lose /dev/null
	require.NoError(t, syscall.Mknod(device, syscall.S_IFSOCK|0o600, 0))
	_, err = store.BackupOffline(t.Context(), path, device, true)
	require.ErrorContains(t, err, "give the name of a file")
	_, err = store.Restore(t.Context(), path, path, path+".aside", false)
	require.ErrorIs(t, err, store.ErrSameFile)
	require.Equal(t, []string{"copy.db"}, namesIn(t, filepath.Dir(to)), "no temporary file is left")
}

// Of a damaged file there is no backup that looks like one.
func TestBackupOfADamagedFileIsRefused(t *testing.T) {
	path := written(t)
	spoilJob(t, path)
	to := filepath.Join(t.TempDir(), "copy.db")
	_, err := store.BackupOffline(t.Context(), path, to, false)
	list, rest := store.Findings(err)
	require.NoError(t, rest)
	require.Equal(t, []store.Finding{{Bucket: "jobs", Key: "job-8090", Reason: "checksum differs"}}, list)
	require.Empty(t, namesIn(t, filepath.Dir(to)))
	_, err = store.Restore(t.Context(), path, filepath.Join(filepath.Dir(to), "hive.db"), "", false)
	list, _ = store.Findings(err)
	require.Len(t, list, 1)
	require.Empty(t, namesIn(t, filepath.Dir(to)))
	_, _, err = store.Compact(t.Context(), path)
	list, _ = store.Findings(err)
	require.Len(t, list, 1)
}

// spoilJob flips a bit in the payload of a job.
func spoilJob(t *testing.T, path string) {
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	spoiled := 0
	needle := []byte(`"job_id":"job-8090","operation":"worker_spawn"`)
	for i := 0; i+len(needle) <= len(file); i++ {
		if string(file[i:i+len(needle)]) == string(needle) {
			file[i+len(needle)-2] ^= 1
			spoiled++
		}
	}
	require.NotZero(t, spoiled)
	require.NoError(t, os.WriteFile(path, file, 0o600))
}

func TestRestore(t *testing.T) {
	backup, dir := written(t), t.TempDir()
	path, aside := filepath.Join(dir, "hive.db"), filepath.Join(dir, "hive.db.before")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	update(t, s, func(tx *store.Tx) { require.NoError(t, putWorker(tx, 8080)) })
	present := s.Meta().StateID
	require.NoError(t, s.Close())

	r, err := store.Restore(t.Context(), backup, path, aside, true)
	require.NoError(t, err)
	require.Equal(t, 42, r.From.Live)
	require.Equal(t, 1, r.Before.Live)
	require.Equal(t, aside, r.SavedAs)
	require.Equal(t, []string{"hive.db"}, namesIn(t, dir), "a dry run leaves nothing")

	_, err = store.Restore(t.Context(), backup, path, aside, false)
	require.NoError(t, err)
	require.Equal(t, []string{"hive.db", "hive.db.before"}, namesIn(t, dir))
	s, err = store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.True(t, s.Meta().Relocated, "nothing may be killed in the first start")
	require.EqualValues(t, 2, s.Meta().Incarnation)
	require.NotEqual(t, present, s.Meta().StateID)
	require.NoError(t, s.Close())
	storetest.Check(t, path)
	s, err = store.Open(t.Context(), store.Options{Path: aside})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = store.Restore(t.Context(), backup, path, aside, false)
	require.ErrorIs(t, err, fs.ErrExist, "what was saved before is not overwritten")
}

// Where there is no file there is no lock to hold: a hive that is started meanwhile
// keeps the one that it has made.
func TestRestoreDoesNotReplaceTheFileOfAHiveThatBegan(t *testing.T) {
	backup, dir := written(t), t.TempDir()
	path, pipe := filepath.Join(dir, "hive.db"), filepath.Join(t.TempDir(), "backup")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	restored := make(chan error, 1)
	go func() { _, err := store.Restore(t.Context(), pipe, path, path+".before", false); restored <- err }()
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // it has looked at path when it reads
	require.NoError(t, err)
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	update(t, s, func(tx *store.Tx) { require.NoError(t, putWorker(tx, 8080)) })
	content, err := os.ReadFile(backup)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	var locked *store.LockedError
	require.ErrorAs(t, <-restored, &locked)
	require.Equal(t, &store.LockedError{Path: path, PID: os.Getpid()}, locked)
	require.NoError(t, s.Close())
	require.Equal(t, []string{"hive.db"}, namesIn(t, dir))

	err = store.Rebuild(t.Context(), path, nil, "", store.Content{})
	require.ErrorAs(t, err, &locked, "a salvage neither")
	o, err := store.OpenOffline(path, false)
	require.NoError(t, err)
	v, err := o.Overview()
	require.NoError(t, err)
	require.NoError(t, o.Close())
	require.Equal(t, 1, v.Live, "it is the hive's own")
}

func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	for round := range 20 {
		update(t, s, func(tx *store.Tx) {
			for i := range 50 {
				id := fmt.Sprintf("job-%d-%d", round, i)
				require.NoError(t, tx.PutJob(store.Job{JobID: id, Operation: "worker_spawn", State: store.JobSucceeded}))
				_, err := tx.AppendEvent(store.Event{JobID: id, Message: "something happened"})
				require.NoError(t, err)
			}
		})
	}
	update(t, s, func(tx *store.Tx) {
		for round := range 19 {
			for i := range 50 {
				require.NoError(t, tx.DeleteJob(fmt.Sprintf("job-%d-%d", round, i)))
			}
		}
	})
	id := s.Meta().StateID
	require.NoError(t, s.Close())
	records := dumped(t, path)
	before, after, err := store.Compact(t.Context(), path)
	require.NoError(t, err)
	require.Less(t, after, before/2)
	require.Equal(t, []string{"hive.db"}, namesIn(t, filepath.Dir(path)))
	compacted := dumped(t, path)
	delete(records.good, "meta/file")
	delete(compacted.good, "meta/file")
	require.Equal(t, records, compacted)
	s, err = store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.False(t, s.Meta().Relocated, "it is the same state")
	require.Equal(t, id, s.Meta().StateID)
	update(t, s, func(tx *store.Tx) {
		ev, err := tx.AppendEvent(store.Event{Message: "the sequence goes on"})
		require.NoError(t, err)
		require.EqualValues(t, 1001, ev.Seq)
	})
	require.NoError(t, s.Close())
	storetest.Check(t, path)
}

// What a compaction that was killed has left does not stay for ever.
func TestCompactRemovesWhatWasLeft(t *testing.T) {
	path := written(t)
	dir := filepath.Dir(path)
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{".hive.db.compact-1", "..hive.db.compact-1.2", ".hive.db.compact-young", "hive.db.compact-mine"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		if name != ".hive.db.compact-young" {
			require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
		}
	}
	_, _, err := store.Compact(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, []string{".hive.db.compact-young", "hive.db", "hive.db.compact-mine"}, namesIn(t, dir))
}

// A copy that was compacted is a copy still.
func TestCompactedCopyStaysACopy(t *testing.T) {
	path := written(t)
	_, _, err := store.Compact(t.Context(), path)
	require.NoError(t, err)
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.True(t, s.Meta().Relocated)
	require.NoError(t, s.Close())
}

// The error of opening wraps what is damaged, and is taken apart all the same.
func TestFindingsOfAFileThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<16), 0o600))
	_, err := store.OpenOffline(path, false)
	list, rest := store.Findings(err)
	require.NoError(t, rest)
	require.Equal(t, []store.Finding{{Reason: "neither meta page is valid"}}, list)
}
