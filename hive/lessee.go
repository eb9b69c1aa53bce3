package hive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// lessee is who holds a lease that is not a worker's: a process that hive did not
// start and never signals (kind process), or whoever renews it (kind ttl). It
// lives in memory from the lease's first record to its last.
//
// Its mutex is held over a whole operation, the commit included: two operations
// on one lease happen one after the other. It is taken before Hive.mu.
type lessee struct {
	h *Hive

	mu       sync.Mutex
	lease    store.Lease
	over     bool          // the lease has ended, or is quarantined
	process  *proc.Process // of kind process; nil while it cannot be judged
	deadline time.Duration // of kind ttl, on CLOCK_BOOTTIME: time asleep counts
	timer    *time.Timer   // of kind ttl
}

// settleIn makes the lessee known and begins to watch over it. p is the holder's
// process of a lease of kind process, nil if it cannot be judged.
func (h *Hive) settleIn(l store.Lease, p *proc.Process) {
	ls := &lessee{h: h, lease: l}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	h.mu.Lock()
	closing := h.ctx.Err() != nil
	if !closing {
		h.lessees[l.LeaseID] = ls
	}
	h.mu.Unlock()
	if ls.watch(p); closing { // the next hive takes it over from the file
		ls.over = true
		ls.unwatch()
	}
}

// watch begins anew, for a holder that is recorded. ls.mu is held.
func (ls *lessee) watch(p *proc.Process) {
	ls.unwatch()
	if ls.lease.Kind == store.LeaseTTL {
		ls.deadline = proc.BootTime() + ls.lease.TTL
		ls.timer = time.AfterFunc(ls.lease.TTL, func() { ls.h.spawnGoroutine(ls.expire) })
		return
	}
	if ls.process = p; p != nil {
		p.AfterDone(func() { ls.h.spawnGoroutine(func() { ls.holderGone(p) }) })
	}
}

// unwatch lets go of the holder without touching it. ls.mu is held.
func (ls *lessee) unwatch() {
	if ls.timer != nil {
		ls.timer.Stop()
		ls.timer = nil
	}
	if p := ls.process; p != nil {
		ls.process = nil
		p.AfterDone(func() {})
		p.Close()
	}
}

// lesseeOf returns who holds a port by this lease, locked; the caller unlocks.
// Errors: ErrNotFound if the port has no lease, ErrConflict if it has another, is
// a worker's, or has ended and is quarantined.
func (h *Hive) lesseeOf(port uint16, leaseID string) (*lessee, error) {
	l, err := h.Lease(port)
	switch {
	case err != nil:
		return nil, err
	case l.Kind == store.LeaseWorker:
		return nil, fmt.Errorf("%w: port %d is leased to worker %s, which has it for as long as it lives; stop the worker", ErrConflict, port, l.WorkerID)
	case l.LeaseID != leaseID:
		return nil, fmt.Errorf("%w: port %d is leased under another lease_id", ErrConflict, port)
	}
	h.mu.Lock()
	ls := h.lessees[leaseID]
	h.mu.Unlock()
	if ls != nil {
		ls.mu.Lock()
		if !ls.over {
			return ls, nil
		}
		ls.mu.Unlock()
		if l, err = h.Lease(port); err != nil || l.LeaseID != leaseID {
			return nil, fmt.Errorf("lease of port %d: %w", port, ErrNotFound)
		}
	}
	return nil, &quarantinedError{l}
}

// quarantinedError is a lease whose holder is gone. It is ErrConflict.
type quarantinedError struct{ lease store.Lease }

func (e *quarantinedError) Error() string {
	return fmt.Sprintf("conflict: the lease of port %d has ended and the port is quarantined: %s", e.lease.Port, e.lease.Reason)
}

func (e *quarantinedError) Unwrap() error { return ErrConflict }

// expire ends a ttl lease whose time is over. A renewal may have come first.
func (ls *lessee) expire() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over || ls.lease.Kind != store.LeaseTTL {
		return
	}
	if left := ls.deadline - proc.BootTime(); left > 0 {
		ls.timer.Reset(left)
		return
	}
	_, _ = ls.end(fmt.Sprintf("it was not renewed for %s", ls.lease.TTL)) // fails only if the hive closes
}

// holderGone ends a lease whose process has ended.
func (ls *lessee) holderGone(p *proc.Process) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over || ls.process != p {
		return
	}
	_, _ = ls.end(fmt.Sprintf("its holder, pid %d, has ended", p.PID())) // fails only if the hive closes
}

// end ends the lease. The ports are free when it returns true; where somebody
// can still be reached on one of them they are quarantined. An error says that
// the hive closes, and that the next one decides. ls.mu is held.
func (ls *lessee) end(why string) (freed bool, err error) {
	keep := ls.h.whyQuarantine(ls.lease.All(), remains{})
	if keep == "" {
		err = ls.h.freeLease(ls.lease, why)
	} else {
		err = ls.h.settle(func(b *batch) error { return b.quarantineLease(ls.lease, why+", and "+keep) })
	}
	if err != nil {
		return false, err
	}
	ls.over = true
	ls.unwatch()
	ls.h.mu.Lock()
	delete(ls.h.lessees, ls.lease.LeaseID)
	ls.h.mu.Unlock()
	ls.h.shares.give(ls.lease.Requester, len(ls.lease.All()))
	return keep == "", nil
}

