package ports

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// What a job says when it got no port: each has its code, and who has the port.
func TestFailure(t *testing.T) {
	t.Parallel()
	byConnection := &alloc.UnavailableError{Port: 8080, Reason: "it is held by curl (pid 7)", Holder: &sockets.Holder{Kind: sockets.KindConnection}}
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errdefs.ErrClosing)
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		code string
		says string
	}{
		{"no port is left", context.Background(), fmt.Errorf("8080-8089: %w", alloc.ErrExhausted), errdefs.CodePortsExhausted, "8080-8089"},
		{"a program listens", context.Background(), &alloc.UnavailableError{Port: 8080, Reason: "it is held by nginx (pid 7)"}, errdefs.CodePortUnavailable, "port 8080 is not available: it is held by nginx (pid 7)"},
		{"a connection has it", ended, byConnection, errdefs.CodePortUnavailable, "ports.range is better outside of net.ipv4.ip_local_port_range"},
	} {
		f, ok := errors.AsType[*errdefs.Failure](Failure(tc.ctx, tc.err))
		require.True(t, ok, tc.name)
		require.Equal(t, tc.code, f.Code, tc.name)
		require.Contains(t, f.Message, tc.says, tc.name)
	}
	require.ErrorIs(t, Failure(ended, errors.New("interrupted")), errdefs.ErrClosing, "why the caller has gone")
	other := errors.New("a disk that fails")
	require.Equal(t, other, Failure(context.Background(), other))
	require.True(t, HeldByConnection(fmt.Errorf("reserve: %w", byConnection)))
	require.False(t, HeldByConnection(other))
}

// What an event says of the ports that a worker got.
func TestTaken(t *testing.T) {
	t.Parallel()
	one, two := store.Worker{Name: "chat", Port: 8082, Ports: []uint16{8082}}, store.Worker{Port: 8082, Ports: []uint16{8082, 8083}}
	held := sockets.Holder{Port: 8081}
	require.Equal(t, "port 8082 leased", Taken(&alloc.Reservation{}, one))
	require.Equal(t, "ports 8082-8083 leased", Taken(&alloc.Reservation{}, two))
	require.Equal(t, "8081 is held by "+held.String()+"; took 8082-8083", Taken(&alloc.Reservation{Skipped: []sockets.Holder{held}}, two))
	require.Contains(t, Taken(&alloc.Reservation{NameMoved: true, Former: 8080}, one), "chat had port 8080 last time, which is not free; took 8082")
	require.Equal(t, []uint16{8081}, Of([]sockets.Holder{held}))
	require.NotNil(t, Of(nil), "a list in JSON")
}

func TestSaysInUse(t *testing.T) {
	t.Parallel()
	require.True(t, saysInUse("OSError: [Errno 98] error while attempting to bind"))
	require.True(t, saysInUse("Error: listen EADDRINUSE: :::8080"))
	require.False(t, saysInUse("the GPU is in use"))
}
