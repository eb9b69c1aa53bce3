package unixsock

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Reach returns a name for path that bind(2) and connect(2) take, however long the
// path is, and what must be called when that is done. It needs /proc. The error is
// that of open(2), for the directory of the path.
func Reach(path string) (name string, done func(), err error) {
	if len(path) <= MaxPath {
		return path, func() {}, nil
	}
	dir := filepath.Dir(path)
	// O_PATH asks only for the right to pass through the directory, all that connecting needs.
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { _ = unix.Close(fd) }, nil
}

// Peer returns who is at the other end: of a connection that was dialled the process
// that had called listen(2), of one that was accepted the one that had called
// connect(2) (SO_PEERCRED, unix(7)). The error is the system's.
func Peer(conn *net.UnixConn) (Cred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Cred{}, err
	}
	var cred *unix.Ucred
	if ctl := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); ctl != nil {
		return Cred{}, ctl
	}
	if err != nil {
		return Cred{}, os.NewSyscallError("getsockopt", err)
	}
	return Cred{PID: int(cred.Pid), UID: cred.Uid}, nil
}
