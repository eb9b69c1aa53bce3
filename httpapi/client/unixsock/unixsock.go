package unixsock

import (
	"errors"
	"path/filepath"
)

// MaxPath is what sockaddr_un holds besides its final zero on Linux, in bytes.
const MaxPath = 107

// ErrUnsupported: this system does not say who is at the other end of a socket.
var ErrUnsupported = errors.New("the peer of a unix socket can be seen on linux only")

// Cred is a process at the other end of a socket.
type Cred struct {
	PID int // 0: in no PID namespace that is seen from here
	UID uint32
}

// System is the control socket of the machine's hive, as its package sets it up.
const System = "/run/hive/hive.sock"

// Control is the control socket of the hive with a state directory, unless it is told
// otherwise.
func Control(dataDir string) string { return filepath.Join(dataDir, "control.sock") }
