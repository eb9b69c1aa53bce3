package alloc

import (
	"fmt"

	"rbeehive/alloc/sockets"
)

// Policy says which of the free ports is given out.
type Policy string

// The policies.
const (
	// Lowest takes the lowest free port that no worker name remembers; remembered ones last.
	Lowest Policy = "lowest"
	// Sequential continues where it was, over restarts, and wraps from the last port to the
	// first.
	Sequential Policy = "sequential"
)

// ParsePolicy reads a policy; empty is Lowest. The error wraps ErrBadPolicy.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case "":
		return Lowest, nil
	case Lowest, Sequential:
		return p, nil
	}
	return "", fmt.Errorf("%w: %q: want %s or %s", ErrBadPolicy, s, Lowest, Sequential)
}

// Request is what a port is wanted for.
type Request struct {
	// Port asks for this port, also outside the range, or none; 0: any of the range.
	Port uint16
	// Ports is how many ports in a row are wanted, the first being Port or the
	// name's; 0 and 1: one.
	Ports int
	// Name is a worker's name: it gets the port it had last time if that is free. May be empty.
	Name string
	// Host is the address the worker will bind. Empty, a wildcard or a name other
	// than localhost: only the wildcard addresses are probed, which includes it.
	Host string
}

// Survey is the range, port by port, at one moment. Free, Leased, Quarantined,
// Reserved, Foreign and Draining sum to Total.
type Survey struct {
	Range Range
	// Total is the number of ports in Range and of leased ports outside it (the
	// range was changed in the configuration, or a worker asked for such a port).
	Total int
	Free  int
	// Leased counts ports with a lease, or about to have one, except quarantined ones.
	Leased int
	// Quarantined counts ports whose lease is quarantined, and those in cooldown after
	// their release (Options.Quarantine).
	Quarantined int
	// Reserved counts ports that the configuration or hive's own API keeps out, and
	// those of Options.Fixed that nobody has.
	Reserved int
	// Foreign counts ports that are held by programs that hive did not start.
	Foreign int
	// Draining counts ports that only the kernel still holds (TIME_WAIT).
	Draining int
	// Forbidden counts ports that the system does not let hive bind, as far as it has tried: from
	// the first of the range on, and those that it came across.
	Forbidden int
	// Outside counts leased ports outside Range; they are in Total, and in Leased or Quarantined.
	Outside int
	// Holders is who has what, by port: everybody who listens on or has bound a
	// port of the range or a leased one. Kind is the kind of the lease (worker,
	// process, ttl) where the port has one, else one of package sockets.
	Holders []sockets.Holder
}
