//go:build linux

// Package porttest brings TCP ports into the states that other programs leave
// them in, for the tests of alloc and alloc/sockets. All sockets are on loopback
// or on the wildcard addresses and are closed when the test ends.
package porttest

import (
	"context"
	"net/netip"
	"strconv"
	"testing"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
	"rbeehive/test/freeport"
)

// Loopback is where a test listens when the address does not matter.
var Loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Free returns the first of n neighbouring ports that no socket has and that no other test
// is given, below the ports that the kernel gives to outgoing connections.
func Free(t testing.TB, n int) uint16 {
	t.Helper()
	used := usedPorts(t)
	for range 100 {
		at, err := freeport.Range(n)
		require.NoError(t, err)
		first, free := uint16(at), true
		for p := first; p < first+uint16(n); p++ {
			free = free && !used[p]
		}
		if free {
			return first
		}
	}
	t.Fatalf("no %d neighbouring free ports", n)
	return 0
}

// usedPorts returns the local ports of all sockets, in any state: what other tests
// left in TIME_WAIT is in the way for a minute.
func usedPorts(t testing.TB) map[uint16]bool {
	t.Helper()
	used := make(map[uint16]bool)
	snap, err := sockets.NewTable().Snapshot(context.Background(), 0)
	require.NoError(t, err)
	for _, s := range snap.All() {
		used[s.Local.Port()] = true
	}
	proc, err := procfs.NewDefaultFS()
	require.NoError(t, err)
	v4, err := proc.NetTCP()
	require.NoError(t, err)
	v6, err := proc.NetTCP6()
	require.NoError(t, err)
	for _, line := range append(v4, v6...) {
		used[uint16(line.LocalPort)] = true
	}
	return used
}

// Options are the socket options of a server.
type Options struct {
	ReuseAddr, ReusePort, V6Only bool
}

// Socket is a TCP socket of this process.
type Socket struct {
	t    testing.TB
	fd   int
	Addr netip.AddrPort
}

// Bind makes a socket that is bound and does not listen.
func Bind(t testing.TB, at netip.AddrPort, o Options) *Socket {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	s := &Socket{t: t, fd: fd, Addr: at}
	t.Cleanup(s.Close)
	s.set(unix.SOL_SOCKET, unix.SO_REUSEADDR, o.ReuseAddr)
	s.set(unix.SOL_SOCKET, unix.SO_REUSEPORT, o.ReusePort)
	if at.Addr().Is6() {
		s.set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, o.V6Only)
	}
	require.NoError(t, unix.Bind(fd, sockaddr(at)), "bind %s", at)
	return s
}

// Listen makes a socket that listens.
func Listen(t testing.TB, at netip.AddrPort, o Options) *Socket {
	t.Helper()
	s := Bind(t, at, o)
	require.NoError(t, unix.Listen(s.fd, 8))
	return s
}

// FD is the socket's descriptor.
func (s *Socket) FD() int { return s.fd }

// Close closes the socket; twice does no harm.
func (s *Socket) Close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	s.fd = -1
}

func (s *Socket) set(level, option int, on bool) {
	s.t.Helper()
	value := 0
	if on {
		value = 1
	}
	require.NoError(s.t, unix.SetsockoptInt(s.fd, level, option, value))
}

// Connect makes a connection to port from a socket of its own, and accepts it.
func (s *Socket) Connect() (client, accepted *Socket) {
	s.t.Helper()
	client = dial(s.t, 0, s.Addr)
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	require.NoError(s.t, err)
	accepted = &Socket{t: s.t, fd: fd, Addr: s.Addr}
	s.t.Cleanup(accepted.Close)
	return client, accepted
}

// dial connects to a server, from the local port from if that is not 0.
func dial(t testing.TB, from uint16, to netip.AddrPort) *Socket {
	t.Helper()
	s := Bind(t, netip.AddrPortFrom(Loopback, from), Options{})
	require.NoError(t, unix.Connect(s.fd, sockaddr(to)))
	return s
}

// TimeWait leaves port in TIME_WAIT, as a server does that closed its connection
// first and has gone.
func TimeWait(t testing.TB, port uint16, reuse bool) {
	t.Helper()
	server := Listen(t, netip.AddrPortFrom(Loopback, port), Options{ReuseAddr: reuse})
	client, accepted := server.Connect()
	accepted.Close()
	client.Close()
	server.Close()
	WaitFor(t, port, sockets.TimeWait)
}

// FinWait2 leaves port in FIN_WAIT2 without a process: the server has gone, its
// client has not closed.
func FinWait2(t testing.TB, port uint16) {
	t.Helper()
	server := Listen(t, netip.AddrPortFrom(Loopback, port), Options{ReuseAddr: true})
	_, accepted := server.Connect()
	accepted.Close()
	server.Close()
	WaitFor(t, port, sockets.FinWait2)
}

// Outgoing uses port as the local end of a connection to somewhere else.
func Outgoing(t testing.TB, port uint16) *Socket {
	t.Helper()
	server := Listen(t, netip.AddrPortFrom(Loopback, Free(t, 1)), Options{ReuseAddr: true})
	client := dial(t, port, server.Addr)
	WaitFor(t, port, sockets.Established)
	return client
}

// WaitFor waits until the table shows port in a state. On loopback the kernel
// does its part in the system call, so this is a loop of few rounds.
func WaitFor(t testing.TB, port uint16, state sockets.State) {
	t.Helper()
	table := sockets.NewTable()
	for t.Context().Err() == nil {
		snap, err := table.Port(t.Context(), port)
		require.NoError(t, err)
		for _, s := range snap.Port(port) {
			if s.State == state {
				return
			}
		}
	}
	t.Fatalf("port %d never was in %s", port, state)
}

// Inode returns the inode of a descriptor of this process.
func Inode(t testing.TB, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st), "fd "+strconv.Itoa(fd))
	return st.Ino
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}
