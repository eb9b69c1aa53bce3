package hive_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/logs"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// printer is a worker that prints so many numbered lines, and as many again once there
// is a file of that name.
func printer(lines int, gate string) catalog.Entry {
	script := fmt.Sprintf(`seq -f 'line %%09.0f' 1 %[1]d; while ! [ -e %[2]s ]; do sleep 0.02; done; seq -f 'line %%09.0f' %[3]d %[4]d; exec sleep 1000`,
		lines, gate, lines+1, 2*lines)
	return catalog.Entry{Name: "printer", Command: []string{"/bin/sh", "-c", script}, Stop: catalog.StopEntry{Signal: []string{"SIGKILL"}}}
}

// printed is what the printer has printed with its line n as the last.
func printed(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %09d\n", i+1)
	}
	return b.String()
}

// readLog returns all that is kept of a worker's log, without hive's own lines.
func (r *rig) readLog(id string) string {
	r.Helper()
	log, err := r.h.OpenLog(r.Context(), id, -1)
	require.NoError(r, err)
	defer log.Close()
	var raw, text strings.Builder
	for block, err := range log.Rest(r.Context()) {
		require.NoError(r, err)
		raw.Write(block)
	}
	for line := range strings.Lines(raw.String()) {
		if !strings.HasPrefix(line, "--- hive: ") {
			text.WriteString(line)
		}
	}
	return text.String()
}

// awaitLine waits until the printer has printed its line n, while its log is rotated.
func (r *rig) awaitLine(id string, n int) {
	r.Helper()
	last := fmt.Sprintf("line %09d\n", n)
	r.eventually(last, func() bool {
		r.h.RotateLogs(r.Context())
		return strings.HasSuffix(r.readLog(id), last)
	})
	r.h.RotateLogs(r.Context())
}

// collapses reports whether the file system can take blocks out of the head of a
// file, by trying it.
func collapses(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(f.Close(), os.Remove(f.Name()))) }()
	require.NoError(t, f.Truncate(1<<20))
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 64<<10) == nil
}

// A worker's log is rotated and hive is restarted: the worker is adopted, since its
// output is still the same file, and the log goes on.
func TestTheLogOfALivingWorkerIsRotated(t *testing.T) {
	t.Parallel()
	const lines = 20_000
	gate := filepath.Join(t.TempDir(), "gate")
	r := newRig(t, 1, printer(lines, gate))
	r.cfg.Logs = logs.Config{MaxSize: logs.MinSize, Keep: 100}
	whole := collapses(t, r.cfg.DataDir)
	r.open()
	w := r.spawn("printer", map[string]any{"wait": "started"})
	log := filepath.Join(r.cfg.DataDir, "logs", w.WorkerID+".log")
	r.awaitLine(w.WorkerID, lines)
	r.close()
	r.open()
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	r.awaitLine(w.WorkerID, 2*lines)
	rec, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerRunning, rec.State, "it was adopted")

	fd, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", w.PID))
	require.NoError(t, err)
	now, err := os.Lstat(log)
	require.NoError(t, err)
	require.True(t, os.SameFile(fd, now), "the proof of membership is as it was")
	require.LessOrEqual(t, now.Size(), r.cfg.Logs.MaxSize)
	require.FileExists(t, log+".1")
	t.Logf("without any loss: %v", whole)
	if whole { // else how much is lost depends on how soon hive gets to look
		require.True(t, printed(2*lines) == r.readLog(w.WorkerID), "each line once and in order")
	}
}

// The whole way: a worker of another user stretches its log and ends. Its last words are
// in the error, on both sides of the hole, without what they would do to a terminal.
func TestAWorkerOfAnotherUserStretchesItsLog(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		skip.Because(t, "only root starts workers as other users")
	}
	r := newRig(t, 1, catalog.Entry{Name: "hog", User: "nobody", Command: []string{
		"/bin/sh", "-c", `echo first; truncate -s 8T /proc/self/fd/1 || echo no; printf '\033[31mlast\033[0m \033]0;x\007\n'; exit 3`, "{{.Port}}",
	}})
	r.open()
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "hog"})
	require.Equal(t, errdefs.CodeExitedEarly, job.Error.Code, "%+v", job.Error)
	require.Equal(t, []string{"first", `last \x1b]0;x\x07`}, job.Error.Log)
	w := r.h.Workers()[0]
	fi, err := os.Stat(w.Log)
	require.NoError(t, err)
	require.Greater(t, fi.Size(), int64(8<<40))
	require.EqualValues(t, 65534, fi.Sys().(*syscall.Stat_t).Uid, "it is its own")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	log, err := r.h.OpenLog(ctx, w.WorkerID, 2)
	require.NoError(t, err)
	defer log.Close()
	var tail strings.Builder
	for block, err := range log.Rest(ctx) {
		require.NoError(t, err)
		tail.Write(block)
	}
	require.Regexp(t, `^[^\n]*last[^\n]*\n--- hive: (exited|ended) [^\n]*\n$`, tail.String())
}

