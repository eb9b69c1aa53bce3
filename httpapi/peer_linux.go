package httpapi

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerUID is the effective user of the process that connected, as of then.
func peerUID(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var got error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			got = err
			return
		}
		uid = cred.Uid
		if cred.Pid == 0 && cred.Uid == ^uint32(0) { // never connected
			got = errNoPeer
		}
	})
	return uid, errors.Join(err, got)
}
