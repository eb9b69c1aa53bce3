package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Sweep looks for processes that carry a proof of membership and have no
// record. The gate leaves none in a crash; what is found comes from a restored
// backup, a copied directory, or a daemon that a worker left behind on
// purpose. So they are reported and left alone. It returns how many there are; ok is
// false if that could not be found out.
func (a *Auditor) Sweep(ctx context.Context) (n int, ok bool) {
	found, err := a.LastingOrphans(ctx)
	if ctx.Err() != nil {
		return 0, false
	}
	if err != nil {
		a.log.WithError(err).Warn("the sweep for processes without a record failed")
		return 0, false
	}
	for _, s := range found {
		a.log.WithField("pid", s.PID).WithField("worker", s.WorkerID).WithField("program", s.Program).
			Warn("a process carries this hive's stamp and has no record; it is left alone")
	}
	return len(found), true
}

// LastingOrphans are the processes that carry this hive's mark, have no living record, and
// are still so after two seconds: one that is being spawned is recorded a moment after it
// is made. It blocks for that long only if there are any. Errors: the system's, ctx's.
func (a *Auditor) LastingOrphans(ctx context.Context) ([]proc.Orphan, error) {
	first, err := a.orphans(ctx)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-time.After(sweepInterval):
		return a.orphansAgain(ctx, first)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// orphans returns the processes that carry this hive's mark and have no living record.
func (a *Auditor) orphans(ctx context.Context) ([]proc.Orphan, error) {
	// Stamps count only for processes of users that workers ran as: anybody can set variables.
	owners, err := a.workerUsers()
	if err != nil {
		return nil, err
	}
	all, err := proc.Sweep(ctx, a.stateID, a.secret, owners)
	if err != nil {
		return nil, err
	}
	var orphans []proc.Orphan
	err = a.journal.View(func(tx *store.Tx) error {
		for _, s := range all {
			rec, err := tx.Worker(s.WorkerID)
			switch {
			case errors.Is(err, store.ErrNotFound):
				// With no record UserOf is hive's own user, for whom alone an unproven stamp then counts.
				rec = store.Worker{WorkerID: s.WorkerID}
			case err != nil:
				return err
			case !rec.State.Ended():
				continue
			}
			// Workers of an older hive have stamps without a proof, and no StampUID in their records.
			if !s.Unproven || rec.StampUID == nil && s.UID == launch.UserOf(rec) {
				orphans = append(orphans, s)
			}
		}
		return nil
	})
	return orphans, err
}

// workerUsers returns the users as whom recorded workers were started.
func (a *Auditor) workerUsers() (uids []uint32, err error) {
	err = a.journal.View(func(tx *store.Tx) error {
		for rec, err := range tx.Workers() {
			if err != nil {
				return err
			}
			if uid := launch.UserOf(rec); !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
		return nil
	})
	return uids, err
}

// orphansAgain looks a second time, and returns only those that were seen before:
// while workers come and go there is nearly always one that is being spawned or
// that has just ended, each time another.
func (a *Auditor) orphansAgain(ctx context.Context, before []proc.Orphan) ([]proc.Orphan, error) {
	now, err := a.orphans(ctx)
	return inBoth(before, now), err
}

// inBoth returns the processes of now that are in before too.
func inBoth(before, now []proc.Orphan) []proc.Orphan {
	return slices.DeleteFunc(slices.Clone(now), func(s proc.Orphan) bool {
		return !slices.ContainsFunc(before, func(b proc.Orphan) bool { return b.PID == s.PID && b.Start == s.Start })
	})
}

// endOrphans ends members of leases that the file knows as ended; that a lease is
// merely unknown proves nothing. In the first start with a copied or restored
// file nobody is ended: its workers may be somebody else's.
func (a *Auditor) endOrphans(ctx context.Context, found []Finding) {
	if a.relocated {
		return
	}
	// By lease: a tree is ended as a whole.
	byLease := map[string]Finding{}
	for _, f := range found {
		if f.Code == FindingNoRecord && f.LeaseID != "" {
			byLease[f.LeaseID] = f
		}
	}
	for leaseID, f := range byLease {
		var stone store.Tombstone
		err := a.journal.View(func(tx *store.Tx) (err error) {
			stone, err = tx.Tombstone(leaseID)
			return err
		})
		if err != nil {
			continue // not known as ended, or the file cannot say
		}
		l := stone.Lease
		left, err := a.workers.TreeOfLease(l).Stop(ctx, store.Stop{Signals: []string{"SIGTERM"}, Grace: orphanGrace})
		if err != nil {
			a.journal.LogUnlessClosing(err, "end what an ended lease has left behind", leaseID)
			continue
		}
		message := fmt.Sprintf("ended what worker %s had left behind: %s (pid %d)", l.WorkerID, f.Program, f.PID)
		if len(left) > 0 {
			message = fmt.Sprintf("could not end what worker %s had left behind: %s (pid %d)", l.WorkerID, left[0].Program, left[0].PID)
		}
		err = a.journal.CommitBestEffort(func(b *journal.Batch) error { return lease.Event(b, store.EventAudit, l, message) })
		a.journal.LogUnlessClosing(err, "record an event", leaseID)
	}
}

// sweepInterval is between the two looks of a sweep.
const sweepInterval = 2 * time.Second

// orphanGrace is what a process that an ended lease has left behind gets.
const orphanGrace = 10 * time.Second