// deadWorker records a worker that ended so long ago, with files of so many KiB.
func (r *rig) deadWorker(id string, port uint16, age time.Duration, files map[string]int) store.Worker {
	r.Helper()
	ended := time.Now().Add(-age).UTC()
	rec := store.Worker{
		WorkerID: id, Type: "cpu", Port: port, Ports: []uint16{port}, LeaseID: "lease-of-" + id,
		State: store.WorkerFailed, Desired: store.DesiredRunning, StartedAt: ended.Add(-time.Minute), EndedAt: &ended,
		Spec: store.Spec{Argv: []string{"/bin/true"}, Host: "127.0.0.1"}, Log: filepath.Join(r.cfg.DataDir, "logs", id+".log"),
	}
	r.edit(func(tx *store.Tx) error { return tx.PutWorker(rec) })
	for suffix, kib := range files {
		require.NoError(r, os.WriteFile(rec.Log+suffix, []byte(strings.Repeat(strings.Repeat(".", 63)+"\n", kib*16)), 0o600))
	}
	return rec
}

// quarantine keeps the port of a dead worker for as long as the test listens on it.
func (r *rig) quarantine(rec store.Worker) {
	r.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", rec.Port))
	require.NoError(r, err)
	r.Cleanup(func() { l.Close() })
	r.edit(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{
			Port: rec.Port, LeaseID: rec.LeaseID, Kind: store.LeaseWorker, WorkerID: rec.WorkerID,
			State: store.LeaseQuarantined, AcquiredAt: rec.StartedAt,
		})
	})
}

// logFiles returns the names in logs/, without "cpu-" and ".log".
func (r *rig) logFiles() string {
	r.Helper()
	entries, err := os.ReadDir(filepath.Join(r.cfg.DataDir, "logs"))
	require.NoError(r, err)
	var names []string
	for _, e := range entries {
		names = append(names, strings.Replace(strings.TrimPrefix(e.Name(), "cpu-"), ".log", "", 1))
	}
	return strings.Join(names, " ")
}

// The audit prunes logs: those of no worker that are old, and of dead workers what is more
// than logs.max_total, the oldest first. Those of quarantined ports stay.
func TestLogsArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.cfg.LogsMaxTotal = 600 << 10
	r.open()
	r.close()
	r.deadWorker("cpu-new", r.port(2), time.Hour, map[string]int{"": 300})
	r.quarantine(r.deadWorker("cpu-mid", r.port(1), 3*time.Hour, map[string]int{"": 300, ".1": 200}))
	r.deadWorker("cpu-late", r.port(4), 2*time.Hour, map[string]int{"": 100})
	r.deadWorker("cpu-old", r.port(0), 4*time.Hour, map[string]int{"": 100, ".1": 400})
	r.quarantine(store.Worker{WorkerID: "cpu-lost", Port: r.port(3), LeaseID: "lease-of-lost", StartedAt: time.Now().UTC()})
	for name, age := range map[string]time.Duration{
		"cpu-young.log": 23 * time.Hour, "cpu-gone.log": 25 * time.Hour, "cpu-gone.log.1": 25 * time.Hour, "cpu-lost.log": 25 * time.Hour, "notes.txt": 25 * time.Hour,
	} {
		path, at := filepath.Join(r.cfg.DataDir, "logs", name), time.Now().Add(-age)
		require.NoError(t, os.WriteFile(path, []byte("x\n"), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	r.open()
	kept := "lost mid new young notes.txt"
	r.eventually("it is pruned", func() bool { return r.logFiles() == kept })
	r.never("more is", 100*time.Millisecond, func() bool { return r.logFiles() != kept })
	require.Len(t, r.h.Workers(), 4, "the records stay")
	require.Len(t, r.leases(), 2)
}

// A record goes with all its files.
func TestLogsGoWithTheRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	r.close()
	const kept = 50 // whatever their age
	var want []string
	for i := range kept {
		id := fmt.Sprintf("cpu-%02d", i)
		r.deadWorker(id, r.port(0), time.Hour, map[string]int{"": 1})
		want = append(want, id[4:])
	}
	r.deadWorker("cpu-old", r.port(0), 100*time.Hour, map[string]int{"": 1, ".1": 1, ".2": 1, ".3": 1, ".4": 1, ".new": 1})
	r.open()
	r.eventually("the old one is gone", func() bool { return r.logFiles() == strings.Join(want, " ") })
	_, err := r.h.OpenLog(r.Context(), "cpu-old", -1)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

// In the first start with a copied file the workers may be somebody else's, and
// so are their logs.
func TestTheLogsOfACopyAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, printer(10_000, "/"))
	r.open()
	w := r.spawn("printer", map[string]any{"wait": "started"})
	r.awaitLine(w.WorkerID, 20_000)
	r.close()
	file := filepath.Join(r.cfg.DataDir, "hive.db")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, raw, 0o600)) // another inode
	orphan, old := filepath.Join(r.cfg.DataDir, "logs", "cpu-orphan.log"), time.Now().Add(-25*time.Hour)
	require.NoError(t, os.WriteFile(orphan, nil, 0o600))
	require.NoError(t, os.Chtimes(orphan, old, old))
	r.cfg.Logs = logs.Config{MaxSize: logs.MinSize}
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	r.h.RotateLogs(t.Context())
	r.never("they are changed", 200*time.Millisecond, func() bool {
		return strings.Contains(r.logFiles(), ".1") || !strings.Contains(r.logFiles(), "orphan")
	})
	r.close()
	r.open()
	r.eventually("once it was started again they are its own", func() bool {
		return strings.Contains(r.logFiles(), ".1") && !strings.Contains(r.logFiles(), "orphan")
	})
}

func TestLogsConfigIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for _, bad := range []logs.Config{{MaxSize: 1}, {MaxSize: -1}, {Keep: -1}} {
		cfg := r.cfg
		cfg.Logs = bad
		_, err := hive.Open(t.Context(), cfg)
		require.ErrorContains(t, err, "hive: logs: ")
	}
}
