package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// read reads the sockets in one of states, of one port or, with port 0, of all.
func (t *Table) read(ctx context.Context, port uint16, states uint32) (*Snapshot, error) {
	began := time.Now()
	var diagErr error
	if !t.procOnly {
		list, err := diag(ctx, states, port)
		if err == nil {
			return newSnapshot(began, SourceSockDiag, t.boundKnown && states&(1<<tcpBoundInactive) != 0, states == statesAll, list), nil
		}
		diagErr = err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	began = time.Now() // what happened while sock_diag failed is in /proc
	list, err := readProc(port)
	if err != nil {
		return nil, fmt.Errorf("read socket table: %w", errors.Join(diagErr, err))
	}
	return newSnapshot(began, SourceProc, false, states == statesAll, list), nil
}

// readProc reads /proc/net/tcp and tcp6. They have no sockets that are only
// bound, and no cgroup.
func readProc(port uint16) ([]Socket, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	v4, err := proc.NetTCP()
	if err != nil {
		return nil, err
	}
	v6, err := proc.NetTCP6()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return nil, err
	}
	var list []Socket
	for _, line := range append(v4, v6...) {
		state := stateOf(uint8(line.St))
		local := uint16(line.LocalPort)
		// What sock_diag would be asked for: all states of one port, or the listeners of all.
		if port != 0 && local != port || port == 0 && state != Listen {
			continue
		}
		list = append(list, Socket{
			Local:  procAddr(line.LocalAddr, local),
			Remote: procAddr(line.RemAddr, uint16(line.RemPort)),
			State:  state,
			Inode:  line.Inode,
			UID:    uint32(line.UID),
		})
	}
	return list, nil
}

func procAddr(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip) // 4 or 16 bytes, by the file it came from
	return netip.AddrPortFrom(addr, port)
}

// listsBound reports whether this kernel lists bound sockets that do not listen. An older
// one silently omits unknown states, which would read as "nothing is bound".
func listsBound() bool {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return false
	}
	return releaseAtLeast(unix.ByteSliceToString(uts.Release[:]), 6, 8)
}

// releaseAtLeast compares the first two numbers of a kernel release such as
// "6.8.0-45-generic". One that it cannot read counts as old.
func releaseAtLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		second = rest[:i]
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	if errA != nil || errB != nil {
		return false
	}
	return a > major || a == major && b >= minor
}
