package hive_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/store"
)

// The state file is removed under a running hive: it stops, and the next one goes on with
// all workers. An idle hive finds out by its audit.
func TestTheStateFileIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 50 * time.Millisecond
	r.open()
	w := r.spawn("cpu", map[string]any{"name": "kept"})
	require.NoError(t, os.Remove(filepath.Join(r.cfg.DataDir, "hive.db")))
	select {
	case err := <-r.ran:
		require.ErrorContains(t, err, "it has been written back")
	case <-time.After(20 * time.Second):
		t.Fatal("hive goes on")
	}
	_ = r.h.Close()
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	require.Equal(t, w.WorkerID, r.worker("kept").WorkerID)
	require.True(t, alive(w.PID))
}

// It is gone when hive starts: living workers must not become strangers on ports that hive
// gives out.
func TestTheStateFileIsMissingBesideLivingWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	path := filepath.Join(r.cfg.DataDir, "hive.db")
	require.NoError(t, os.Rename(path, path+".away"))
	for _, empty := range []bool{false, true} {
		if empty {
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		}
		_, err := hive.Open(t.Context(), r.cfg)
		require.ErrorContains(t, err, "workers that were started from this directory live: "+w.WorkerID)
		require.ErrorContains(t, err, "`hivectl db salvage --data-dir "+r.cfg.DataDir+"`")
		info, statErr := os.Stat(path)
		require.Equal(t, empty, statErr == nil && info.Size() == 0, "nothing was made")
	}
	kill9(t, w.PID)
	r.eventually("it is dead", func() bool { return !alive(w.PID) })
	_, err := hive.Open(t.Context(), r.cfg)
	require.ErrorContains(t, err, "is damaged: it is empty", "it is none of hive's making")
	require.NoError(t, os.Remove(path))
	r.open()
	require.Empty(t, r.leases(), "nobody is left: a new hive")
}

// The directory of logs is made anew: every start failed until a restart of hive.
func TestTheLogsAreRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	require.NoError(t, os.RemoveAll(filepath.Join(r.cfg.DataDir, "logs")))
	w := r.worker(r.spawn("cpu").WorkerID)
	require.Equal(t, store.WorkerReady, w.State)
	require.FileExists(t, w.Log)
}
