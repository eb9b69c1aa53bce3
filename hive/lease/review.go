package lease

import (
	"context"
	"errors"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Review looks again at the holders that could not be verified, and frees quarantined
// ports on which nobody was found in two reviews in a row. It is called by one goroutine
// at a time, and blocks for the reads of the socket table and of /proc.
func (m *Manager) Review(ctx context.Context) {
	for _, ls := range m.unverified() {
		m.reverify(ls)
	}
	held, err := m.Unheld()
	if err != nil {
		m.journal.LogUnlessClosing(err, "read the leases", "")
		return
	}
	m.reviewQuarantine(ctx, held)
}

// Unheld returns the quarantined leases, and those of workers that have
// ended: worker and lease end in one transaction, so that is a file that was
// mended by hand. Nobody is known to hold such a port, and it is treated as one
// on which somebody may still be reached.
func (m *Manager) Unheld() (held []store.Lease, err error) {
	err = m.journal.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			if l.Port != l.All()[0] || (l.Kind != store.LeaseWorker && l.State != store.LeaseQuarantined) {
				continue
			}
			if l.State != store.LeaseQuarantined {
				rec, err := tx.Worker(l.WorkerID)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				if err == nil && !rec.State.Ended() {
					continue
				}
			}
			held = append(held, l)
		}
		return nil
	})
	return held, err
}

func (m *Manager) reviewQuarantine(ctx context.Context, held []store.Lease) {
	seen := map[string]int{}
	// After an error, too: a review that could not look breaks the row.
	defer func() { m.unheld = seen }()
	if len(held) == 0 {
		return
	}
	var trees []*proc.Tree
	for _, l := range held {
		trees = append(trees, m.tree(l))
	}
	// One walk of /proc for all.
	members, err := proc.SurveyMembers(ctx, trees)
	if err != nil {
		return // looked at again in the next review
	}
	snap, err := m.sockets.Snapshot(ctx, 0)
	if err != nil {
		return
	}
	for i, l := range held {
		if len(members[i]) > 0 || endpoint.StillHeld(ctx, snap, l.All()) != "" {
			continue
		}
		// Once proves little: a holder may have been between two sockets.
		if seen[l.LeaseID] = m.unheld[l.LeaseID] + 1; seen[l.LeaseID] < 2 {
			continue
		}
		if err := m.freeQuarantined(l, "nobody was found on it twice"); err != nil {
			m.journal.LogUnlessClosing(err, "free a quarantined port", l.LeaseID)
			return
		}
	}
}
