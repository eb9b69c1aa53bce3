package sockets

import (
	"fmt"
	"sync"
	"time"
)

// The kinds of Holder. A caller that knows more about a port, its lease say, may
// use kinds of its own.
const (
	KindListener   = "listener"   // listens on the port
	KindBound      = "bound"      // has bound the port and does not listen (yet)
	KindConnection = "connection" // a connection uses the port as its local one
	KindDraining   = "draining"   // nobody any more: the kernel's residue of closed connections
	KindHive       = "hive"       // another hive, which holds the claim on the port
	KindUnknown    = "unknown"    // the port cannot be bound, or was reported; nothing more is known
)

// Holder is who has a port.
type Holder struct {
	Port uint16
	Kind string // one of the Kind constants, or the caller's
	// PID is 0 where the system does not let us see it: another user's process
	// without CAP_SYS_PTRACE, another PID namespace, or hidepid.
	PID int
	// Program is the process's comm (at most 15 bytes, proc_pid_comm(5)), which is
	// whatever its user likes, as plain text. With PID 0 it is empty, or what somebody
	// reported.
	Program string
	// User is the name of the user who made the socket, or the number if it has none; empty: unknown.
	User string
	// Since is when the process started, not when it took the port; zero: unknown.
	Since time.Time
}

// String names the holder for a person: "nginx (pid 4711, user www)".
func (h Holder) String() string {
	switch {
	case h.Kind == KindDraining:
		return "the kernel (a connection is still closing)"
	case h.PID != 0 && h.User != "":
		return fmt.Sprintf("%s (pid %d, user %s)", h.Program, h.PID, h.User)
	case h.PID != 0:
		return fmt.Sprintf("%s (pid %d)", h.Program, h.PID)
	case h.Program != "":
		return h.Program
	case h.Kind == KindHive:
		return "another hive"
	case h.User != "":
		return fmt.Sprintf("a process of user %s that hive has no permission to inspect", h.User)
	}
	return "an unknown process"
}

// memoryAge is how long a Memory takes a process for the one that has a socket.
const memoryAge = time.Second

// Memory remembers for a moment which processes have which sockets: finding out takes a pass
// over the descriptors of all processes. The zero value is ready, and safe for concurrent
// use.
type Memory struct {
	mu     sync.Mutex    // held for a pass
	age    time.Duration // 0: memoryAge
	at     time.Time     // when it began
	owners map[uint64]int
}
