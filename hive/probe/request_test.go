package probe

import (
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
	"rbeehive/test/freeport"
)

// Between the look that finds the worker on its port and the request, the worker
// can end and a stranger can take the port. The connection may reach it, a request
// must not.
func TestProbeAsksOnlyWhomItHasSeen(t *testing.T) {
	first, err := freeport.Range(1)
	require.NoError(t, err)
	port := uint16(first)
	h := &Prober{Sockets: sockets.NewTable()}
	spec := store.Spec{Host: "127.0.0.1", Ready: store.Ready{Path: "/", Status: 200}}
	listening := func() []sockets.Socket {
		socks, err := h.Sockets.Listening(t.Context(), port)
		require.NoError(t, err)
		return socks
	}
	listen := func(host string) net.Listener {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(first)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() }) // mostly closed already
		return l
	}

	worker := listen("127.0.0.1")
	seen := listening()
	require.Len(t, seen, 1)
	require.NoError(t, worker.Close())
	var requests atomic.Int32
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })}
	served := make(chan error, 1)
	l := listen("127.0.0.1")
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}()

	ok, answer := h.request(t.Context(), spec, port, seen, requestTimeout)
	require.False(t, ok)
	require.Contains(t, answer, "who listens there has changed")
	require.Zero(t, requests.Load(), "the stranger was asked")

	seen = listening()
	ok, answer = h.request(t.Context(), spec, port, seen, requestTimeout)
	require.True(t, ok, answer)
	require.Equal(t, int32(1), requests.Load())

	beside := listen("::1")
	ok, answer = h.request(t.Context(), spec, port, seen, requestTimeout)
	require.True(t, ok, "%s: who has come does not get the connections to this address", answer)
	require.NoError(t, beside.Close())
	require.Equal(t, int32(2), requests.Load())
}
