package supervisor_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
)

// The sockets of a proof are the worker's own, and there is none of a worker that is not ready.
func TestProve(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w := r.spawn("serve")
	p, err := r.s.Prove(t.Context(), w.WorkerID)
	require.NoError(t, err)
	require.False(t, p.Weak)
	require.Len(t, p.Listeners, 1)
	require.Equal(t, w.Port, p.Listeners[0].Local.Port())
	require.NotZero(t, p.Listeners[0].Cookie)

	_, err = r.s.Prove(t.Context(), "nobody")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	r.stop(w.WorkerID)
	_, err = r.s.Prove(t.Context(), w.WorkerID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
}

// Who listens beside a worker, on another address of its port, is none of its proof.
func TestProveLeavesOutWhoListensBeside(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	beside, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3), Port: int(w.Port)})
	require.NoError(t, err)
	defer beside.Close()
	p, err := r.s.Prove(t.Context(), w.WorkerID)
	require.NoError(t, err)
	require.Len(t, p.Listeners, 1)
	require.Equal(t, "127.0.0.1", p.Listeners[0].Local.Addr().Unmap().String())
}
