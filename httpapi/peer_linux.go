package httpapi

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"rbeehive/hive/access"
)

// unixPeer is the process that connected, as of then (unix(7), SO_PEERCRED and
// SO_PEERGROUPS).
func unixPeer(c *net.UnixConn) (who access.Caller) {
	raw, err := c.SyscallConn()
	if err != nil {
		return access.Caller{}
	}
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || cred.Pid == 0 && cred.Uid == ^uint32(0) { // never connected
			return
		}
		who = access.Caller{Known: true, UID: cred.Uid, PID: int(cred.Pid), GIDs: append(peerGroups(int(fd)), cred.Gid)}
	})
	if err != nil {
		return access.Caller{}
	}
	return who
}

// peerGroups is the supplementary groups of the process that connected, which are
// what it has, whatever the user database says; none before Linux 4.13.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for {
		n, err := getPeerGroups(fd, groups)
		switch {
		case errors.Is(err, unix.ERANGE) && n > len(groups) && n <= 1<<16: // NGROUPS_MAX
			groups = make([]uint32, n)
		case err != nil || n > len(groups):
			return nil
		default:
			return groups[:n:n]
		}
	}
}

// getPeerGroups fills groups and returns how many there are, also with ERANGE.
func getPeerGroups(fd int, groups []uint32) (int, error) {
	size := uint32(len(groups) * 4) //nolint:gosec // at most NGROUPS_MAX
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return int(size / 4), errno
	}
	return int(size / 4), nil
}
