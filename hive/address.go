package hive

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// workerURL is where a worker is reached from this machine.
func workerURL(host string, port uint16) string {
	switch ip := net.ParseIP(host); {
	case ip == nil || !ip.IsUnspecified():
	case ip.To4() != nil:
		host = "127.0.0.1"
	default: // not every program that binds :: serves IPv4 too
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// URL is where a worker is reached from this machine.
func URL(w store.Worker) string { return workerURL(w.Spec.Host, w.Port) }

// ownAddrs are the addresses that a worker's host stands for. Who connects to localhost
// may be given either.
func ownAddrs(host string) []netip.Addr {
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	return []netip.Addr{addr}
}

// atOwn splits the sockets of a port of a worker: those that take the connections to the
// worker's own address, and those beside them, on addresses of the same port that are
// none of the worker's business.
func atOwn(socks []sockets.Socket, host string) (own, beside []sockets.Socket) {
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

// foreigners returns those of socks that are in the hands of others.
func (w *worker) foreigners(ctx context.Context, socks []sockets.Socket) []sockets.Socket {
	if owner, _ := w.tree().Owns(ctx, socks); owner != proc.Foreign {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(socks), func(s sockets.Socket) bool {
		owner, _ := w.tree().Owns(ctx, []sockets.Socket{s})
		return owner != proc.Foreign
	})
}

func describeHolders(ctx context.Context, socks []sockets.Socket) string {
	holders, err := sockets.Holders(ctx, socks)
	if err != nil || len(holders) == 0 || holders[0].PID == 0 {
		return "an unknown process"
	}
	return holders[0].Program + " (pid " + strconv.Itoa(holders[0].PID) + ", user " + holders[0].User + ")"
}
