package endpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
)

// Also who has bound a port and does not listen yet still has it, wherever that is, and
// whatever the socket allows.
func TestWhyHeldByABoundSocket(t *testing.T) {
	table := sockets.NewTable()
	for name, at := range map[string]unix.Sockaddr{
		"all":          &unix.SockaddrInet4{},
		"loopback":     &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}},
		"another":      &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}},
		"all by IPv6":  &unix.SockaddrInet6{},
		"IPv6":         &unix.SockaddrInet6{Addr: [16]byte{15: 1}},
		"IPv4 by IPv6": &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}},
	} {
		family := unix.AF_INET
		if _, six := at.(*unix.SockaddrInet6); six {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		require.NoError(t, unix.Bind(fd, at), name)
		bound, err := unix.Getsockname(fd)
		require.NoError(t, err)
		var port uint16
		switch sa := bound.(type) {
		case *unix.SockaddrInet4:
			port = uint16(sa.Port)
		case *unix.SockaddrInet6:
			port = uint16(sa.Port)
		}
		require.False(t, alloc.Vacant(port), name)
		require.Contains(t, endpoint.WhyHeld(table, []uint16{port}), "still has it", name)
		require.NoError(t, unix.Close(fd))
		require.True(t, alloc.Vacant(port), name)
		require.Empty(t, endpoint.WhyHeld(table, []uint16{port}), name)
	}
}
