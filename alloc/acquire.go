package alloc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// maxSkipped bounds Reservation.Skipped.
const maxSkipped = 16

// search is one call of Acquire.
type search struct {
	a        *Allocator
	req      Request
	n        int               // ports in a row
	host     netip.Addr        // what to probe beside the wildcards; zero: nothing
	hostOnly bool              // who has the port on other addresses does not matter
	snap     *sockets.Snapshot // nil until it is needed: see snapshot

	tried *bitset // nil until a port was rejected
	from  uint16  // where the policy started

	claimRetries int // how often a held claim was tried again
}

// Acquire picks a port that nobody has, or Request.Ports in a row, and reserves
// it: no other call gets it until the Reservation is abandoned or its lease is
// released. Nothing is written; see Reservation.Record.
//
// It blocks for the probes: a few binds, which take microseconds, for a port that nobody
// has used lately. Otherwise for reads of the socket table, milliseconds each, one of them
// shared with other callers; and where a port is found in another program's hands for the
// first time, for a pass over /proc that finds out whose. ctx is checked in between.
//
// Errors: *ExhaustedError; for a Request.Port *UnavailableError; ErrBadHost,
// ErrNotReady, ErrClosed, ErrUnsupported; ctx's; or the system's if a probe could
// not be made.
func (a *Allocator) Acquire(ctx context.Context, req Request) (*Reservation, error) {
	s := &search{a: a, req: req, n: max(1, req.Ports), host: hostAddr(req.Host)}
	a.mu.Lock()
	err := a.ready()
	a.cooldown.expire(time.Now())
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if req.Port != 0 {
		return s.exact(ctx)
	}
	// Before picking: ports that strangers have left are candidates again.
	if err := s.recheck(ctx); err != nil {
		return nil, fmt.Errorf("acquire a port: %w", err)
	}
	a.mu.Lock()
	former := a.pool.names[req.Name]
	s.from = a.pool.start()
	a.mu.Unlock()

	// A name keeps its port if it can: clients of the worker know the address.
	r, err := s.former(ctx, former)
	if r == nil && err == nil {
		r, err = s.any(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.Former = former
	r.NameMoved = former != 0 && former != r.Port
	r.Skipped = a.resolveHolders(ctx, a.skippedPorts(s.from, r))
	return r, nil
}

// recheck checks the foreign ports whose backoff has ended.
func (s *search) recheck(ctx context.Context) error {
	now := time.Now()
	s.a.mu.Lock()
	due := s.a.avoid.due(now)
	s.a.mu.Unlock()
	if !due {
		return nil
	}
	// Without the lock: the read takes milliseconds, for which every search would wait.
	snap, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	s.a.mu.Lock()
	s.a.avoid.recheck(snap, now)
	s.a.mu.Unlock()
	return nil
}

// hostAddr is the address that a worker told to bind host will bind. Names are
// not resolved, which could take seconds: the wildcard probes cover them.
func hostAddr(host string) netip.Addr {
	if host == "localhost" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// exact reserves the port that was requested, and those after it if several are.
func (s *search) exact(ctx context.Context) (*Reservation, error) {
	if int(s.req.Port)+s.n-1 > math.MaxUint16 {
		return nil, &UnavailableError{Port: s.req.Port, Reason: fmt.Sprintf("fewer than %d ports follow it", s.n)}
	}
	ports := consecutive(s.req.Port, s.n)
	if err := s.takeExact(ports); err != nil {
		return nil, err
	}
	port, f, err := s.probe(ctx, ports)
	switch {
	case err != nil:
		return nil, err
	// Residue is not in the way of a server that sets SO_REUSEADDR, as most do.
	case f.verdict == verdictFree || f.verdict == verdictResidue:
		return s.reservation(ports, f), nil
	}
	s.a.unreserve(ports.ports())
	switch f.verdict {
	case verdictDraining:
		return nil, drainingError(port)
	case verdictForbidden:
		return nil, &UnavailableError{Port: port, Reason: whyForbidden(port)}
	}
	e := &UnavailableError{Port: port, Reason: "it is held by another program"}
	if holders := s.a.resolveHolders(ctx, []uint16{port}); len(holders) > 0 {
		e.Holder = &holders[0]
		e.Reason = "it is held by " + holders[0].String()
	}
	return nil, e
}

func drainingError(port uint16) error {
	return &UnavailableError{Port: port, Draining: true, Reason: fmt.Sprintf(
		"connections of its last user are still closing (up to %.0f s)", drainTime.Seconds())}
}

// takeExact takes the bits of these ports, whatever the range: all of them or,
// with an error that says why not, none.
func (s *search) takeExact(ports Range) error {
	a := s.a
	a.mu.Lock()
	if err := a.ready(); err != nil {
		a.mu.Unlock()
		return err
	}
	for _, port := range ports.ports() {
		blocked, taken := a.pool.blocked.has(port), a.pool.taken.has(port)
		if !blocked && !taken {
			continue
		}
		// Before leasedTo, which reads the store: transactions take this lock.
		a.mu.Unlock()
		switch {
		case a.never[port]:
			return &UnavailableError{Port: port, Reason: "hive's own API listens on it"}
		case blocked:
			return &UnavailableError{Port: port, Reason: "it is reserved in the configuration"}
		}
		return &UnavailableError{Port: port, Reason: a.leasedTo(port)}
	}
	a.pool.taken.setRange(ports)
	a.mu.Unlock()
	return nil
}

// leasedTo says who leases a taken port.
func (a *Allocator) leasedTo(port uint16) string {
	var lease store.Lease
	// Without the allocator's lock, which transactions take.
	err := a.store.View(func(tx *store.Tx) (err error) {
		lease, err = tx.Lease(port)
		return err
	})
	switch {
	case err != nil: // it is being leased, and not recorded yet
		return "it is being leased"
	case lease.WorkerID != "":
		return "it is leased to worker " + lease.WorkerID
	case lease.Owner != "":
		return "it is leased to " + lease.Owner
	}
	return "it is leased"
}

// former reserves the port that a worker's name had last, nil if that is not free.
func (s *search) former(ctx context.Context, port uint16) (*Reservation, error) {
	if port == 0 || int(port)+s.n-1 > math.MaxUint16 {
		return nil, nil
	}
	ports := consecutive(port, s.n)
	if !s.a.rng.Contains(ports.First) || !s.a.rng.Contains(ports.Last) {
		return nil, nil
	}
	// Somebody else has it now: no error, the name gets another port.
	if err := s.takeExact(ports); errors.Is(err, ErrUnavailable) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	bad, f, err := s.probe(ctx, ports)
	if err != nil {
		return nil, err
	}
	if f.verdict == verdictFree || f.verdict == verdictResidue {
		return s.reservation(ports, f), nil
	}
	s.reject(ports, bad)
	return nil, nil
}

// any reserves the first port of the policy's order that proves to be free, or
// the first row of ports that do.
func (s *search) any(ctx context.Context) (*Reservation, error) {
	for _, c := range s.a.pool.classes() {
		if err := s.prepare(ctx, c); err != nil {
			return nil, err
		}
		for {
			ports, ok, err := s.take(c)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			bad, f, err := s.probe(ctx, ports)
			if err != nil {
				return nil, err
			}
			// Draining ones only when nothing else is left: some servers cannot bind them.
			if f.verdict == verdictFree || c == classDraining && f.verdict < verdictForeign {
				r := s.reservation(ports, f)
				r.picked, r.class = true, c
				return r, nil
			}
			s.reject(ports, bad)
		}
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	return nil, s.a.pool.exhausted(s.n)
}

// prepare is called before a class of ports that were not free when they were last checked.
func (s *search) prepare(ctx context.Context, c class) (err error) {
	switch c {
	case classForeign: // the last resort is worth a fresh snapshot
		if s.snap, err = s.a.table.Snapshot(ctx, 0); err != nil {
			return fmt.Errorf("acquire a port: %w", err)
		}
	case classDraining: // those that this search found draining are candidates now
		s.tried = nil
	}
	return nil
}

func (s *search) take(c class) (Range, bool, error) {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	// Each time: the allocator may have been closed during the last probe.
	if err := s.a.ready(); err != nil {
		return Range{}, false, err
	}
	port, ok := s.a.pool.take(c, s.n, s.tried)
	if !ok {
		return Range{}, false, nil
	}
	return consecutive(port, s.n), true, nil
}

// reject unreserves ports of which bad is not free, and excludes that from this search.
func (s *search) reject(ports Range, bad uint16) {
	if s.tried == nil {
		s.tried = new(bitset)
	}
	s.tried.set(bad)
	s.a.unreserve(ports.ports())
}

// probe claims and inspects ports whose bits are taken, and remembers what it found. It
// ends at the first that is foreign or forbidden, and returns that port with its finding; else the worst
// finding that is not "free", if there is one. After an error the ports have been
// unreserved.
func (s *search) probe(ctx context.Context, ports Range) (uint16, finding, error) {
	at, worst := ports.First, finding{verdict: verdictFree}
	for _, port := range ports.ports() {
		f, err := s.claimAndInspect(ctx, port)
		if err != nil {
			s.a.unreserve(ports.ports())
			return port, finding{}, fmt.Errorf("acquire port %d: %w", port, err)
		}
		s.a.recordFinding(port, f)
		if f.verdict >= verdictForeign {
			return port, f, nil
		}
		if f.verdict > worst.verdict || worst.verdict == verdictFree {
			at, worst = port, f
		}
	}
	return at, worst, nil
}

func (s *search) claimAndInspect(ctx context.Context, port uint16) (finding, error) {
	if err := ctx.Err(); err != nil {
		return finding{}, err
	}
	// The claim first: another hive's probe, which has the port for a moment, would look like a stranger.
	fd, err := s.takeClaim(ctx, port)
	if inUse(err) {
		return otherHive(ctx, port)
	}
	if err != nil {
		return finding{}, err
	}
	if err := s.a.storeClaim(port, fd); err != nil {
		return finding{}, err
	}
	f, err := s.inspect(ctx, port)
	if notPermitted(err) {
		return finding{verdict: verdictForbidden}, nil
	}
	return f, err
}

// takeClaim retries a claim that is held, up to maxClaimRetries times in a search: a child
// that was forked a moment ago has a copy of every descriptor until its execve, and with it
// the claim of a port that we have just freed.
func (s *search) takeClaim(ctx context.Context, port uint16) (int, error) {
	for {
		fd, err := takeClaim(port)
		if !inUse(err) || s.claimRetries >= maxClaimRetries || ctx.Err() != nil {
			return fd, err
		}
		s.claimRetries++
		select {
		case <-time.After(claimRetryInterval):
		case <-ctx.Done():
		}
	}
}

const (
	maxClaimRetries    = 10
	claimRetryInterval = 2 * time.Millisecond
)

// storeClaim keeps a claim, unless the allocator was closed meanwhile: nothing would ever
// drop it.
func (a *Allocator) storeClaim(port uint16, fd int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ready(); err != nil {
		dropClaim(fd)
		return err
	}
	a.claims[port] = fd
	return nil
}

// unreserve frees ports of which nothing is recorded. The claim is dropped first: whoever
// takes the bit next needs it.
func (a *Allocator) unreserve(ports []uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, port := range ports {
		a.dropClaim(port)
		delete(a.contested, port)
		a.pool.taken.clear(port)
	}
}

// recordFinding remembers what a probe found.
func (a *Allocator) recordFinding(port uint16, f finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pool.forbidden.clear(port) // the sysctl may have been changed
	switch {
	case f.verdict == verdictForbidden:
		a.pool.forbidden.set(port)
	case f.verdict == verdictFree:
		a.avoid.clear(port)
	// Not marked again, which would double its time.
	case f.verdict == verdictForeign && f.known && a.avoid.active(port) != nil:
		// its backoff runs already
	case f.verdict == verdictForeign:
		a.avoid.setForeign(port, f, time.Now())
	default:
		a.avoid.setDraining(port, time.Now())
	}
}

func (s *search) reservation(ports Range, f finding) *Reservation {
	return &Reservation{Port: ports.First, Ports: ports.ports(), Draining: f.verdict != verdictFree, a: s.a, name: s.req.Name}
}
