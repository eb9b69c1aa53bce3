package sockets_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
)

// someUID has nothing to do with this machine.
const someUID = 54321

// dialAs makes sockets as another user, if uid is not our own: a socket belongs to
// whom the thread's file system uid is at that moment.
func dialAs(t *testing.T, uid int, d net.Dialer, addr string) *net.TCPConn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if uid != os.Geteuid() {
			_, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
			_ = errno // setfsuid(2) returns the previous one, and no errors
		}
		conn, err := d.Dial("tcp", addr)
		done <- result{conn, err}
	}()
	r := <-done
	require.NoError(t, r.err)
	t.Cleanup(func() { _ = r.conn.Close() })
	return r.conn.(*net.TCPConn)
}

func listenOn(t *testing.T, network, addr string) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener)
}

func accept(t *testing.T, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	conn, err := ln.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestPeerOf(t *testing.T) {
	for name, c := range map[string]struct{ network, listen, dial string }{
		"IPv4":                   {"tcp4", "127.0.0.1:0", "127.0.0.1"},
		"another loopback":       {"tcp4", "127.0.0.1:0", "127.0.0.1"},
		"all of IPv4":            {"tcp4", "0.0.0.0:0", "127.0.0.9"},
		"IPv6":                   {"tcp6", "[::1]:0", "::1"},
		"IPv4 on a socket of v6": {"tcp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listenOn(t, c.network, c.listen)
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			uids := []int{os.Geteuid()}
			if os.Geteuid() == 0 {
				uids = append(uids, someUID)
			}
			for _, uid := range uids {
				dialAs(t, uid, net.Dialer{}, net.JoinHostPort(c.dial, port))
				sock, err := sockets.PeerOf(context.Background(), accept(t, ln))
				require.NoError(t, err)
				require.Equal(t, uint32(uid), sock.UID)
				require.NotZero(t, sock.Inode)
			}
		})
	}
}

// A socket of IPv6 that is connected to an IPv4 address is one and the same.
func TestPeerOfAMappedClient(t *testing.T) {
	ln := listenOn(t, "tcp4", "127.0.0.1:0")
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: ln.Addr().(*net.TCPAddr).Port, Addr: ln.Addr().(*net.TCPAddr).AddrPort().Addr().As16()}
	require.NoError(t, unix.Connect(fd, to))
	sock, err := sockets.PeerOf(context.Background(), accept(t, ln))
	require.NoError(t, err)
	require.Equal(t, uint32(os.Geteuid()), sock.UID)
}

// A client that has gone, wholly or half, is nobody: what the kernel shows of it has
// uid 0.
func TestPeerOfAClientThatHasGone(t *testing.T) {
	ln := listenOn(t, "tcp4", "127.0.0.1:0")
	for name, leave := range map[string]func(*net.TCPConn) error{
		"half closed": (*net.TCPConn).CloseWrite,
		"closed":      (*net.TCPConn).Close,
		"reset": func(c *net.TCPConn) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			client := dialAs(t, os.Geteuid(), net.Dialer{}, ln.Addr().String())
			_, err := client.Write([]byte("request"))
			require.NoError(t, err)
			require.NoError(t, leave(client))
			_, err = sockets.PeerOf(context.Background(), accept(t, ln))
			require.ErrorIs(t, err, sockets.ErrNoPeer)
		})
	}
}

// The first client has gone before it is accepted, and another socket has got its
// port: the row with its addresses is established and is not its.
func TestPeerOfIsNotWhoHasGotThePort(t *testing.T) {
	ln := listenOn(t, "tcp4", "127.0.0.1:0")
	// An address of its own: no other connection of this machine takes the port meanwhile.
	own := &net.TCPAddr{IP: net.IPv4(127, 126, 0, 1)}
	first := dialAs(t, os.Geteuid(), net.Dialer{LocalAddr: own, Control: reuse}, ln.Addr().String())
	from := first.LocalAddr()
	_, err := first.Write([]byte("request"))
	require.NoError(t, err)
	require.NoError(t, first.SetLinger(0))
	require.NoError(t, first.Close())
	second := dialAs(t, os.Geteuid(), net.Dialer{LocalAddr: from, Control: reuse}, ln.Addr().String())
	require.Equal(t, from.String(), second.LocalAddr().String())

	_, err = sockets.PeerOf(context.Background(), accept(t, ln))
	require.ErrorIs(t, err, sockets.ErrNoPeer)
	sock, err := sockets.PeerOf(context.Background(), accept(t, ln))
	require.NoError(t, err, "and it is itself")
	require.Equal(t, uint32(os.Geteuid()), sock.UID)
}

func reuse(_, _ string, c syscall.RawConn) (err error) {
	return c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
}

// What a probe of a worker costs most.
func BenchmarkListening(b *testing.B) {
	table := sockets.NewTable()
	for b.Loop() {
		_, err := table.Listening(b.Context(), 1)
		require.NoError(b, err)
	}
}

func BenchmarkPeerOf(b *testing.B) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	defer ln.Close()
	client, err := net.Dial("tcp4", ln.Addr().String())
	require.NoError(b, err)
	defer client.Close()
	conn, err := ln.Accept()
	require.NoError(b, err)
	defer conn.Close()
	for b.Loop() {
		if _, err := sockets.PeerOf(context.Background(), conn.(*net.TCPConn)); err != nil {
			b.Fatal(err)
		}
	}
}

// The server's end is known from the moment of the connection on, with the cgroup of its listener,
// and the listener by the number that its process knows it by.
func TestServerOf(t *testing.T) {
	// Go's listeners are MPTCP's, whose TCP socket is another one than the program's (net, MultipathTCP).
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	plain, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer plain.Close()
	ln := plain.(*net.TCPListener)
	raw, err := ln.SyscallConn()
	require.NoError(t, err)
	var cookie uint64
	require.NoError(t, raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}))
	require.NoError(t, err)
	listening, err := sockets.NewTable().Listening(t.Context(), uint16(ln.Addr().(*net.TCPAddr).Port))
	require.NoError(t, err)
	require.Len(t, listening, 1)
	require.Equal(t, cookie, listening[0].Cookie)

	conn := dialAs(t, os.Geteuid(), net.Dialer{}, ln.Addr().String())
	queued, err := sockets.ServerOf(t.Context(), conn)
	require.NoError(t, err)
	require.Zero(t, queued.Inode, "nobody has accepted it")
	require.Equal(t, listening[0].CgroupID, queued.CgroupID)
	served := accept(t, ln)
	taken, err := sockets.ServerOf(t.Context(), conn)
	require.NoError(t, err)
	require.NotZero(t, taken.Inode)
	require.Equal(t, queued.Cookie, taken.Cookie)
	require.Equal(t, listening[0].CgroupID, taken.CgroupID)

	require.NoError(t, served.Close())
	_, err = sockets.ServerOf(t.Context(), conn)
	require.ErrorIs(t, err, sockets.ErrNoPeer)
}
