//go:build linux

package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

// testdata/README.md says how the recorded files were made, and how to make more.
var (
	recordIt = flag.Bool("update", false, "record testdata/NAME.db with a real hive")
	recordAs = flag.String("record-as", "schema1-now", "NAME of -update")
	recorder = flag.String("record-with", "", "hive binary of -update; empty: the present tree's")
)

// recorded returns a copy of each recorded file, by name.
func recorded(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.db")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(paths), 3)
	copies := map[string]string{}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(path), ".db")
		copies[name] = filepath.Join(t.TempDir(), "hive.db")
		require.NoError(t, os.WriteFile(copies[name], raw, 0o600))
	}
	return copies
}

func TestRecord(t *testing.T) {
	if !*recordIt {
		return // nothing is to be recorded
	}
	binary := *recorder
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "hive")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "rbeehive/cmd/hive")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	hive, err := harness.New(binary, 8, `[{name: crash, command: ["/bin/sh", "-c", "exit 3", "{{.Port}}"]}]`)
	require.NoError(t, err)
	defer func() { require.NoError(t, hive.Close(nil)) }()
	require.NoError(t, hive.Start(t.Context()))
	live(t, hive)
	require.NoError(t, hive.Term())
	to := filepath.Join("testdata", *recordAs+".db")
	_, err = store.BackupOffline(t.Context(), filepath.Join(hive.Dir, "data", "hive.db"), to, true)
	require.NoError(t, err)
}

// live is the life of a hive that is recorded: of every kind of record at least one.
func live(t *testing.T, hive *harness.Instance) {
	job := func(op harness.Op) {
		_, err := hive.Do(t.Context(), op)
		require.NoError(t, err, "%v", op)
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		job(harness.Op{"operation": "worker_spawn", "worker": "cpu", "name": name})
	}
	workers, err := hive.Live(t.Context())
	require.NoError(t, err)
	for id, w := range workers {
		if *w.Name == "two" {
			job(harness.Op{"operation": "worker_stop", "worker_id": id})
		}
	}
	job(harness.Op{"operation": "worker_spawn", "worker": "crash"})
	for range 3 {
		job(harness.Op{"operation": "hive_check"})
	}
	require.NoError(t, hive.Call(t.Context(), http.MethodPost, "/v1/leases", map[string]any{"ttl": "1h", "owner": "somebody"}, nil))
}

// The files that hives of the past have written are opened by this one, which finds
// nothing wrong and everything in them.
func TestRecordedFilesAreWhole(t *testing.T) {
	for name, path := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			o, err := store.OpenOffline(path, false)
			require.NoError(t, err)
			require.NoError(t, o.Check(t.Context()))
			require.NoError(t, o.Close())
			s, err := store.Open(t.Context(), store.Options{Path: path, TakeOver: true})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			require.True(t, s.Meta().Relocated, "it is a copy")
			view(t, s, func(tx *store.Tx) {
				states := map[store.WorkerState]int{}
				for w, err := range tx.Workers() {
					require.NoError(t, err)
					states[w.State]++
				}
				require.Equal(t, 3, states[store.WorkerReady])
				require.NotZero(t, states[store.WorkerStopped])
				require.NotZero(t, states[store.WorkerFailed])
				jobs, ends := 0, 0
				for j, err := range tx.Jobs("", false) {
					require.NoError(t, err)
					require.True(t, j.State.Ended())
					jobs++
					events, err := tx.JobEvents(j.JobID, 0, 0)
					require.NoError(t, err)
					for i, ev := range events {
						require.EqualValues(t, i+1, ev.JobSeq, "made when it is read, where the file is older than it")
					}
					if n := len(events); n > 0 && events[n-1].Type == store.EventEnd {
						ends++
					}
				}
				require.Equal(t, 9, jobs)
				require.Equal(t, 9, ends)
			})
			write := func(fn func(*store.Tx) error) { require.NoError(t, s.Update(t.Context(), fn)) }
			write(func(tx *store.Tx) error { return putWorker(tx, 9999) })
			write(func(tx *store.Tx) error { return tx.PutKeyedJob(store.Job{JobID: "job-new", Key: "k"}, "digest") })
			write(func(tx *store.Tx) error {
				_, err := tx.AppendEvent(store.Event{JobID: "job-new", Message: "m"})
				return err
			})
			require.NoError(t, s.Check(t.Context()))
		})
	}
}

