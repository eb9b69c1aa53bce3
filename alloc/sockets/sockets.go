package sockets

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"time"
)

// State is the state of a TCP socket, as far as the question "can this port be
// given out" tells states apart.
type State uint8

// The states. The kernel's numbers (include/net/tcp_states.h) differ.
const (
	Other       State = iota // on its way up or down: SYN_RECV, LAST_ACK and so on
	Listen                   // accepts connections
	Bound                    // has the port, does not listen (BOUND_INACTIVE, listed by kernel >= 6.8)
	Established              // a connection
	TimeWait                 // what the kernel keeps of a closed connection, without a process
	FinWait1                 // closed by us, not yet acknowledged
	FinWait2                 // closed by us, the other side has not closed
	CloseWait                // closed by the other side, a process still has it
)

var stateNames = [...]string{
	Other: "other", Listen: "listen", Bound: "bound", Established: "established",
	TimeWait: "time_wait", FinWait1: "fin_wait1", FinWait2: "fin_wait2", CloseWait: "close_wait",
}

// String returns the state in lower case, as ss(8) writes it.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return stateNames[Other]
	}
	return stateNames[s]
}

// Socket is one TCP socket of this network namespace.
type Socket struct {
	Local, Remote netip.AddrPort
	State         State
	// Inode is the socket's inode, the number in /proc/<pid>/fd; 0 when no
	// process has the socket any more.
	Inode uint64
	// Cookie is the kernel's number of the socket, which is not used again while the machine
	// runs (SO_COOKIE, socket(7), kernel >= 4.12); 0: not known, as from /proc. The program that
	// has the socket is told another one of a socket of MPTCP, as Go's listeners are.
	Cookie uint64
	// UID owns the socket.
	UID uint32
	// CgroupID is the id of the cgroup v2 in which the socket was made (the inode
	// of its directory); 0 unknown. It does not follow a process or a descriptor
	// that moves to another cgroup.
	CgroupID uint64
	// V6Only says of an IPv6 socket that it takes no IPv4 connections (IPV6_V6ONLY,
	// ipv6(7)). It is known of sockets in Listen or Bound, from sock_diag.
	V6Only bool
}

// holds reports whether the socket takes its port away from others: somebody has
// it and listens, or has bound it.
func (s Socket) holds() bool {
	return s.Inode != 0 && (s.State == Listen || s.State == Bound)
}

// Accepting returns those of socks, which have one port, that the kernel gives a
// connection to addr to: the ones that are bound to that very address, and if there are
// none, the ones on a wildcard address that takes it. If addr is a wildcard address
// itself, it is all that take connections to any address of its family. Several share a
// port by SO_REUSEPORT, or take different connections.
func Accepting(socks []Socket, addr netip.Addr) []Socket {
	addr = addr.Unmap()
	var exact, wild []Socket
	for _, s := range socks {
		local := s.Local.Addr().Unmap()
		switch {
		// The kernel prefers the socket on the address itself.
		case local == addr && !addr.IsUnspecified():
			exact = append(exact, s)
		case s.takes(addr):
			wild = append(wild, s)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return wild
}

// takes reports whether a socket on a wildcard address takes connections to addr or,
// if that is one itself, whether any socket is in its way.
func (s Socket) takes(addr netip.Addr) bool {
	local := s.Local.Addr().Unmap()
	switch {
	case !local.IsUnspecified() && !addr.IsUnspecified():
		return false
	case local.Is4() == addr.Is4():
		return true
	}
	// :: takes IPv4, too, unless IPV6_V6ONLY is set.
	return addr.Is4() && local.IsUnspecified() && !s.V6Only
}

// The sources of a Snapshot.
const (
	SourceSockDiag = "sock_diag"
	SourceProc     = "proc"
)

// Snapshot is the socket table at one moment. It does not change; any number of
// goroutines may read it.
type Snapshot struct {
	// TakenAt is when reading began: what was there before is in it.
	TakenAt time.Time
	// Source is SourceSockDiag or SourceProc.
	Source string
	// BoundKnown says that sockets that are bound and do not listen are listed.
	// Where it is false, a port without a socket may still be somebody's.
	BoundKnown bool
	// AllStates says that every socket of the ports in question is listed
	// (Table.Port); otherwise only those in Listen and Bound (Table.Snapshot).
	AllStates bool

	sockets []Socket // by local port
}

// NewSnapshot makes a Snapshot of sockets that were read otherwise, or made up, as
// complete in every state. It is for the tests of decisions about a snapshot.
func NewSnapshot(list ...Socket) *Snapshot {
	return newSnapshot(time.Now(), SourceSockDiag, true, true, slices.Clone(list))
}

// newSnapshot takes over list. It drops duplicates, which a read has when other sockets
// came or went between two pieces of it.
func newSnapshot(at time.Time, source string, boundKnown, allStates bool, list []Socket) *Snapshot {
	// By port, for the search in Port; by inode, so that doubles stand side by side.
	slices.SortFunc(list, func(a, b Socket) int {
		return cmp.Or(
			cmp.Compare(a.Local.Port(), b.Local.Port()),
			cmp.Compare(a.Inode, b.Inode),
			a.Local.Compare(b.Local),
			a.Remote.Compare(b.Remote),
		)
	})
	list = slices.CompactFunc(list, func(a, b Socket) bool {
		return a.Inode == b.Inode && a.Local == b.Local && a.Remote == b.Remote
	})
	return &Snapshot{TakenAt: at, Source: source, BoundKnown: boundKnown, AllStates: allStates, sockets: list}
}

// All returns every socket of the snapshot, by local port. The caller must not
// change it.
func (s *Snapshot) All() []Socket { return s.sockets }

// Port returns every socket whose local port is p, whatever its address. The
// caller must not change it.
func (s *Snapshot) Port(p uint16) []Socket {
	from := sort.Search(len(s.sockets), func(i int) bool { return s.sockets[i].Local.Port() >= p })
	to := from
	for to < len(s.sockets) && s.sockets[to].Local.Port() == p {
		to++
	}
	// Without spare capacity: a caller's append must not write into the snapshot.
	return s.sockets[from:to:to]
}

// Listeners returns the sockets of port p that somebody has and that are in
// Listen or Bound, in any address family.
func (s *Snapshot) Listeners(p uint16) []Socket {
	var out []Socket
	for _, sock := range s.Port(p) {
		if sock.holds() {
			out = append(out, sock)
		}
	}
	return out
}

// Residue returns the sockets of port p that no process has any more: what the
// kernel keeps of closed connections. It is always empty unless AllStates.
func (s *Snapshot) Residue(p uint16) []Socket {
	var out []Socket
	for _, sock := range s.Port(p) {
		if sock.Inode == 0 {
			out = append(out, sock)
		}
	}
	return out
}
