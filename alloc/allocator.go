package alloc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// snapshotAge is how old the snapshot of the socket table may be that Acquire uses: calls
// in a burst share one.
const snapshotAge = 50 * time.Millisecond

// Options is what an Allocator is made from.
type Options struct {
	Range    Range    // the ports to give out; must not be empty
	Reserved []Range  // never given out, whatever is asked for
	Never    []uint16 // hive's own API ports: never given out either
	// Fixed are ports that the configuration assigns to somebody: the policy skips them,
	// and a request for one by number gets it. SetFixed changes them.
	Fixed  []uint16
	Policy Policy // empty: Lowest
	// Quarantine is how long the policy skips a port after its release.
	Quarantine time.Duration
	Store      *store.Store   // must not be nil
	Sockets    *sockets.Table // nil: a new one
}

// Allocator gives out the ports of a range. All methods are safe for concurrent use.
//
// A port's bit in memory is taken before the port is probed and before anything is
// recorded, and is cleared only when nothing was recorded or after the commit that removed
// the record. So a port may be taken in memory that is free, never the reverse.
type Allocator struct {
	rng          Range
	never        map[uint16]bool
	store        *store.Store
	table        *sockets.Table
	holderMemory sockets.Memory // of surveys

	// mu guards what follows. It is never held during a probe or a transaction,
	// except that a transaction's closure (Reservation.Record) takes it.
	mu       sync.Mutex
	phase    phase
	pool     *pool
	avoid    *avoidList
	cooldown *cooldown
	claims   map[uint16]int // descriptors of the claims we hold
	// contested has the leased ports whose claim somebody else held when we tried it.
	contested map[uint16]bool
}

type phase int

const (
	phaseNew phase = iota
	phaseReady
	phaseClosed
)

// New makes an Allocator, which gives out nothing until Rebuild. It reads and
// opens nothing. Errors: ErrBadRange, ErrBadPolicy, or a missing Store.
func New(o Options) (*Allocator, error) {
	if o.Range.Len() == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrBadRange, o.Range)
	}
	policy, err := ParsePolicy(string(o.Policy))
	if err != nil {
		return nil, err
	}
	if o.Store == nil {
		return nil, errors.New("port allocator: Options.Store is nil")
	}
	if o.Sockets == nil {
		o.Sockets = sockets.NewTable()
	}
	a := &Allocator{
		rng:    o.Range,
		never:  make(map[uint16]bool),
		store:  o.Store,
		table:  o.Sockets,
		pool:   newPool(o.Range, policy),
		claims: make(map[uint16]int),
	}
	a.avoid = newAvoidList(a.pool)
	a.cooldown = &cooldown{pool: a.pool, duration: o.Quarantine}
	for _, r := range o.Reserved {
		if r.Len() == 0 {
			return nil, fmt.Errorf("%w: reserved %s is empty", ErrBadRange, r)
		}
		a.pool.blocked.setRange(r)
	}
	for _, port := range o.Never {
		a.never[port] = true
		a.pool.blocked.set(port)
	}
	// Said here, and not by the first spawn.
	if e := a.pool.exhausted(1); e.Reserved == o.Range.Len() {
		return nil, fmt.Errorf("%w: every port of %s is reserved", ErrBadRange, o.Range)
	}
	for _, port := range o.Fixed {
		a.pool.fixed.set(port)
	}
	return a, nil
}

// Rebuild fills the pool, the cursor and the worker names from the store, and
// takes the claims of all leased ports, also of those outside the range. It must
// succeed once before ports can be acquired, and must not run while a reservation
// is open: its port would count as free. It blocks for one read transaction.
//
// A claim that another hive holds is no error; see Contested. Errors: the
// store's, ErrClosed, or the system's when a claim cannot be made at all.
func (a *Allocator) Rebuild(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	known, err := a.read()
	if err != nil {
		return fmt.Errorf("rebuild the port pool: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == phaseClosed {
		return ErrClosed
	}
	for port := range a.claims {
		if !known.leased.has(port) {
			a.dropClaim(port)
		}
	}
	a.contested = make(map[uint16]bool)
	for _, port := range known.leased.ports() {
		if err := a.claimLeased(port); err != nil {
			return fmt.Errorf("rebuild the port pool: %w", err)
		}
	}
	a.pool.taken, a.pool.cursor = known.leased, known.cursor
	a.cooldown.queue, a.pool.cooling = nil, bitset{}
	for _, r := range slices.Backward(known.ended) { // oldest first
		a.cooldown.add(r.port, r.releasedAt)
	}
	for name := range a.pool.names {
		a.pool.remember(name, 0)
	}
	for name, port := range known.names {
		a.pool.remember(name, port)
	}
	a.findForbidden()
	a.phase = phaseReady
	return nil
}

// recorded is what the store knows of ports.
type recorded struct {
	leased bitset
	cursor uint16
	names  map[string]uint16
	ended  []cooldownEntry // newest first
}

func (a *Allocator) read() (r recorded, err error) {
	r.names = map[string]uint16{}
	err = a.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			r.leased.set(l.Port)
		}
		for n, err := range tx.NamedPorts() {
			if err != nil {
				return err
			}
			r.names[n.Name] = n.Port
		}
		if a.cooldown.duration > 0 {
			for tombstone, err := range tx.EndedSince(tx.Now().Add(-a.cooldown.duration)) {
				if err != nil {
					return err
				}
				r.ended = append(r.ended, cooldownEntry{tombstone.Lease.Port, tombstone.EndedAt})
			}
		}
		r.cursor, err = tx.Cursor()
		return err
	})
	return r, err
}

