package sockets_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/internal/porttest"
	"rbeehive/alloc/sockets"
)

// place is where a socket of a test listens.
type place struct {
	addr   string
	v6Only bool
}

func places() []place {
	return []place{{"127.0.0.1", false}, {"127.0.0.2", false}, {"0.0.0.0", false}, {"::1", false}, {"::1", true}, {"::", false}, {"::", true}, {"::ffff:127.0.0.1", false}}
}

// Each pair of listeners on one port, as far as the kernel lets them be: whom it gives a
// connection to is among those that Accepting names, and nobody is named in vain.
func TestAcceptingIsWhatTheKernelDoes(t *testing.T) {
	table := sockets.NewTable()
	shared := porttest.Options{ReusePort: true}
	for _, a := range places() {
		for _, b := range places() {
			port := porttest.Free(t, 1)
			var listening []*porttest.Socket
			for _, p := range []place{a, b} {
				o := shared
				o.V6Only = p.v6Only
				listening = append(listening, porttest.Listen(t, at(p.addr, port), o))
			}
			socks, err := table.Listening(t.Context(), port)
			require.NoError(t, err)
			require.Len(t, socks, 2)
			for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"} {
				named := map[uint64]bool{}
				for _, s := range sockets.Accepting(socks, netip.MustParseAddr(to)) {
					named[s.Inode] = true
				}
				got := map[uint64]bool{}
				for range 8 {
					if inode := takenBy(t, at(to, port), listening); inode != 0 {
						got[inode] = true
					}
				}
				require.Equal(t, len(named) == 0, len(got) == 0, "%v and %v, to %s", a, b, to)
				for inode := range got {
					require.True(t, named[inode], "%v and %v, to %s", a, b, to)
				}
			}
			for _, s := range listening {
				s.Close()
			}
		}
	}
}

// takenBy connects, and returns the inode of the listener that has got the connection; 0:
// it was refused.
func takenBy(t *testing.T, to netip.AddrPort, listening []*porttest.Socket) uint64 {
	t.Helper()
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		require.ErrorIs(t, err, unix.ECONNREFUSED)
		return 0
	}
	fds := make([]unix.PollFd, len(listening))
	for i, s := range listening {
		fds[i] = unix.PollFd{Fd: int32(s.FD()), Events: unix.POLLIN}
	}
	_, err = unix.Poll(fds, int((10 * time.Second).Milliseconds()))
	require.NoError(t, err)
	for i, s := range listening {
		if fds[i].Revents&unix.POLLIN != 0 {
			conn, _, err := unix.Accept(s.FD())
			require.NoError(t, err)
			require.NoError(t, unix.Close(conn))
			return porttest.Inode(t, s.FD())
		}
	}
	require.Fail(t, "a connection that nobody has got")
	return 0
}

// A wildcard address is every address of its family.
func TestAcceptingOnAWildcardAddress(t *testing.T) {
	socks := []sockets.Socket{
		{Local: at("127.0.0.1", 9), Inode: 1},
		{Local: at("192.0.2.7", 9), Inode: 2},
		{Local: at("::1", 9), Inode: 3},
		{Local: at("::", 9), Inode: 4},
		{Local: at("::", 9), Inode: 5, V6Only: true},
		{Local: at("::ffff:192.0.2.8", 9), Inode: 6},
	}
	inodes := func(addr string) (list []uint64) {
		for _, s := range sockets.Accepting(socks, netip.MustParseAddr(addr)) {
			list = append(list, s.Inode)
		}
		return list
	}
	require.Equal(t, []uint64{1, 2, 4, 6}, inodes("0.0.0.0"))
	require.Equal(t, []uint64{3, 4, 5}, inodes("::"))
	require.Equal(t, []uint64{2}, inodes("::ffff:192.0.2.7"))
	require.Equal(t, []uint64{4}, inodes("192.0.2.9"))
	require.Empty(t, sockets.Accepting(nil, netip.MustParseAddr("::")))
	// Of /proc it is not known, and then it may be that one.
	require.Len(t, sockets.Accepting([]sockets.Socket{{Local: at("::", 9)}}, netip.MustParseAddr("127.0.0.1")), 1)
}
