package hive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// sweep looks for processes that carry a proof of membership and have no
// record. The gate leaves none in a crash; what is found comes from a restored
// backup, a copied directory, or a daemon that a worker left behind on
// purpose. So they are reported and left alone.
func (h *Hive) sweep(ctx context.Context) {
	found, err := h.lastingStrays(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		h.cfg.Log.WithError(err).Warn("the sweep for processes without a record failed")
		return
	}
	r := *h.recovery.Load()
	n := len(found)
	r.Orphans = &n
	h.recovery.Store(&r)
	for _, s := range found {
		h.cfg.Log.WithField("pid", s.PID).WithField("worker", s.WorkerID).WithField("program", s.Program).
			Warn("a process carries this hive's stamp and has no record; it is left alone")
	}
}

// lastingStrays are the processes without a record that are still so after a
// while: one that is being spawned is recorded a moment after it is made.
func (h *Hive) lastingStrays(ctx context.Context) ([]proc.Stray, error) {
	first, err := h.strays(ctx)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-time.After(gatePatience):
		return h.straysAgain(ctx, first)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *Hive) strays(ctx context.Context) ([]proc.Stray, error) {
	owners, err := h.workerUsers()
	if err != nil {
		return nil, err
	}
	all, err := proc.Sweep(ctx, h.store.Meta().StateID, h.store.Secret(), owners)
	if err != nil {
		return nil, err
	}
	var strays []proc.Stray
	err = h.store.View(func(tx *store.Tx) error {
		for _, s := range all {
			rec, err := tx.Worker(s.WorkerID)
			switch {
			case errors.Is(err, store.ErrNotFound):
				rec = store.Worker{WorkerID: s.WorkerID}
			case err != nil:
				return err
			case !rec.State.Ended():
				continue
			}
			if !s.Unproven || rec.StampUID == nil && s.UID == userOf(rec) {
				strays = append(strays, s)
			}
		}
		return nil
	})
	return strays, err
}

// workerUsers returns the users as whom recorded workers were started.
func (h *Hive) workerUsers() (uids []uint32, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		for rec, err := range tx.Workers() {
			if err != nil {
				return err
			}
			if uid := userOf(rec); !slices.Contains(uids, uid) {
				uids = append(uids, uid)
			}
		}
		return nil
	})
	return uids, err
}

// straysAgain looks a second time, and returns only those that were seen before:
// while workers come and go there is nearly always one that is being spawned or
// that has just ended, each time another.
func (h *Hive) straysAgain(ctx context.Context, before []proc.Stray) ([]proc.Stray, error) {
	now, err := h.strays(ctx)
	return inBoth(before, now), err
}

// inBoth returns the processes of now that are in before too.
func inBoth(before, now []proc.Stray) []proc.Stray {
	return slices.DeleteFunc(slices.Clone(now), func(s proc.Stray) bool {
		return !slices.ContainsFunc(before, func(b proc.Stray) bool { return b.PID == s.PID && b.Start == s.Start })
	})
}

// endStrays ends members of leases that the file knows as ended; that a lease is
// merely unknown proves nothing. In the first start with a copied or restored
// file nobody is ended: its workers may be somebody else's.
func (h *Hive) endStrays(ctx context.Context, found []Finding) {
	if h.store.Meta().Relocated {
		return
	}
	byLease := map[string]Finding{}
	for _, f := range found {
		if f.Code == FindingNoRecord && f.LeaseID != "" {
			byLease[f.LeaseID] = f
		}
	}
	for leaseID, f := range byLease {
		var stone store.Tombstone
		err := h.store.View(func(tx *store.Tx) (err error) {
			stone, err = tx.Tombstone(leaseID)
			return err
		})
		if err != nil {
			continue // not known as ended, or the file cannot say
		}
		l := stone.Lease
		left, err := h.treeOfLease(l).Stop(ctx, store.Stop{Signals: []string{"SIGTERM"}, Grace: strayGrace})
		if err != nil {
			h.logUnlessClosing(err, "end what an ended lease has left behind", leaseID)
			continue
		}
		message := fmt.Sprintf("ended what worker %s had left behind: %s (pid %d)", l.WorkerID, f.Program, f.PID)
		if len(left) > 0 {
			message = fmt.Sprintf("could not end what worker %s had left behind: %s (pid %d)", l.WorkerID, left[0].Program, left[0].PID)
		}
		err = h.tidy(func(b *batch) error { return b.leaseEvent(store.EventAudit, l, message) })
		if err != nil {
			h.logUnlessClosing(err, "record an event", leaseID)
		}
	}
}

// strayGrace is what a process that an ended lease has left behind gets.
const strayGrace = 10 * time.Second
