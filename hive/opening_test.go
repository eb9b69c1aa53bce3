package hive_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// What an event names can be stopped from then on.
func TestAWorkerCanBeStoppedAsSoonAsItIsNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	for n := range 30 {
		job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "cpu", "name": "a"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		evs, err := r.h.JobEvents(ctx, job.JobID, 0)
		require.NoError(t, err)
		var stop map[string]any
		for ev, err := range evs {
			require.NoError(t, err)
			if ev.Type == store.EventProcess {
				stop = byEvent(t, n, ev)
				break
			}
		}
		cancel()
		ended := r.do(stop)
		require.Equal(t, store.JobSucceeded, ended.State, "%v: %+v", stop, ended.Error)
		r.wait(job.JobID)
		require.Empty(t, r.leases())
	}
}

// byEvent is one of the ways to end the worker that an event is about.
func byEvent(t *testing.T, n int, ev store.Event) map[string]any {
	t.Helper()
	var data struct{ PID int }
	require.NoError(t, json.Unmarshal(ev.Data, &data))
	if n%2 == 0 {
		return map[string]any{"operation": "worker_process_delete", "pid": data.PID}
	}
	return map[string]any{"operation": "worker_stop", "worker_id": ev.WorkerID}
}
