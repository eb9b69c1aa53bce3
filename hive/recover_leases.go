package hive

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// foundLease is what recovery knows about one lease that is not a worker's.
type foundLease struct {
	lease   store.Lease
	verdict proc.Verdict
	process *proc.Process // if alive, of kind process
	why     string        // why it is dead or cannot be judged
	keep    string        // why a dead holder's port stays quarantined
}

// foreignLeases returns the leases of programs that hive did not start, without
// those that have ended and are quarantined.
func foreignLeases(tx *store.Tx) (list []*foundLease, err error) {
	for l, err := range tx.Leases() {
		if err != nil {
			return nil, err
		}
		if l.Kind != store.LeaseWorker && l.State != store.LeaseQuarantined && l.Port == l.All()[0] {
			list = append(list, &foundLease{lease: l})
		}
	}
	return list, nil
}

// judgeLeases verifies the holders of kind process, and looks who is on the ports
// of the dead. A ttl lease is not judged: it gets its whole time again.
func (h *Hive) judgeLeases(ctx context.Context, leases []*foundLease, contested []uint16) {
	var g errgroup.Group
	g.SetLimit(procReaders)
	for _, f := range leases {
		if f.lease.Kind == store.LeaseTTL {
			f.verdict = proc.Alive
			continue
		}
		g.Go(func() error {
			err := errors.New("there was no time to judge it")
			if ctx.Err() == nil {
				f.process, f.verdict, err = judgeHolder(f.lease, overlap(contested, f.lease.All()))
			}
			if err != nil {
				f.why = err.Error()
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: a verdict is not a failure
	for _, f := range leases {
		if f.verdict == proc.Dead {
			f.keep = h.whyQuarantine(f.lease.All(), remains{})
		}
	}
}

// recordFoundLease records what recovery decided about one lease. One that is to
// be freed is ended by the same transaction.
func (b *batch) recordFoundLease(f *foundLease) error {
	l := f.lease
	gone := "its holder ended while hive was not running: " + f.why
	switch {
	case f.verdict == proc.Dead && f.keep == "":
		return b.freeEvent(l, "free: "+gone)
	case f.verdict == proc.Dead:
		return b.quarantineLease(l, gone+", and "+f.keep)
	case f.verdict == proc.Unknown:
		l.State, l.Reason = store.LeaseUnverified, f.why
	default:
		l.State, l.Reason = store.LeaseHeld, ""
	}
	if l.State == f.lease.State && l.Reason == f.lease.Reason {
		return nil
	}
	f.lease = l
	if err := b.PutLease(l); err != nil {
		return err
	}
	message := portsAre(l.All()) + " " + string(l.State)
	if l.Reason != "" {
		message += ": " + l.Reason
	}
	return b.leaseEvent(store.EventPort, l, message)
}

// takeBackLeases begins to watch over what is leased.
func (h *Hive) takeBackLeases(leases []*foundLease) {
	for _, f := range leases {
		if f.verdict != proc.Dead {
			h.shares.add(f.lease.Requester, len(f.lease.All()))
			h.settleIn(f.lease, f.process)
		}
	}
}
