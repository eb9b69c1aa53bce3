package hive_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// An autostart entry is one worker, whoever starts it. What was started by hand under its
// name had no name and another port, so that a stop and a restart by that name were about
// the dead one.
func TestAServiceIsOneWorker(t *testing.T) {
	t.Parallel()
	e := fault("embed")
	e.Autostart = true
	r := newRig(t, 3, e, catalog.Entry{Name: "late", Command: []string{"/nonexistent/program", "{{.Port}}"}, Autostart: true, Restart: catalog.RestartEntry{Backoff: ref(time.Hour), MaxBackoff: ref(time.Hour)}})
	r.open()
	r.eventually("it was started", func() bool {
		w, err := r.h.Worker("embed")
		return err == nil && w.State == store.WorkerReady
	})
	first := r.worker("embed")

	again := r.do(map[string]any{"operation": "worker_spawn", "worker": "embed"})
	require.Equal(t, errdefs.CodeNameInUse, again.Error.Code)
	require.Contains(t, again.Error.Message, "is ready at http://127.0.0.1:")
	other := r.spawn("embed", map[string]any{"name": "other"})
	require.NotEqual(t, first.Port, other.Port)

	r.stopWorker("embed")
	require.True(t, alive(other.PID))
	back := r.spawn("embed")
	require.Equal(t, first.Port, back.Port, "with its port")
	r.stopWorker("embed")
	require.False(t, alive(back.PID), "by its name")
	restarted := r.do(map[string]any{"operation": "worker_restart", "worker_id": "embed"})
	require.Equal(t, store.JobSucceeded, restarted.State, "%+v", restarted.Error)
	require.Equal(t, back.Port, r.worker("embed").Port)
}
