package supervisor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

func TestSpawnAndStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w := r.spawn("serve")
	require.Equal(t, store.WorkerReady, w.State)
	require.Equal(t, r.port(0), w.Port)
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
	require.Empty(t, r.leases())
}
