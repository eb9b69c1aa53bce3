package alloc

import (
	"errors"
	"fmt"

	"rbeehive/alloc/sockets"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrExhausted: no port of the range can be given out. See ExhaustedError.
	ErrExhausted = errors.New("no ports available")
	// ErrUnavailable: the port that was requested cannot be given out. See UnavailableError.
	ErrUnavailable = errors.New("port not available")
	// ErrBadRange: a range that does not parse or is empty.
	ErrBadRange = errors.New("bad port range")
	// ErrBadPolicy: an unknown policy.
	ErrBadPolicy = errors.New("unknown port policy")
	// ErrBadHost: no worker can bind the address in Request.Host on this machine.
	ErrBadHost = errors.New("address cannot be bound on this machine")
	// ErrNotReady: Rebuild has not succeeded yet, so leased ports are not known.
	ErrNotReady = errors.New("port pool is not rebuilt yet")
	// ErrClosed: the allocator is closed.
	ErrClosed = errors.New("port allocator closed")
	// ErrMisuse: a reservation was recorded for another port, or after it was abandoned.
	ErrMisuse = errors.New("reservation misused")
	// ErrUnsupported: ports can be probed on linux only.
	ErrUnsupported = errors.New("ports can be leased on linux only")
)

// ExhaustedError says that every port of the range is in use. It is ErrExhausted.
type ExhaustedError struct {
	Range    Range
	Leased   int // leased, or being leased at this moment
	Reserved int // reserved in the configuration, or hive's own
	Foreign  int // held by programs that hive did not start
	// Quarantined counts ports that were released and are not to be given out yet.
	Quarantined int
	// Forbidden counts ports that the system does not let hive bind.
	Forbidden int
	// Consecutive is how many ports in a row were requested, if more than one.
	Consecutive int
}

// Error returns "no ports available (all 8080-9999 in use)", and how many of them other
// programs have or are in quarantine.
func (e *ExhaustedError) Error() string {
	s := fmt.Sprintf("no ports available (all %s in use)", e.Range)
	if e.Forbidden > 0 {
		s = fmt.Sprintf("no ports available in %s", e.Range)
	}
	if e.Consecutive > 1 {
		s = fmt.Sprintf("no %d consecutive ports available in %s", e.Consecutive, e.Range)
	}
	if e.Foreign > 0 {
		s += fmt.Sprintf("; %d of them by programs that hive did not start", e.Foreign)
	}
	if e.Quarantined > 0 {
		s += fmt.Sprintf("; %d of them quarantined after their release (ports.quarantine)", e.Quarantined)
	}
	if e.Forbidden > 0 {
		s += fmt.Sprintf("; %d of them forbidden to hive by the system (hivectl doctor says why)", e.Forbidden)
	}
	return s
}

// Unwrap returns ErrExhausted.
func (e *ExhaustedError) Unwrap() error { return ErrExhausted }

// UnavailableError says why one port cannot be given out. It is ErrUnavailable.
type UnavailableError struct {
	Port   uint16
	Reason string // one clause for a person: "it is held by nginx (pid 4711, user www)"
	// Holder is who has it, where it is held by a program that hive did not start and is known.
	Holder *sockets.Holder
	// Draining says that no process has the port, only the kernel, for up to a
	// minute (TIME_WAIT): worth another try.
	Draining bool
}

// Error returns the port and the reason.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("port %d is not available: %s", e.Port, e.Reason)
}

// Unwrap returns ErrUnavailable.
func (e *UnavailableError) Unwrap() error { return ErrUnavailable }
