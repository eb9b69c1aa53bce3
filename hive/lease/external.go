package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// external is a lease that is not a worker's, with what keeps it alive: a process that
// hive did not start and never signals (kind process), or renewals (kind ttl). It lives in
// memory from the lease's first record to its last.
//
// Its mutex is held over a whole operation, the commit included: two operations on one
// lease happen one after the other.
type external struct {
	m *Manager

	mu       lock.Ranked[lock.ExternalLease]
	lease    store.Lease
	over     bool          // the lease has ended, or is quarantined
	process  *proc.Process // of kind process; nil while it cannot be verified
	deadline time.Duration // of kind ttl, on CLOCK_BOOTTIME: time asleep counts
	timer    *time.Timer   // of kind ttl
	spared   bool          // of kind ttl: it was given more time since the last renewal
}

// A timer that comes so late says that hive, or the machine, was frozen: renewals that were
// sent in time have not been read yet, and get that long.
const (
	lateTimer = 500 * time.Millisecond
	spareTime = 2 * time.Second
)

// track makes a lease known and begins to watch its holder. p is the holder's process of a
// lease of kind process, nil if it cannot be verified.
func (m *Manager) track(l store.Lease, p *proc.Process) {
	ls := &external{m: m, lease: l}
	// Locked before it is in the table: who finds it must not come before its holder is watched.
	ls.mu.Lock()
	defer ls.mu.Unlock()
	m.mu.Lock()
	closing := m.closed
	if !closing {
		m.table[l.LeaseID] = ls
	}
	m.mu.Unlock()
	if ls.watch(p); closing { // the next hive takes it over from the file
		ls.over = true
		ls.unwatch()
	}
}

// watch begins anew, for a holder that is recorded. ls.mu is held.
func (ls *external) watch(p *proc.Process) {
	ls.unwatch()
	if ls.lease.Kind == store.LeaseTTL {
		ls.deadline, ls.spared = proc.BootTime()+ls.lease.TTL, false
		// Only a reminder: it does not count the time that the machine sleeps, the deadline does.
		ls.timer = time.AfterFunc(ls.lease.TTL, func() { ls.m.run.Go(ls.expire) })
		return
	}
	if ls.process = p; p != nil {
		// In a goroutine: AfterDone must not block, and ending a lease commits.
		p.AfterDone(func() { ls.m.run.Go(func() { ls.holderGone(p) }) })
	}
}

// unwatch lets go of the holder without touching it. ls.mu is held.
func (ls *external) unwatch() {
	if ls.timer != nil {
		ls.timer.Stop()
		ls.timer = nil
	}
	if p := ls.process; p != nil {
		ls.process = nil
		// Else an exit before Close would still call holderGone.
		p.AfterDone(func() {})
		p.Close()
	}
}

// find returns who holds a port by this lease, locked; the caller unlocks.
// Errors: errdefs.ErrNotFound if the port has no lease, errdefs.ErrConflict if it has another, is
// a worker's, is just being given, or has ended and is quarantined.
func (m *Manager) find(port uint16, leaseID string) (*external, error) {
	l, err := m.Lease(port)
	switch {
	case err != nil:
		return nil, err
	case l.Kind == store.LeaseWorker:
		return nil, fmt.Errorf("%w: port %d is leased to worker %s, which has it for as long as it lives; stop the worker", errdefs.ErrConflict, port, l.WorkerID)
	case l.LeaseID != leaseID:
		return nil, fmt.Errorf("%w: port %d is leased under another lease_id", errdefs.ErrConflict, port)
	}
	// Not held while waiting for the lease, whose operations commit.
	m.mu.Lock()
	ls := m.table[leaseID]
	m.mu.Unlock()
	if ls != nil {
		ls.mu.Lock()
		if !ls.over {
			return ls, nil
		}
		ls.mu.Unlock()
	}
	// Read again: it may have ended since, or while its lock was waited for.
	l, err = m.Lease(port)
	switch {
	case err != nil || l.LeaseID != leaseID:
		return nil, fmt.Errorf("lease of port %d: %w", port, errdefs.ErrNotFound)
	// It is in the file and not watched yet. Freed now, it would be ended a second time later.
	case l.State != store.LeaseQuarantined:
		return nil, fmt.Errorf("%w: the lease of port %d is just being given; ask again", errdefs.ErrConflict, port)
	}
	return nil, &quarantinedError{l}
}

