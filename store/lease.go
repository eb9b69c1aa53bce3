package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"rbeehive/store/internal/kv"
)

// Lease returns the lease of a port. Errors: ErrNotFound.
func (tx *Tx) Lease(port uint16) (Lease, error) {
	var l Lease
	if err := tx.kv.Get(kv.Leases, kv.BE16(port), &l); err != nil {
		return Lease{}, fmt.Errorf("lease of port %d: %w", port, err)
	}
	if l.Port != port {
		return Lease{}, tx.kv.Corrupt(kv.Leases, kv.BE16(port), fmt.Sprintf("the record is of port %d", l.Port))
	}
	return l, nil
}

// PutLease writes l under all of its ports and keeps the PID mapping in step:
// there is one for each port exactly if l has an Identity. Errors:
// ErrLeaseConflict if one of the ports is leased under another lease id;
// ErrInvalid, also if l was recorded with other ports before.
func (tx *Tx) PutLease(l Lease) error {
	if err := l.valid(); err != nil {
		return fmt.Errorf("lease of port %d: %w", l.Port, err)
	}
	var olds []Lease
	for _, port := range l.All() { // all of them before anything is written
		old, err := tx.Lease(port)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return err
		case old.LeaseID != l.LeaseID:
			return fmt.Errorf("lease of port %d is %s, not %s: %w", port, old.LeaseID, l.LeaseID, ErrLeaseConflict)
		case !slices.Equal(old.All(), l.All()):
			return fmt.Errorf("lease %s: %w: its ports are %v and cannot become %v", l.LeaseID, ErrInvalid, old.All(), l.All())
		}
		olds = append(olds, old)
	}
	// The old mapping first: the new one may have the same PID.
	for _, old := range olds {
		if err := tx.unmapPID(old); err != nil {
			return err
		}
	}
	for _, port := range l.All() {
		l.Port = port
		if err := tx.mapPID(l); err != nil {
			return err
		}
		if err := tx.kv.Put(kv.Leases, kv.BE16(port), l); err != nil {
			return fmt.Errorf("write the lease of port %d: %w", port, err)
		}
	}
	return nil
}

// EndLease removes the lease of a port, with all of its ports and their PID
// mappings, writes a tombstone for each with the transaction's time, and returns
// what it removed. Errors: ErrNotFound if the port has no lease,
// ErrLeaseConflict if it, or another port of the lease, has another.
func (tx *Tx) EndLease(port uint16, leaseID string) (Lease, error) {
	l, err := tx.leaseIs(port, leaseID)
	if err != nil {
		return Lease{}, err
	}
	var all []Lease
	for _, p := range l.All() { // all of them before anything is removed
		one, err := tx.leaseIs(p, leaseID)
		if err != nil {
			return Lease{}, err
		}
		all = append(all, one)
	}
	for _, one := range all {
		if err := tx.endPort(one); err != nil {
			return Lease{}, err
		}
	}
	return l, nil
}

// leaseIs returns the lease of a port if it has this id.
func (tx *Tx) leaseIs(port uint16, leaseID string) (Lease, error) {
	l, err := tx.Lease(port)
	if err == nil && l.LeaseID != leaseID {
		err = fmt.Errorf("lease of port %d is %s, not %s: %w", port, l.LeaseID, leaseID, ErrLeaseConflict)
	}
	return l, err
}

func (tx *Tx) endPort(l Lease) error {
	if err := tx.unmapPID(l); err != nil {
		return err
	}
	if err := tx.kv.Delete(kv.Leases, kv.BE16(l.Port)); err != nil {
		return fmt.Errorf("remove the lease of port %d: %w", l.Port, err)
	}
	// By this an ended lease is told from one that never was.
	tombstone := Tombstone{Lease: l, EndedAt: tx.Now()}
	if err := tx.kv.Put(kv.Ended, tombstone.key(), tombstone); err != nil {
		return fmt.Errorf("write the tombstone of lease %s: %w", l.LeaseID, err)
	}
	return nil
}

// Leases yields all leases by port, one of several ports once for each. The loop
// may write. An error ends it.
func (tx *Tx) Leases() iter.Seq2[Lease, error] {
	return kv.All[Lease](tx.kv, kv.Leases, kv.Range{})
}

