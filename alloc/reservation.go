package alloc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// Reservation is a port that is taken in memory and claimed, and not recorded
// yet, or several in a row. Its methods are safe for concurrent use.
type Reservation struct {
	Port uint16
	// Ports is all reserved ports, Port being the first.
	Ports []uint16
	// Skipped names who has the ports that were skipped because programs that hive did not
	// start have them, in the order of the policy, at most 16.
	Skipped []sockets.Holder
	// Former is the port that Request.Name had last; 0 if it had none.
	Former uint16
	// NameMoved says that the name did not get Former.
	NameMoved bool
	// Draining says that the kernel still holds the port for closed connections of its last
	// user, and that nothing better was left: for up to a minute a bind can fail.
	Draining bool

	a      *Allocator
	name   string
	picked bool // by the policy; else requested, or the name's own
	class  class

	mu        sync.Mutex
	leaseID   string // recorded in a transaction, whose outcome we do not know
	conflict  bool   // the store has another lease of the port
	abandoned bool   // abandoned
	// former is the ports that names remembered before Record has changed that; 0: none.
	former map[string]uint16
}

// Record writes the lease, for all reserved ports, and with it the cursor (policy
// sequential) and the port of the worker's name. Call it inside the transaction that records the
// holder. If that transaction fails, call Abandon.
//
// Errors: ErrMisuse if l is for another port, or the reservation was abandoned;
// the store's.
func (r *Reservation) Record(tx *store.Tx, l store.Lease) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.abandoned:
		return fmt.Errorf("%w: port %d was abandoned", ErrMisuse, r.Port)
	case l.Port != r.Port:
		return fmt.Errorf("%w: port %d is reserved, the lease is for %d", ErrMisuse, r.Port, l.Port)
	case r.leaseID != "":
		return fmt.Errorf("%w: port %d was recorded before", ErrMisuse, r.Port)
	}
	// The reservation knows its ports; the caller need not.
	if l.Ports = nil; len(r.Ports) > 1 {
		l.Ports = r.Ports
	}
	if err := tx.PutLease(l); err != nil {
		// Somebody else's lease is on the port: then it must not be freed.
		r.conflict = errors.Is(err, store.ErrLeaseConflict)
		return fmt.Errorf("record port %d: %w", r.Port, err)
	}
	r.leaseID = l.LeaseID
	if r.picked && r.a.pool.policy == Sequential {
		// Where the cursor is by now, not where it was for this port: transactions
		// come in any order, and it must not go back.
		r.a.mu.Lock()
		cursor := r.a.pool.cursor
		r.a.mu.Unlock()
		if err := tx.SetCursor(cursor); err != nil {
			return fmt.Errorf("record port %d: %w", r.Port, err)
		}
	}
	// With the lease, so that after a crash the name still knows its port.
	if r.name != "" {
		if err := r.remember(tx); err != nil {
			return fmt.Errorf("record port %d: %w", r.Port, err)
		}
	}
	return nil
}

// remember has the name remember the port, and no other name any more: who comes back finds
// it taken more often than not, and names that never come back would pile up. r.mu is held.
func (r *Reservation) remember(tx *store.Tx) error {
	r.a.mu.Lock()
	names := r.a.pool.namesOf(r.Port)
	r.a.mu.Unlock()
	for _, other := range names {
		if err := tx.SetNamedPort(other, 0); err != nil {
			return err
		}
	}
	if err := tx.SetNamedPort(r.name, r.Port); err != nil {
		return err
	}
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	// The transaction may still fail: then Abandon takes it back.
	r.former = map[string]uint16{}
	for _, other := range names {
		r.former[other] = r.a.pool.remember(other, 0)
	}
	before := r.a.pool.remember(r.name, r.Port)
	if _, had := r.former[r.name]; !had {
		r.former[r.name] = before
	}
	return nil
}

// unremember takes remember back, but for names that have got another port meanwhile.
// r.a.mu is held.
func (r *Reservation) unremember() {
	for name, port := range r.former {
		now := r.a.pool.names[name]
		if name == r.name && now == r.Port || name != r.name && now == 0 {
			r.a.pool.remember(name, port)
		}
	}
}

// Abandon frees the port. After Record it first checks whether the lease is in the store,
// where it may be in spite of an error; then, and when the store cannot say, the port stays
// taken, and only Release or a restart frees it. So calling it after a success, or twice,
// does no harm; calling it while the transaction of Record is under way does. It blocks for
// one read transaction after Record, else not at all.
func (r *Reservation) Abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned || r.conflict {
		return
	}
	// After an error the commit may have come about all the same: then the port stays taken.
	if r.leaseID != "" && !r.a.unrecorded(r.Port, r.leaseID) {
		return
	}
	r.abandoned = true
	r.a.mu.Lock()
	r.unremember()
	r.a.mu.Unlock()
	r.a.unreserve(r.Ports)
}

// unrecorded reports whether the store has no lease of this id, for certain.
func (a *Allocator) unrecorded(port uint16, leaseID string) bool {
	err := a.store.View(func(tx *store.Tx) error {
		if _, err := tx.Tombstone(leaseID); !errors.Is(err, store.ErrNotFound) {
			return err // it was recorded, and has ended since; or the store cannot say
		}
		_, err := tx.Lease(port)
		return err
	})
	return errors.Is(err, store.ErrNotFound)
}

// Release ends a lease: one transaction, admitted also on a full disk, removes
// the lease, with all of its ports and their PID mappings, writes the tombstones
// and runs also (which may be nil). The ports can be given out again only after
// that has been committed; after any error they cannot, and where the transaction
// was undone they are leased as before.
//
// It blocks for the commit. Errors: store.ErrNotFound if the port has no lease
// and store.ErrLeaseConflict if it has another (nothing changes then), also's,
// the store's, ctx's as long as the transaction is queued.
func (a *Allocator) Release(ctx context.Context, port uint16, leaseID string, also func(*store.Tx) error) error {
	return a.ReleaseAll(ctx, []store.Lease{{Port: port, LeaseID: leaseID}}, also)
}

// ReleaseAll is Release for many leases in one transaction: all end, or none
// does. Of each lease only Port, one of its ports, and LeaseID count. also runs
// once, and also for an empty list.
func (a *Allocator) ReleaseAll(ctx context.Context, leases []store.Lease, also func(*store.Tx) error) error {
	var ports []uint16
	err := a.store.UpdateReserved(ctx, func(tx *store.Tx) error {
		for _, l := range leases {
			ended, err := tx.EndLease(l.Port, l.LeaseID)
			if err != nil {
				return err
			}
			ports = append(ports, ended.All()...)
		}
		if also == nil {
			return nil
		}
		return also(tx)
	})
	if err != nil {
		if len(leases) == 1 {
			return fmt.Errorf("release port %d: %w", leases[0].Port, err)
		}
		return fmt.Errorf("release %d leases: %w", len(leases), err)
	}
	// Only after the commit: until then the port is leased in the file.
	a.mu.Lock()
	now := time.Now()
	for _, port := range ports {
		a.cooldown.add(port, now)
	}
	a.mu.Unlock()
	a.unreserve(ports)
	return nil
}