// quarantinedError is a lease whose holder is gone. It is errdefs.ErrConflict.
type quarantinedError struct{ lease store.Lease }

func (e *quarantinedError) Error() string {
	return fmt.Sprintf("conflict: the lease of port %d has ended and the port is quarantined: %s", e.lease.Port, e.lease.Reason)
}

func (e *quarantinedError) Unwrap() error { return errdefs.ErrConflict }

// expire ends a ttl lease whose time is over. A renewal may have come first.
func (ls *external) expire() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over || ls.lease.Kind != store.LeaseTTL {
		return
	}
	left := ls.deadline - proc.BootTime()
	// The timer had fired already when a renewal came.
	if left > 0 {
		ls.timer.Reset(left)
		return
	}
	if left < -lateTimer && !ls.spared {
		ls.spared = true
		ls.timer.Reset(spareTime)
		return
	}
	_, _ = ls.end(fmt.Sprintf("it was not renewed for %s", ls.lease.TTL)) // fails only if the hive closes
}

// holderGone ends a lease whose process has ended.
func (ls *external) holderGone(p *proc.Process) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	// The lease may have another holder by now.
	if ls.over || ls.process != p {
		return
	}
	_, _ = ls.end(fmt.Sprintf("its holder, pid %d, has ended", p.PID())) // fails only if the hive closes
}

// end ends the lease. The ports are free when it returns true; where somebody
// can still be reached on one of them they are quarantined. An error says that
// the hive closes, and that the next one decides. ls.mu is held.
func (ls *external) end(why string) (freed bool, err error) {
	keep := endpoint.WhyHeld(ls.m.sockets, ls.lease.All())
	if keep == "" {
		err = ls.m.freeLease(ls.lease, why)
	} else {
		err = ls.m.journal.CommitRequired(func(b *journal.Batch) error { return quarantineLease(b, ls.lease, why+", and "+keep) })
	}
	if err != nil {
		return false, err
	}
	// Only after the commit: until then the lease is in the file.
	ls.over = true
	ls.unwatch()
	// A quarantined one, too: it has no holder to watch, and is Review's.
	ls.m.mu.Lock()
	delete(ls.m.table, ls.lease.LeaseID)
	ls.m.mu.Unlock()
	ls.m.shares.give(ls.lease.Requester, len(ls.lease.All()))
	return keep == "", nil
}

// freeLease ends a lease on whose ports nobody is, with an event that says why.
func (m *Manager) freeLease(l store.Lease, why string) error {
	return m.journal.CommitUntilDone(func(closure func(*store.Tx) error) error {
		return m.alloc.Release(context.Background(), l.Port, l.LeaseID, closure)
	}, func(b *journal.Batch) error {
		return freeEvent(b, l, "free: "+why)
	})
}

