package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"rbeehive/httpapi/client/unixsock"
)

// errForeignDir is a socket that is not even tried.
var errForeignDir = errors.New("the directory of the socket belongs to another user")

// socketKeepers returns the users who may serve a socket in dir: root, this process's,
// and the owner of dir if whoever chose the path, or root, has put up with that. The
// latter is a directory that only root can have put where it is: /run/hive of a hive
// that runs as a user of its own. Without named any other directory of a stranger's
// is errForeignDir.
func socketKeepers(dir string, named bool) ([]uint32, error) {
	uids := trustedUIDs()
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid // os.Stat's on Linux
	switch {
	case slices.Contains(uids, owner):
		return uids, nil
	// Who has named a socket has chosen its directory with it.
	case !named && !rootPlaced(dir):
		return nil, errForeignDir
	}
	return trustedUIDs(owner), nil
}

// rootPlaced reports whether nobody but root can make or move entries beside dir.
func rootPlaced(dir string) bool {
	info, err := os.Stat(dir + "/..") // as the kernel goes: dir may be a link
	return err == nil && info.Sys().(*syscall.Stat_t).Uid == 0 && info.Mode().Perm()&0o022 == 0
}

// checkServer refuses a socket that somebody else than uids serves: in a directory
// that many may write to (/tmp) the path is whose who comes first.
func checkServer(conn *net.UnixConn, t *target, uids []uint32) error {
	peer, err := unixsock.Peer(conn)
	if err != nil {
		return &UntrustedError{Addr: t.addr, Reason: fmt.Sprintf("the owner of the socket cannot be determined: %v", err)}
	}
	if slices.Contains(uids, peer.UID) {
		return nil
	}
	return &UntrustedError{Addr: t.addr, Reason: fmt.Sprintf("the socket is served by %s, who is neither root nor this user nor the owner of its directory", describe(peer))}
}

func describe(peer unixsock.Cred) string {
	name := strconv.FormatUint(uint64(peer.UID), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	// A process of another PID namespace has no number in this one.
	if peer.PID == 0 {
		return "user " + name
	}
	return fmt.Sprintf("user %s (pid %d)", name, peer.PID)
}
