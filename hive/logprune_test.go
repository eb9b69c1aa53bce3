package hive_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/store"
)

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
		require.NoError(r, os.WriteFile(rec.Log+suffix, []byte(strings.Repeat(numbered(0), kib*16)), 0o600))
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

// The logs of dead workers are bounded: what was rotated goes first, the oldest
// worker's before all, then logs. A proof stays.
func TestLogsOfDeadWorkersAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kib  int64
		want string
	}{
		"all fit":                   {1800, "mid mid.1 new old old.1 old.2"},
		"the oldest of the oldest":  {1700, "mid mid.1 new old old.1"},
		"then its next":             {1000, "mid mid.1 new old"},
		"then the next worker's":    {800, "mid new old"},
		"then logs, but for proofs": {690, "mid new"},
		"as far as it goes":         {100, "mid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3)
			r.cfg.AuditInterval = 20 * time.Millisecond
			r.cfg.Logs = hive.LogsConfig{MaxTotal: c.kib << 10}
			r.open()
			r.close()
			r.deadWorker("cpu-new", r.port(2), time.Hour, map[string]int{"": 300})
			r.quarantine(r.deadWorker("cpu-mid", r.port(1), 2*time.Hour, map[string]int{"": 300, ".1": 200}))
			r.deadWorker("cpu-old", r.port(0), 3*time.Hour, map[string]int{"": 100, ".1": 400, ".2": 500})
			r.open()
			r.eventually("it is pruned", func() bool { return r.logFiles() == c.want })
			r.never("more is", 100*time.Millisecond, func() bool { return r.logFiles() != c.want })
			require.Len(t, r.h.Workers(), 3, "the records stay")
			require.Len(t, r.leases(), 1)
		})
	}
}

// A dead worker's log that is one large hole takes no room, and one that was made huge
// is made smaller: neither drives out what is kept of others.
func TestAHugeLogDoesNotDriveOutOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.cfg.Logs = hive.LogsConfig{MaxSize: hive.LeastLogSize, Keep: 1, MaxTotal: 1000 << 10}
	r.open()
	r.close()
	r.deadWorker("cpu-old", r.port(0), 3*time.Hour, map[string]int{"": 50, ".1": 60})
	hole := r.deadWorker("cpu-hole", r.port(1), 2*time.Hour, map[string]int{"": 50})
	if err := os.Truncate(hole.Log, 8<<40); err != nil {
		skip(t, "the file system takes no file of 8 TiB: "+err.Error())
	}
	r.deadWorker("cpu-full", r.port(2), time.Hour, map[string]int{"": 3000})
	r.open()
	r.eventually("it is rotated", func() bool { return r.logFiles() == "full full.1 hole old old.1" })
	// Its own come and go: it takes several rounds.
	r.never("others go", 100*time.Millisecond, func() bool {
		return !strings.HasSuffix(strings.ReplaceAll(r.logFiles(), "hole.new ", ""), "hole old old.1")
	})
}

// Who is left of a worker whose port is quarantined may go on writing, and any worker
// may have written more than can be rotated in time before its end.
func TestTheLogsOfDeadWorkersAreRotated(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.cfg.Logs = hive.LogsConfig{MaxSize: hive.LeastLogSize}
	r.open()
	r.close()
	r.deadWorker("cpu-other", r.port(0), time.Hour, map[string]int{"": 100})
	r.quarantine(r.deadWorker("cpu-held", r.port(1), time.Hour, map[string]int{"": 100}))
	r.open()
	r.eventually("it is rotated", func() bool { return r.logFiles() == "held held.1 other other.1" })
}

// Files that belong to no record are removed once they are old: a hive that was
// killed between removing a record and its log leaves one.
func TestStrayLogs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	r.close()
	r.deadWorker("cpu-dead", r.port(0), time.Hour, map[string]int{"": 1, ".1": 1, ".new": 1})
	r.quarantine(store.Worker{WorkerID: "cpu-lost", Port: r.port(1), LeaseID: "lease-of-lost", StartedAt: time.Now().UTC()})
	for name, age := range map[string]time.Duration{
		"cpu-young.log": 0, "cpu-gone.log": 25 * time.Hour, "cpu-gone.log.1": 25 * time.Hour, "cpu-gone.log.12": 25 * time.Hour, "cpu-lost.log": 25 * time.Hour,
		"probe.log.new": 25 * time.Hour, "notes.txt": 25 * time.Hour, "cpu-dead.log": 25 * time.Hour,
	} {
		path, at := filepath.Join(r.cfg.DataDir, "logs", name), time.Now().Add(-age)
		require.NoError(t, os.WriteFile(path, []byte("x\n"), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
	}
	require.NoError(t, os.Mkdir(filepath.Join(r.cfg.DataDir, "logs", "old.log"), 0o700))
	r.open()
	w := r.spawn("cpu")
	kept := "dead dead.1 lost young notes.txt old"
	names := func() string { return strings.ReplaceAll(r.logFiles(), strings.TrimPrefix(w.WorkerID, "cpu-")+" ", "") }
	r.eventually("the old ones are gone", func() bool { return names() == kept })
	r.never("others go", 100*time.Millisecond, func() bool { return names() != kept })
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
	require.ErrorIs(t, err, hive.ErrNotFound)
}

// In the first start with a copied file the workers may be somebody else's, and
// so are their logs.
func TestTheLogsOfACopyAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, writer(10_000, 0))
	r.open()
	w := r.spawn("writer", map[string]any{"wait": "started"})
	r.followLog(w.WorkerID, true, func(n int) bool { return n < 9_999 })
	r.close()
	file := filepath.Join(r.cfg.DataDir, "hive.db")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, raw, 0o600)) // another inode
	stray, old := filepath.Join(r.cfg.DataDir, "logs", "cpu-stray.log"), time.Now().Add(-25*time.Hour)
	require.NoError(t, os.WriteFile(stray, nil, 0o600))
	require.NoError(t, os.Chtimes(stray, old, old))
	r.cfg.Logs = hive.LogsConfig{MaxSize: hive.LeastLogSize}
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	r.h.RotateLogs(t.Context())
	r.never("they are changed", 200*time.Millisecond, func() bool {
		return strings.Contains(r.logFiles(), ".1") || !strings.Contains(r.logFiles(), "stray")
	})
	r.close()
	r.open()
	r.eventually("once it was started again they are its own", func() bool {
		return strings.Contains(r.logFiles(), ".1") && !strings.Contains(r.logFiles(), "stray")
	})
}

func TestLogsConfigIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for _, bad := range []hive.LogsConfig{{MaxSize: 1}, {MaxSize: -1}, {Keep: -1}, {MaxTotal: -1}} {
		cfg := r.cfg
		cfg.Logs = bad
		_, err := hive.Open(t.Context(), cfg)
		require.ErrorContains(t, err, "hive: logs: ")
	}
}