// findForbidden tries the ports of the range that the system may not let hive bind, so
// that they are counted before somebody wants one: the kernel forbids all below a number.
// a.mu is held.
func (a *Allocator) findForbidden() {
	a.pool.forbidden = bitset{}
	for port := int(a.rng.First); port <= int(a.rng.Last); port++ {
		if a.pool.taken.has(uint16(port)) {
			continue
		}
		_, err := tryBind(uint16(port), []netip.Addr{netip.IPv4Unspecified()}, netip.Addr{}, true)
		if !notPermitted(err) {
			return
		}
		a.pool.forbidden.set(uint16(port))
	}
}

// claimLeased takes the claim of a leased port, or records that somebody else has it. a.mu
// is held.
func (a *Allocator) claimLeased(port uint16) error {
	if _, ours := a.claims[port]; ours {
		return nil
	}
	fd, err := takeClaim(port)
	switch {
	case err == nil:
		a.claims[port] = fd
		delete(a.contested, port)
	case inUse(err):
		// No error: recovery decides what that means for the worker.
		a.contested[port] = true
	default:
		return err
	}
	return nil
}

// dropClaim gives up the claim of a port, if we hold it. a.mu is held.
func (a *Allocator) dropClaim(port uint16) {
	if fd, ok := a.claims[port]; ok {
		dropClaim(fd)
		delete(a.claims, port)
	}
}

// Contested returns the leased ports whose claim somebody else holds, as a rule
// another hive that leases the same port, ascending. It first tries again to take
// those claims. Does not block.
func (a *Allocator) Contested() []uint16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != phaseReady {
		return nil
	}
	for port := range a.contested {
		_ = a.claimLeased(port) // out of descriptors: it stays contested
	}
	return slices.Sorted(maps.Keys(a.contested))
}

// Close gives up all claims. The leases stay in the store, and the next hive
// claims them again. Later calls fail with ErrClosed. It returns nil always, and
// may be called twice.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = phaseClosed
	for port := range a.claims {
		a.dropClaim(port)
	}
	return nil
}

// ready returns nil between Rebuild and Close. a.mu is held.
func (a *Allocator) ready() error {
	switch a.phase {
	case phaseNew:
		return ErrNotReady
	case phaseClosed:
		return ErrClosed
	}
	return nil
}

// Leased reports whether a port is leased or being leased at this moment.
func (a *Allocator) Leased(port uint16) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pool.taken.has(port)
}

// Count returns the number of ports that are leased or being leased, outside the
// range too.
func (a *Allocator) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pool.taken.count()
}

// Ports returns the ports that are leased or being leased, ascending.
func (a *Allocator) Ports() []uint16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pool.taken.ports()
}

// Avoid reports that somebody else was seen on a port (a foreign listener beside our
// worker, say): for a while, longer each time, it is not leased. why is shown as the
// holder's program while nothing better is known. A lease of the port stays. Does not
// block.
func (a *Allocator) Avoid(port uint16, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.avoid.setForeign(port, finding{
		holder: sockets.Holder{Port: port, Kind: sockets.KindUnknown, Program: why},
	}, time.Now())
}

// SetFixed replaces the ports that the configuration assigns to somebody (Options.Fixed).
// Ports that are leased stay so. Does not block.
func (a *Allocator) SetFixed(ports []uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pool.fixed = bitset{}
	for _, port := range ports {
		a.pool.fixed.set(port)
	}
}

// avoidEntry returns a copy of the entry of a port, also of one that no longer keeps the
// port from being tried; nil if there is none.
func (a *Allocator) avoidEntry(port uint16) *avoidEntry {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.avoid.byPort[port]
	if k == nil {
		return nil
	}
	// A copy: it is read without the lock.
	c := *k
	c.sockets = slices.Clone(k.sockets)
	return &c
}
