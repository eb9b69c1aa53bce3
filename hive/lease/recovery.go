package lease

import (
	"context"
	"errors"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/journal"
	"rbeehive/hive/proc"
	"rbeehive/store"

	"golang.org/x/sync/errgroup"
)

// recordedLease is what recovery knows about one lease that is not a worker's.
type recordedLease struct {
	lease      store.Lease
	verdict    proc.Verdict
	process    *proc.Process // if alive, of kind process
	why        string        // why it is dead or cannot be verified
	quarantine string        // why a dead holder's port stays quarantined
}

// Recovery takes the external leases of a state file over after a start of hive. Its
// methods are called once each, in the order in which they stand here, by one goroutine.
type Recovery struct {
	m      *Manager
	leases []*recordedLease
}

// Load reads the leases of programs that hive did not start, without those that have ended
// and are quarantined.
func (m *Manager) Load(tx *store.Tx) (*Recovery, error) {
	r := &Recovery{m: m}
	for l, err := range tx.Leases() {
		if err != nil {
			return nil, err
		}
		// Workers' are the supervisor's, quarantined ones Review's; of several ports the first stands for all.
		if l.Kind != store.LeaseWorker && l.State != store.LeaseQuarantined && l.Port == l.All()[0] {
			r.leases = append(r.leases, &recordedLease{lease: l})
		}
	}
	return r, nil
}

// Verify verifies the holders of kind process, and looks who is on the ports of the dead.
// contested are ports that another hive claims. A ttl lease is not verified: it gets its
// whole time again.
func (r *Recovery) Verify(ctx context.Context, contested []uint16) {
	var g errgroup.Group
	g.SetLimit(maxProcReaders)
	for _, f := range r.leases {
		if f.lease.Kind == store.LeaseTTL {
			// Its holder could not renew while hive was away.
			f.verdict = proc.Alive
			continue
		}
		g.Go(func() error {
			err := errors.New("there was no time to verify it")
			if ctx.Err() == nil {
				f.process, f.verdict, err = verifyHolder(f.lease, endpoint.Overlap(contested, f.lease.All()))
			}
			if err != nil {
				f.why = err.Error()
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: a verdict is not a failure
	for _, f := range r.leases {
		if f.verdict == proc.Dead {
			// Without ctx: also when recovery's time is over, nothing is freed without this look.
			f.quarantine = endpoint.WhyHeld(r.m.sockets, f.lease.All())
		}
	}
}

// maxProcReaders is how many read /proc at once: more only make threads.
const maxProcReaders = 4

// Freed returns the leases that end with this recovery.
func (r *Recovery) Freed() (free []store.Lease) {
	for _, f := range r.leases {
		if f.verdict == proc.Dead && f.quarantine == "" {
			free = append(free, f.lease)
		}
	}
	return free
}

// Record writes what recovery decided about the leases.
func (r *Recovery) Record(b *journal.Batch) error {
	for _, f := range r.leases {
		if err := f.record(b); err != nil {
			return err
		}
	}
	return nil
}

// Abort lets go of the processes of a recovery that is given up.
func (r *Recovery) Abort() {
	for _, f := range r.leases {
		if f.process != nil {
			f.process.Close()
		}
	}
}

// Adopt begins to watch over what is leased.
func (r *Recovery) Adopt() {
	for _, f := range r.leases {
		// Unverified ones, too: they keep their ports.
		if f.verdict != proc.Dead {
			r.m.shares.add(f.lease.Requester, len(f.lease.All()))
			r.m.track(f.lease, f.process)
		}
	}
}

// record records what recovery decided about one lease. One that is to
// be freed is ended by the same transaction.
func (f *recordedLease) record(b *journal.Batch) error {
	l := f.lease
	gone := "its holder ended while hive was not running: " + f.why
	switch {
	case f.verdict == proc.Dead && f.quarantine == "":
		return freeEvent(b, l, "free: "+gone)
	case f.verdict == proc.Dead:
		return quarantineLease(b, l, gone+", and "+f.quarantine)
	case f.verdict == proc.Unknown:
		l.State, l.Reason = store.LeaseUnverified, f.why
	default:
		l.State, l.Reason = store.LeaseHeld, ""
	}
	// As before: there is nothing to write or tell.
	if l.State == f.lease.State && l.Reason == f.lease.Reason {
		return nil
	}
	f.lease = l
	if err := b.PutLease(l); err != nil {
		return err
	}
	message := PortsAre(l.All()) + " " + string(l.State)
	if l.Reason != "" {
		message += ": " + l.Reason
	}
	return Event(b, store.EventPort, l, message)
}
