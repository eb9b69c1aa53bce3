package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// URLOf is where a worker with this spec that listens on port is reached from this machine.
func URLOf(spec store.Spec, port uint16) string {
	scheme, host := "http", spec.Host
	if spec.Ready.TLS {
		scheme = "https"
	}
	// The address that means all addresses is none to connect to.
	switch ip := net.ParseIP(host); {
	case ip == nil || !ip.IsUnspecified():
	case ip.To4() != nil:
		host = "127.0.0.1"
	default: // not every program that binds :: serves IPv4 too
		host = "::1"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + spec.BasePath
}

// URL is where a worker is reached from this machine.
func URL(w store.Worker) string { return URLOf(w.Spec, w.Port) }

// ownAddrs are the addresses that a worker's host stands for. Who connects to localhost
// may be given either.
func ownAddrs(host string) []netip.Addr {
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	// Other names are not resolved: they may mean something else each time.
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	return []netip.Addr{addr}
}

// Split splits the sockets of a port of a worker: those that take the connections to the
// worker's own address, and those beside them, on addresses of the same port that are
// none of the worker's business.
func Split(socks []sockets.Socket, host string) (own, beside []sockets.Socket) {
	addrs := ownAddrs(host)
	if addrs == nil {
		return socks, nil // it is not known what is not its business
	}
	is := map[uint64]bool{}
	for _, addr := range addrs {
		for _, s := range sockets.Accepting(socks, addr) {
			is[s.Inode] = true
		}
	}
	for _, s := range socks {
		if is[s.Inode] {
			own = append(own, s)
		} else {
			beside = append(beside, s)
		}
	}
	return own, beside
}

// Describe says for a person who has these sockets. It reads /proc.
func Describe(ctx context.Context, socks []sockets.Socket) string {
	holders, err := sockets.Holders(ctx, socks)
	// PID 0: another user's process, without CAP_SYS_PTRACE.
	if err != nil || len(holders) == 0 || holders[0].PID == 0 {
		return "an unknown process"
	}
	return holders[0].Program + " (pid " + strconv.Itoa(holders[0].PID) + ", user " + holders[0].User + ")"
}

// StillHeld says who has one of these ports; empty if nobody has.
func StillHeld(ctx context.Context, snap *sockets.Snapshot, ports []uint16) string {
	for _, port := range ports {
		socks := snap.Listeners(port)
		switch {
		case len(socks) == 0:
		case len(ports) > 1:
			return fmt.Sprintf("%s still has port %d", Describe(ctx, socks), port)
		default:
			return Describe(ctx, socks) + " still has it"
		}
	}
	return ""
}

// tableTimeout bounds the reads of the socket table that a decision needs. They are not
// given up when a caller goes: the decision is then still to be taken.
const tableTimeout = 5 * time.Second

// WhyHeld says why ports cannot be given out again: somebody listens on one of them, or
// that cannot be seen. Empty: they can. It blocks for up to five seconds.
func WhyHeld(table *sockets.Table, ports []uint16) string {
	ctx, cancel := context.WithTimeout(context.Background(), tableTimeout)
	defer cancel()
	for _, port := range ports {
		// Mostly the case, and no work that grows with the connections of the machine.
		if alloc.Vacant(port) {
			continue
		}
		snap, err := table.Port(ctx, port)
		if err != nil {
			return "the socket table cannot be read: " + err.Error()
		}
		if len(snap.Listeners(port)) > 0 {
			return StillHeld(ctx, snap, ports)
		}
	}
	return ""
}

// Overlap reports whether two lists have a port in common.
func Overlap(a, b []uint16) bool {
	return slices.ContainsFunc(a, func(port uint16) bool { return slices.Contains(b, port) })
}
