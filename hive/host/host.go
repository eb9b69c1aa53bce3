package host

import (
	"errors"
	"math"
	"strings"

	"rbeehive/alloc"
)

// ErrUnsupported: this operating system is not Linux.
var ErrUnsupported = errors.New("the machine can be examined on Linux only")

// LocalPorts is which ports the kernel gives to outgoing connections, and which it lets
// anybody bind.
type LocalPorts struct {
	Range    alloc.Range   // net.ipv4.ip_local_port_range, for IPv6 too
	Reserved []alloc.Range // of these, the ones it leaves alone: net.ipv4.ip_local_reserved_ports
	// Unprivileged is the first port that needs no capability: net.ipv4.ip_unprivileged_port_start.
	Unprivileged int
}

// Hiding is what the mount of /proc hides (proc(5), hidepid).
type Hiding struct {
	Mode   string // "off", "noaccess", "invisible" or "ptraceable"
	Exempt bool   // hive is in the group for which nothing is hidden
}

// First is PID 1 of hive's PID namespace, which becomes the parent of every process
// that hive leaves behind.
type First struct {
	Program   string // its comm, at most 15 bytes
	Self      bool   // it is hive
	Parent    bool   // it is hive's parent
	Container bool   // the namespace is not the machine's own
	// Zombies are children of it that have ended and that it did not reap within
	// reapTimeout.
	Zombies []int
}

// Unit is the systemd unit that hive runs in.
type Unit struct {
	Name     string // "hive.service", "session-2.scope"; empty: none
	KillMode string // systemd.kill(5); of a service only
	Delegate bool   // systemd.resource-control(5); of a service only
}

// Service reports whether the unit is a service, which systemd starts and stops.
func (u Unit) Service() bool { return strings.HasSuffix(u.Name, ".service") }

// Limit is an upper bound that the system sets.
type Limit struct {
	Max   uint64 // Unlimited: none
	Used  uint64 // 0: not known
	Where string // what sets it: "RLIMIT_NOFILE", the path of a pids.max
}

// Unlimited is the Max of a Limit that does not limit.
const Unlimited = math.MaxUint64
