package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// noCookie matches a socket whatever its cookie is (INET_DIAG_NOCOOKIE).
const noCookie = ^uint32(0)

// peerTimeout bounds a query for one socket. It delays every new connection, and the
// kernel answers in microseconds.
const peerTimeout = time.Second

// PeerOf returns the other end of an accepted loopback connection: the socket that
// connected, with the user who made it and its cgroup. It costs some 20
// microseconds, and blocks for two seconds at most.
//
// What it returns is true at the moment of the answer and for this connection: the kernel
// is queried for the socket with exactly the opposite addresses, and after that the state
// of our own end is read. Where our end is established then, the other one has not been
// closed (on loopback its FIN or RST would have arrived with the close), so its addresses
// cannot have passed to another socket in between. In the other order they can: a client
// that has gone leaves uid 0, and then perhaps another program with its port.
//
// ErrNoPeer is everything else: a connection from elsewhere, one that is closed or
// half closed, a peer in another network namespace, a kernel that does not say. It
// means "not known", never "nobody".
func PeerOf(ctx context.Context, conn *net.TCPConn) (Socket, error) {
	sock, err := otherEnd(ctx, conn)
	if err == nil && sock.Inode == 0 {
		err = fmt.Errorf("%w: its socket is %s", ErrNoPeer, sock.State)
	}
	if err != nil {
		return Socket{}, err
	}
	return sock, nil
}

// ServerOf returns the other end of a loopback connection that this process has made: the
// socket of who listens there. It is that also while nobody has accepted the connection yet; it has
// no inode and no user then, and the cgroup of the listener, which it keeps. Bounds, costs
// and errors are those of PeerOf.
func ServerOf(ctx context.Context, conn *net.TCPConn) (Socket, error) { return otherEnd(ctx, conn) }

// otherEnd is PeerOf for a socket that no process may have yet.
func otherEnd(ctx context.Context, conn *net.TCPConn) (Socket, error) {
	local, okLocal := conn.LocalAddr().(*net.TCPAddr)
	remote, okRemote := conn.RemoteAddr().(*net.TCPAddr)
	if !okLocal || !okRemote {
		return Socket{}, ErrNoPeer
	}
	ours, theirs := unmapped(local.AddrPort()), unmapped(remote.AddrPort())
	if !ours.Addr().IsLoopback() || !theirs.Addr().IsLoopback() {
		return Socket{}, fmt.Errorf("%w: it is not a loopback connection", ErrNoPeer)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return Socket{}, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	// The other end's socket is asked for, so its local address is our remote one.
	sock, err := diagOne(ctx, raw, theirs, ours)
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		// The kernel does not take so long: this process was frozen meanwhile, and the caller
		// is not to be a stranger for that.
		sock, err = diagOne(ctx, raw, theirs, ours)
	}
	if err != nil {
		return Socket{}, fmt.Errorf("%w: %w", ErrNoPeer, err)
	}
	switch {
	case sock.State != Established:
		return Socket{}, fmt.Errorf("%w: its socket is %s", ErrNoPeer, sock.State)
	case unmapped(sock.Local) != theirs || unmapped(sock.Remote) != ours: // a listener is the kernel's second choice
		return Socket{}, fmt.Errorf("%w: the kernel knows no such socket", ErrNoPeer)
	// Last: that our end is still established proves the answer before it (see above).
	case !established(raw):
		return Socket{}, fmt.Errorf("%w: it has been closed", ErrNoPeer)
	}
	return sock, nil
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// diagOne asks for the one socket with these addresses in the network namespace of
// ours.
func diagOne(ctx context.Context, ours syscall.RawConn, local, remote netip.AddrPort) (Socket, error) {
	conn, err := dialDiag(ctx, peerTimeout)
	if err != nil {
		return Socket{}, err
	}
	defer conn.close()
	if err := sameNamespace(conn, ours); err != nil {
		return Socket{}, err
	}
	var sock Socket
	answers := 0
	if err := conn.ask(0, exactRequest(local, remote), func(data []byte) (err error) {
		answers++
		sock, err = parseDiag(data)
		return err
	}); err != nil {
		return Socket{}, err
	}
	if answers != 1 {
		return Socket{}, fmt.Errorf("%w: %d answers about one socket", ErrMalformed, answers)
	}
	return sock, nil
}

// exactRequest makes a struct inet_diag_req_v2 for one socket. The family is that of
// the addresses: a socket of IPv6 with mapped addresses is found by IPv4, too.
func exactRequest(local, remote netip.AddrPort) []byte {
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	b := diagRequest(family, 1<<tcpEstablished, local.Port())
	id := b[8:] // struct inet_diag_sockid
	binary.BigEndian.PutUint16(id[2:4], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(id[40:44], noCookie)
	binary.NativeEndian.PutUint32(id[44:48], noCookie)
	return b
}

// Open reports whether neither end of a connection has closed it, as far as that is known
// here. It costs a system call.
func Open(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	return err == nil && established(raw)
}

// established reads the state of our own end by tcp(7)'s TCP_INFO.
func established(raw syscall.RawConn) (yes bool) {
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == tcpEstablished
	})
	return yes && err == nil
}

// sameNamespace refuses a connection of another network namespace than the one that
// sock_diag answers for: a service manager may have made the listener there, and the
// same addresses mean somebody else here. Kernels before 5.14 cannot tell.
func sameNamespace(asked *diagConn, ours syscall.RawConn) error {
	here, err := unix.GetsockoptUint64(asked.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("network namespace of sock_diag: %w", err)
	}
	there, err := netnsCookie(ours)
	if err != nil {
		return fmt.Errorf("network namespace of the connection: %w", err)
	}
	if here != there {
		return errors.New("the listener belongs to another network namespace")
	}
	return nil
}

func netnsCookie(raw syscall.RawConn) (cookie uint64, err error) {
	var got error
	err = raw.Control(func(fd uintptr) {
		cookie, got = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	})
	return cookie, errors.Join(err, got)
}
