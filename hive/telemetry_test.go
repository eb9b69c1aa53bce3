package hive_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/telemetry"
)

// beats listens; next returns the next heartbeat.
func (r *rig) beats() (next func() *telemetry.Heartbeat) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	pull, stop := iter.Pull(r.h.Heartbeats(ctx))
	r.Cleanup(func() { cancel(); stop() })
	return func() *telemetry.Heartbeat {
		r.Helper()
		b, ok := pull()
		require.True(r, ok, "no heartbeat")
		return b
	}
}

// of is a worker's part of a heartbeat; nil if it is not in it.
func of(b *telemetry.Heartbeat, id string) *telemetry.WorkerUse {
	for i := range b.Workers {
		if b.Workers[i].WorkerID == id {
			return &b.Workers[i]
		}
	}
	return nil
}

func TestADeadWorkerLeavesTheHeartbeats(t *testing.T) {
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu", map[string]any{"model": "m"})
	next := r.beats()
	require.NotNil(t, of(next(), w.WorkerID))
	kill9(t, w.PID)
	left := 0
	for of(next(), w.WorkerID) != nil { // they are a second apart
		left++
	}
	require.LessOrEqual(t, left, 1)
}

// A worker that is not ready is told apart: a queen must not send it requests.
func TestHeartbeatsTellWhoIsReady(t *testing.T) {
	r := newRig(t, 2, catalog.Entry{Name: "mute", Command: []string{"/bin/sleep", "600"}})
	r.open()
	w := r.spawn("mute", map[string]any{"wait": "started"})
	use := of(r.beats()(), w.WorkerID)
	require.NotNil(t, use)
	require.False(t, use.Ready)
	require.Empty(t, use.Model)
}