// everything is all records of a file but the named ones.
func everything(t *testing.T, path string, but ...string) map[string]string {
	t.Helper()
	d := dumped(t, path)
	for _, bad := range d.bad { // what withStep2 has copied has the checksums of where it was
		require.Equal(t, "later", bad.Bucket, "%+v", bad)
	}
	for _, key := range but {
		delete(d.good, key)
	}
	return d.good
}

// childMigrate opens a file with one more migration, and is killed at its n-th change
// of a file. It says how many there were if it was not.
func childMigrate(args []string) int {
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		return childFailed(err)
	}
	calls, err := dieAt(n)
	if err != nil {
		return childOutput(map[string]any{"skip": err.Error()})
	}
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	o := withStep2(args[0])
	s, err := store.Open(ctx, o)
	if err != nil {
		return childFailed(err)
	}
	if err := s.Close(); err != nil {
		return childFailed(err)
	}
	return childOutput(map[string]any{"calls": calls.Load()})
}

// A migration that is killed at any change of a file, or of a directory, leaves a
// file that is wholly old or wholly new and opens; what is in backups/ is whole.
func TestMigrationKilledAtEachWrite(t *testing.T) {
	path := recorded(t)["schema1-now"]
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	old := everything(t, path)
	schemas := map[int]int{}
	for n := 1; ; n++ {
		dir := t.TempDir()
		at := filepath.Join(dir, "hive.db")
		require.NoError(t, os.WriteFile(at, raw, 0o600))
		out, err := childCommand(t, "migrate", at, fmt.Sprint(n)).Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != -1) {
			t.Fatalf("killed at %d: %v", n, err)
		}
		if strings.Contains(string(out), `"skip"`) {
			skip.Because(t, string(out))
		}
		schemas[requireOldOrNew(t, at, old)]++
		if err == nil {
			var report struct{ Calls int }
			require.NoError(t, json.Unmarshal(out, &report))
			require.Equal(t, n-1, report.Calls)
			break
		}
	}
	t.Logf("killed %d times before the new schema was durable, %d times after it", schemas[1], schemas[2])
	require.Greater(t, schemas[1], 5)
	require.Greater(t, schemas[2], 1)
}

// requireOldOrNew looks at a file after a migration that was killed, and finishes it.
func requireOldOrNew(t *testing.T, path string, old map[string]string) (schema int) {
	t.Helper()
	o, err := store.OpenOffline(path, false)
	require.NoError(t, err)
	schema = o.Schema()
	require.NoError(t, o.Close())
	backups, err := filepath.Glob(filepath.Join(filepath.Dir(path), "backups", "*.db"))
	require.NoError(t, err)
	for _, b := range backups {
		require.NoError(t, offlineCheck(t, b))
		require.Equal(t, old, everything(t, b), "a backup is the file as it was")
	}
	const own = "meta/schema"
	if schema == 1 {
		require.Equal(t, old, everything(t, path))
	} else {
		require.Equal(t, 2, schema)
		require.NotEmpty(t, backups, "it is made before the first change")
	}
	require.Equal(t, 2, openClose(t, withStep2(path)).Schema)
	now := everything(t, path, own, "meta/file", "meta/state_id", "meta/machine_id", "meta/incarnation")
	for key, value := range old {
		if !strings.HasPrefix(key, "meta/") {
			require.Equal(t, value, now[key], key)
		}
	}
	return schema
}