// freeQuarantined ends a quarantined lease. Nobody waits for that and nothing has
// happened, so an error is no reason to end; that it was freed meanwhile is none.
func (m *Manager) freeQuarantined(l store.Lease, why string) error {
	err := m.journal.With(func(closure func(*store.Tx) error) error {
		return m.alloc.Release(m.run.Context(), l.Port, l.LeaseID, closure)
	}, func(b *journal.Batch) error {
		return freeEvent(b, l, "free again: "+why)
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLeaseConflict) {
		return nil
	}
	return err
}

// quarantineLease keeps a lease whose holder is gone.
func quarantineLease(b *journal.Batch, l store.Lease, why string) error {
	// Without the process: it is gone, and its PID must not be found as a holder of the port.
	l.State, l.Reason, l.Identity = store.LeaseQuarantined, why, nil
	if err := b.PutLease(l); err != nil {
		return err
	}
	return Event(b, store.EventPort, l, fmt.Sprintf("%s quarantined: %s", PortsAre(l.All()), why))
}

// leaseFree is what the event of a lease that has ended says; no record has it.
const leaseFree store.LeaseState = "free"

// freeEvent appends the event of a lease that has ended.
func freeEvent(b *journal.Batch, l store.Lease, message string) error {
	l.State = leaseFree
	return Event(b, store.EventPort, l, PortsAre(l.All())+" "+message)
}

// Event appends an event that is about a lease.
func Event(b *journal.Batch, typ store.EventType, l store.Lease, message string) error {
	return b.Event(typ, "", l.WorkerID, message, map[string]any{
		"port": l.Port, "ports": l.All(), "lease_id": l.LeaseID, "kind": l.Kind, "state": l.State, "owner": operation.OrNull(l.Owner),
	})
}

// PortsAre is "port 8080 is" or "ports 8080-8083 are".
func PortsAre(ports []uint16) string {
	if len(ports) == 1 {
		return fmt.Sprintf("port %d is", ports[0])
	}
	return fmt.Sprintf("ports %d-%d are", ports[0], ports[len(ports)-1])
}

// reverify looks again at the holder of a lease that could not be verified.
func (m *Manager) reverify(ls *external) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	// It may have been released, or got another holder, since it was listed.
	if ls.over || ls.lease.State != store.LeaseUnverified {
		return
	}
	p, verdict, err := verifyHolder(ls.lease, endpoint.Overlap(m.alloc.Contested(), ls.lease.All()))
	switch verdict {
	case proc.Alive:
		l := ls.lease
		l.State, l.Reason = store.LeaseHeld, ""
		err := m.journal.CommitRequired(func(b *journal.Batch) error {
			if err := b.PutLease(l); err != nil {
				return err
			}
			return Event(b, store.EventPort, l, fmt.Sprintf("%s held by pid %d, as before", PortsAre(l.All()), l.Identity.PID))
		})
		if err != nil { // the hive is closing
			p.Close()
			return
		}
		ls.lease = l
		ls.watch(p)
	case proc.Dead:
		_, _ = ls.end("its holder is gone: " + err.Error()) // fails only if the hive closes
	case proc.Unknown:
	}
}

// verifyHolder verifies the recorded holder of a lease of kind process. The error
// is why it is not Alive. contested: another hive claims one of its ports.
func verifyHolder(l store.Lease, contested bool) (*proc.Process, proc.Verdict, error) {
	switch {
	case contested:
		return nil, proc.Unknown, errors.New("another hive on this machine claims its port")
	case l.Identity == nil:
		return nil, proc.Dead, errors.New("it has no process")
	}
	p, verdict, err := proc.Adopt(*l.Identity)
	// Only the reason: the message names the process already.
	if reason := errors.Unwrap(err); reason != nil {
		err = reason
	}
	return p, verdict, err
}

// unverified returns those whose holder could not be verified.
func (m *Manager) unverified() (list []*external) {
	m.mu.Lock()
	all := make([]*external, 0, len(m.table))
	for _, ls := range m.table {
		all = append(all, ls)
	}
	m.mu.Unlock()
	// Without the table's lock: who holds a lease's lock may be waiting for that.
	for _, ls := range all {
		ls.mu.Lock()
		if !ls.over && ls.lease.State == store.LeaseUnverified {
			list = append(list, ls)
		}
		ls.mu.Unlock()
	}
	return list
}

// ExpiresAt is when a ttl lease runs out unless it is renewed; nil for other
// leases. Only an operation on the same lease under way makes it block.
func (m *Manager) ExpiresAt(leaseID string) *time.Time {
	m.mu.Lock()
	ls := m.table[leaseID]
	m.mu.Unlock()
	if ls == nil {
		return nil
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over || ls.lease.Kind != store.LeaseTTL {
		return nil
	}
	at := time.Now().UTC().Add(ls.deadline - proc.BootTime())
	return &at
}

// Close stops watching; the leases stay in the file.
func (m *Manager) Close() {
	m.mu.Lock()
	list := m.table
	m.table, m.closed = map[string]*external{}, true
	m.mu.Unlock()
	// Without m.mu, which an end under way needs.
	for _, ls := range list {
		ls.mu.Lock()
		ls.over = true
		ls.unwatch()
		ls.mu.Unlock()
	}
}
