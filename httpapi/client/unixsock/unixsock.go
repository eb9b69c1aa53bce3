package unixsock

import "errors"

// MaxPath is what sockaddr_un holds besides its final zero on Linux, in bytes.
const MaxPath = 107

// ErrUnsupported: this system does not say who is at the other end of a socket.
var ErrUnsupported = errors.New("the peer of a unix socket can be seen on linux only")

// Cred is a process at the other end of a socket.
type Cred struct {
	PID int // 0: in no PID namespace that is seen from here
	UID uint32
}
