package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"rbeehive/alloc/sockets"
)

// canSeeOwners says that the system tells whose a listener is.
const canSeeOwners = runtime.GOOS == "linux"

// overflowUID is what the kernel shows for users that this user namespace does not
// have (user_namespaces(7)): it may be anybody.
const overflowUID = 65534

// trustedUIDs are the users whose hive this process believes: root, its own, and more.
func trustedUIDs(more ...uint32) []uint32 {
	uids := append([]uint32{0, uint32(os.Geteuid())}, more...)
	return slices.DeleteFunc(uids, func(uid uint32) bool { return uid == overflowUID })
}

// errListenerChanged is a port that a hive has closed or taken in the moment of connecting.
var errListenerChanged = errors.New("the listener changed while connecting")

// guard keeps a token from whoever has taken a hive's port: TCP ports are first come,
// first served, also while a hive is started again.
//
// The listener is looked at, connected to, and looked at again. Only a socket that
// listened all the time can have had the port: one look may see the hive that came
// after a squatter who had taken the connection and closed its listener.
//
// That the right one listens is not enough either. Who has bound the port before
// (SO_REUSEADDR) can connect from it at the same moment, which makes a connection
// without any listener (simultaneous open, RFC 9293 3.5). So the socket at the other
// end is looked at, too: it belongs to who has called accept(2), and to nobody before.
type guard struct {
	uids  []uint32
	table *sockets.Table
	// What tests do after the first look, with the socket that is to be connected, and
	// when it is.
	onFirstCheck func(syscall.RawConn)
	connected    func()
}

func newGuard(more []uint32) *guard {
	return &guard{uids: trustedUIDs(more...), table: sockets.NewTable(), onFirstCheck: func(syscall.RawConn) {}, connected: func() {}}
}

// dial connects to addr. A listener of this machine, at whatever address, that is not
// of the guard's users is an *UntrustedError.
func (g *guard) dial(ctx context.Context, addr string) (net.Conn, error) {
	var mu sync.Mutex // a name with several addresses is dialled side by side
	before := map[netip.AddrPort][]sockets.Socket{}
	// ControlContext runs for each address, with the socket made and not yet connected.
	d := net.Dialer{Timeout: dialTimeout, ControlContext: func(ctx context.Context, _, address string, raw syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ours, err := ofThisMachine(to.Addr())
		if err != nil || !ours {
			return err
		}
		listeners, err := g.listeners(ctx, plain(to))
		if err != nil {
			return err
		}
		g.onFirstCheck(raw)
		mu.Lock()
		defer mu.Unlock()
		before[plain(to)] = listeners
		return nil
	}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	g.connected()
	mu.Lock()
	defer mu.Unlock()
	to := plain(conn.RemoteAddr().(*net.TCPAddr).AddrPort()) // that is what "tcp" dials
	// What is not in it is another machine's, whose sockets cannot be seen.
	if first, local := before[to]; local {
		if err := g.recheck(ctx, conn, to, first); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// listeners returns who gets a connection to an address of this machine; nobody is no
// error, connecting will say so.
func (g *guard) listeners(ctx context.Context, to netip.AddrPort) ([]sockets.Socket, error) {
	all, err := g.table.Listening(ctx, to.Port())
	if err != nil {
		return nil, unseen(to, err)
	}
	takers := takersOf(all, to.Addr())
	for _, s := range takers {
		if !slices.Contains(g.uids, s.UID) {
			return nil, untrusted(ctx, to, s)
		}
	}
	return takers, nil
}

// recheck is the second check: the same listeners, and none but them at the other end.
func (g *guard) recheck(ctx context.Context, conn net.Conn, to netip.AddrPort, before []sockets.Socket) error {
	snap, err := g.table.Port(ctx, to.Port())
	if err != nil {
		return unseen(to, err)
	}
	listening := slices.DeleteFunc(snap.Listeners(to.Port()), func(s sockets.Socket) bool { return s.State != sockets.Listen })
	after := takersOf(listening, to.Addr())
	// A socket that came meanwhile has another inode, whoever's and wherever it is.
	same := func(a, b sockets.Socket) bool { return a.Inode == b.Inode && a.UID == b.UID }
	if len(before) == 0 || !slices.EqualFunc(before, after, same) {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: conn.RemoteAddr(), Err: errListenerChanged}
	}
	from := plain(conn.LocalAddr().(*net.TCPAddr).AddrPort())
	for _, s := range snap.Port(to.Port()) {
		// Without an inode it waits to be accepted, and is nobody's yet.
		if plain(s.Local) == to && plain(s.Remote) == from && s.Inode != 0 && !slices.Contains(g.uids, s.UID) {
			return untrusted(ctx, to, s)
		}
	}
	return nil
}

// takersOf picks the listeners that get a connection to an address, as the kernel
// does: those of that very address, or if there is none those of all addresses. Of
// [::] it cannot be told here whether it takes IPv4.
func takersOf(listeners []sockets.Socket, to netip.Addr) []sockets.Socket {
	var exact, all []sockets.Socket
	for _, s := range listeners {
		switch at := s.Local.Addr().Unmap().WithZone(""); {
		case at == to:
			exact = append(exact, s)
		case at.IsUnspecified() && (at.Is6() || to.Is4()):
			all = append(all, s)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return all
}

// plain is an address that can be compared.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// ofThisMachine reports whether a connection to ip ends on this machine.
func ofThisMachine(ip netip.Addr) (bool, error) {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("read this machine's addresses: %w", err)
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip.AsSlice())
	}), nil
}

func unseen(to netip.AddrPort, err error) error {
	return &UntrustedError{Addr: to.String(), Reason: fmt.Sprintf("the owner of the listener cannot be determined: %v", err)}
}

// untrusted names who has the socket.
func untrusted(ctx context.Context, to netip.AddrPort, s sockets.Socket) error {
	who := fmt.Sprintf("a process of uid %d", s.UID)
	// Only for the message: the uid alone has decided.
	if holders, err := sockets.Holders(ctx, []sockets.Socket{s}); err == nil && len(holders) > 0 {
		who = holders[0].String()
		if holders[0].PID == 0 { // another user's, which may not be looked into
			who = "a process of user " + holders[0].User
		}
	}
	return &UntrustedError{Addr: to.String(), Reason: "the listener belongs to " + who + ", but the token is for a hive of root, of this user or of the owner of the token file"}
}