// PortsOfPID returns the ports that a process holds, ascending; none is no error.
func (tx *Tx) PortsOfPID(pid int) ([]uint16, error) {
	// A key has 32 bits for it.
	if pid <= 0 || pid > math.MaxInt32 {
		return nil, nil
	}
	var ports []uint16
	for e, err := range tx.kv.Scan(kv.PIDs, kv.Range{Prefix: kv.PIDKey(pid, 0)[:4]}) {
		if err != nil {
			return nil, fmt.Errorf("ports of process %d: %w", pid, err)
		}
		_, port, ok := kv.SplitPIDKey(e.Key)
		if !ok {
			return nil, tx.kv.Corrupt(kv.PIDs, e.Key, "the key is not 6 bytes long")
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// PIDOfPort returns the process that holds a port. Errors: ErrNotFound if the
// port has no lease or its lease has no process.
func (tx *Tx) PIDOfPort(port uint16) (int, error) {
	l, err := tx.Lease(port)
	if err != nil {
		return 0, err
	}
	if l.Identity == nil {
		return 0, fmt.Errorf("process of port %d: %w", port, ErrNotFound)
	}
	return l.Identity.PID, nil
}

// Tombstone returns the ended lease with this id; of a lease over several ports
// the one that ended last. It reads all tombstones, newest first, until it
// finds it. Errors: ErrNotFound.
func (tx *Tx) Tombstone(leaseID string) (Tombstone, error) {
	for e, err := range tx.kv.Scan(kv.Ended, kv.Range{Reverse: true}) {
		if err != nil {
			return Tombstone{}, fmt.Errorf("tombstone of lease %s: %w", leaseID, err)
		}
		// By the key alone: most need not be decoded.
		if kv.EndedLeaseID(e.Key) != leaseID {
			continue
		}
		var tombstone Tombstone
		if err := tx.kv.Decode(kv.Ended, e.Key, e.Payload, &tombstone); err != nil {
			return Tombstone{}, err
		}
		return tombstone, nil
	}
	return Tombstone{}, fmt.Errorf("tombstone of lease %s: %w", leaseID, ErrNotFound)
}

// EndedSince yields the tombstones of leases that ended at since or later, newest
// first. An error ends it.
func (tx *Tx) EndedSince(since time.Time) iter.Seq2[Tombstone, error] {
	return func(yield func(Tombstone, error) bool) {
		for tombstone, err := range kv.All[Tombstone](tx.kv, kv.Ended, kv.Range{Reverse: true}) {
			if err == nil && tombstone.EndedAt.Before(since) {
				return
			}
			if !yield(tombstone, err) || err != nil {
				return
			}
		}
	}
}

// PruneEnded removes at most limit tombstones of leases that ended before the
// given time, or behind which there are keep later ones, oldest first, and returns
// how many. It reads keep keys.
func (tx *Tx) PruneEnded(before time.Time, keep, limit int) (int, error) {
	// The newest of those that are too many; below it all are.
	var surplus []byte
	n := 0
	for e, err := range tx.kv.Scan(kv.Ended, kv.Range{Reverse: true}) {
		if err != nil {
			return 0, fmt.Errorf("prune tombstones: %w", err)
		}
		if n++; n > keep {
			surplus = bytes.Clone(e.Key)
			break
		}
	}
	removed := 0
	bound := kv.TimeKey(before)
	for e, err := range tx.kv.Scan(kv.Ended, kv.Range{}) {
		if err != nil {
			return removed, fmt.Errorf("prune tombstones: %w", err)
		}
		// Keys begin with the time, so the rest is younger.
		young := bytes.Compare(e.Key[:min(8, len(e.Key))], bound) >= 0
		if removed >= limit || young && bytes.Compare(e.Key, surplus) > 0 {
			break
		}
		if err := tx.kv.Delete(kv.Ended, e.Key); err != nil {
			return removed, fmt.Errorf("prune tombstones: %w", err)
		}
		removed++
	}
	return removed, nil
}

func (tx *Tx) mapPID(l Lease) error {
	if l.Identity == nil {
		return nil
	}
	if err := tx.kv.Put(kv.PIDs, kv.PIDKey(l.Identity.PID, l.Port), l.LeaseID); err != nil {
		return fmt.Errorf("map process %d to port %d: %w", l.Identity.PID, l.Port, err)
	}
	return nil
}

// unmapPID removes l's mapping, and only l's: with a reused PID the same key
// may by then belong to another lease.
func (tx *Tx) unmapPID(l Lease) error {
	if l.Identity == nil {
		return nil
	}
	key := kv.PIDKey(l.Identity.PID, l.Port)
	var leaseID string
	err := tx.kv.Get(kv.PIDs, key, &leaseID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && leaseID == l.LeaseID {
		err = tx.kv.Delete(kv.PIDs, key)
	}
	if err != nil {
		return fmt.Errorf("unmap process %d from port %d: %w", l.Identity.PID, l.Port, err)
	}
	return nil
}

// valid checks what the rest of the store relies on.
func (l Lease) valid() error {
	kinds := []LeaseKind{LeaseWorker, LeaseProcess, LeaseTTL}
	states := []LeaseState{LeaseHeld, LeaseReleasing, LeaseQuarantined, LeaseUnverified}
	switch {
	case l.Port == 0:
		return fmt.Errorf("%w: no port", ErrInvalid)
	case l.LeaseID == "":
		return fmt.Errorf("%w: no lease id", ErrInvalid)
	case !slices.Contains(kinds, l.Kind):
		return fmt.Errorf("%w: kind %q", ErrInvalid, l.Kind)
	case !slices.Contains(states, l.State):
		return fmt.Errorf("%w: state %q", ErrInvalid, l.State)
	case len(l.Ports) > 0 && (!slices.Contains(l.Ports, l.Port) || slices.Contains(l.Ports, 0) || !slices.IsSorted(l.Ports)):
		return fmt.Errorf("%w: port %d among ports %v", ErrInvalid, l.Port, l.Ports)
	case l.Identity != nil && (l.Identity.PID <= 0 || l.Identity.PID > math.MaxInt32):
		return fmt.Errorf("%w: process id %d", ErrInvalid, l.Identity.PID)
	}
	return nil
}

func (t Tombstone) key() []byte { return kv.EndedKey(t.EndedAt, t.Lease.LeaseID, t.Lease.Port) }
