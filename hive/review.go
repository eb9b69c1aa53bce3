package hive

import (
	"context"
	"errors"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// judgeAgain looks once more at a worker that recovery could not judge.
func (h *Hive) judgeAgain(ctx context.Context, w *worker) {
	f := &found{rec: w.record()}
	f.judge(ctx, overlap(h.alloc.Contested(), f.rec.Ports), h.store.Meta().Relocated)
	switch f.verdict {
	case proc.Alive:
		err := h.settle(func(b *batch) error {
			return b.recordFound(f, h.store.Meta().Relocated)
		})
		if err != nil { // the hive is closing
			f.process.Close()
			return
		}
		h.takeBack(f, firstLook)
	case proc.Dead:
		w.inherited.Store(h.store.Meta().Relocated)
		rest := w.endRest(ctx)
		if ctx.Err() == nil && rest.err == nil { // else in the next review
			if w.conclude(ctx, f.outcome(time.Now().UTC()), rest) {
				w.attend(0)
			}
		}
	case proc.Unknown:
	}
}

// reviewLeases looks again at what could not be judged, and frees quarantined
// ports on which nobody was found in two reviews in a row.
func (h *Hive) reviewLeases(ctx context.Context) {
	h.mu.Lock()
	var unverified []*worker
	for _, w := range h.workers {
		if w.record().State == store.WorkerUnverified {
			unverified = append(unverified, w)
		}
	}
	h.mu.Unlock()
	for _, w := range unverified {
		h.judgeAgain(ctx, w)
	}
	for _, ls := range h.unverifiedLessees() {
		h.judgeLessee(ls)
	}
	held, err := h.holderless()
	if err != nil {
		h.logUnlessClosing(err, "read the leases", "")
		return
	}
	h.reviewQuarantine(ctx, held)
}

// holderless returns the quarantined leases, and those of workers that have
// ended: worker and lease end in one transaction, so that is a file that was
// mended by hand. Nobody is known to hold such a port, and it is judged as one
// on which somebody may still be reached.
func (h *Hive) holderless() (held []store.Lease, err error) {
	err = h.store.View(func(tx *store.Tx) error {
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

func (h *Hive) reviewQuarantine(ctx context.Context, held []store.Lease) {
	seen := map[string]int{}
	defer func() { h.quiet = seen }()
	if len(held) == 0 {
		return
	}
	var trees []*proc.Tree
	for _, l := range held {
		trees = append(trees, h.treeOfLease(l))
	}
	members, err := proc.SurveyMembers(ctx, trees)
	if err != nil {
		return // looked at again in the next review
	}
	snap, err := h.sockets.Snapshot(ctx, 0)
	if err != nil {
		return
	}
	for i, l := range held {
		if len(members[i]) > 0 || stillHeld(ctx, snap, l.All()) != "" {
			continue
		}
		if seen[l.LeaseID] = h.quiet[l.LeaseID] + 1; seen[l.LeaseID] < 2 {
			continue
		}
		err := h.freeQuarantined(l, "nobody was found on it twice")
		if err != nil {
			h.logUnlessClosing(err, "free a quarantined port", l.LeaseID)
			return
		}
	}
}