// freeLease ends a lease on whose ports nobody is, with an event that says why.
func (h *Hive) freeLease(l store.Lease, why string) error {
	return h.persist(func(closure func(*store.Tx) error) error {
		return h.alloc.Release(context.Background(), l.Port, l.LeaseID, closure)
	}, func(b *batch) error {
		return b.freeEvent(l, "free: "+why)
	})
}

// freeQuarantined ends a quarantined lease. Nobody waits for that and nothing has
// happened, so an error is no reason to end; that it was freed meanwhile is none.
func (h *Hive) freeQuarantined(l store.Lease, why string) error {
	closure, committed := h.batched(func(b *batch) error {
		return b.freeEvent(l, "free again: "+why)
	})
	err := h.alloc.Release(h.ctx, l.Port, l.LeaseID, closure)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLeaseConflict) {
		return nil
	}
	if err == nil {
		committed()
	}
	return err
}

// quarantineLease keeps a lease whose holder is gone.
func (b *batch) quarantineLease(l store.Lease, why string) error {
	l.State, l.Reason, l.Identity = store.LeaseQuarantined, why, nil
	if err := b.PutLease(l); err != nil {
		return err
	}
	return b.leaseEvent(store.EventPort, l, fmt.Sprintf("%s quarantined: %s", portsAre(l.All()), why))
}

// leaseFree is what the event of a lease that has ended says; no record has it.
const leaseFree store.LeaseState = "free"

// freeEvent appends the event of a lease that has ended.
func (b *batch) freeEvent(l store.Lease, message string) error {
	l.State = leaseFree
	return b.leaseEvent(store.EventPort, l, portsAre(l.All())+" "+message)
}

// leaseEvent appends an event that is about a lease.
func (b *batch) leaseEvent(typ store.EventType, l store.Lease, message string) error {
	return b.event(typ, "", l.WorkerID, message, map[string]any{
		"port": l.Port, "ports": l.All(), "lease_id": l.LeaseID, "kind": l.Kind, "state": l.State, "owner": orNull(l.Owner),
	})
}

// portsAre is "port 8080 is" or "ports 8080-8083 are".
func portsAre(ports []uint16) string {
	if len(ports) == 1 {
		return fmt.Sprintf("port %d is", ports[0])
	}
	return fmt.Sprintf("ports %d-%d are", ports[0], ports[len(ports)-1])
}

// judgeLessee looks again at the holder of a lease that could not be judged.
func (h *Hive) judgeLessee(ls *lessee) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.over || ls.lease.State != store.LeaseUnverified {
		return
	}
	p, verdict, err := judgeHolder(ls.lease, overlap(h.alloc.Contested(), ls.lease.All()))
	switch verdict {
	case proc.Alive:
		l := ls.lease
		l.State, l.Reason = store.LeaseHeld, ""
		err := h.settle(func(b *batch) error {
			if err := b.PutLease(l); err != nil {
				return err
			}
			return b.leaseEvent(store.EventPort, l, fmt.Sprintf("%s held by pid %d, as before", portsAre(l.All()), l.Identity.PID))
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

// judgeHolder verifies the recorded holder of a lease of kind process. The error
// is why it is not Alive. contested: another hive claims one of its ports.
func judgeHolder(l store.Lease, contested bool) (*proc.Process, proc.Verdict, error) {
	switch {
	case contested:
		return nil, proc.Unknown, errors.New("another hive on this machine claims its port")
	case l.Identity == nil:
		return nil, proc.Dead, errors.New("it has no process")
	}
	p, verdict, err := proc.Adopt(*l.Identity)
	if reason := errors.Unwrap(err); reason != nil {
		err = reason
	}
	return p, verdict, err
}

// unverifiedLessees returns those whose holder could not be judged.
func (h *Hive) unverifiedLessees() (list []*lessee) {
	h.mu.Lock()
	all := make([]*lessee, 0, len(h.lessees))
	for _, ls := range h.lessees {
		all = append(all, ls)
	}
	h.mu.Unlock()
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
func (h *Hive) ExpiresAt(leaseID string) *time.Time {
	h.mu.Lock()
	ls := h.lessees[leaseID]
	h.mu.Unlock()
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

// letGoOfLessees stops watching; their leases stay in the file.
func (h *Hive) letGoOfLessees() {
	h.mu.Lock()
	list := h.lessees
	h.lessees = map[string]*lessee{}
	h.mu.Unlock()
	for _, ls := range list {
		ls.mu.Lock()
		ls.over = true
		ls.unwatch()
		ls.mu.Unlock()
	}
}
