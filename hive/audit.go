package hive

import (
	"context"
	"errors"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// sweep looks for processes that carry a proof of membership and have no
// record. The gate leaves none in a crash; what is found comes from a restored
// backup, a copied directory, or a daemon that a worker left behind on
// purpose. So they are reported and left alone.
func (h *Hive) sweep(ctx context.Context) {
	first, err := h.strays(ctx)
	if len(first) > 0 && err == nil {
		// A worker that is being spawned right now is recorded a moment later.
		select {
		case <-time.After(gatePatience):
		case <-ctx.Done():
			return
		}
		first, err = h.straysAgain(ctx, first)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		h.cfg.Log.WithError(err).Warn("the sweep for processes without a record failed")
		return
	}
	r := *h.recovery.Load()
	n := len(first)
	r.Orphans = &n
	h.recovery.Store(&r)
	for _, s := range first {
		h.cfg.Log.WithField("pid", s.PID).WithField("worker", s.WorkerID).WithField("program", s.Program).
			Warn("a process carries this hive's stamp and has no record; it is left alone")
	}
}

func (h *Hive) strays(ctx context.Context) ([]proc.Stray, error) {
	all, err := proc.Sweep(ctx, h.store.Meta().StateID)
	if err != nil {
		return nil, err
	}
	var strays []proc.Stray
	err = h.store.View(func(tx *store.Tx) error {
		for _, s := range all {
			rec, err := tx.Worker(s.WorkerID)
			if errors.Is(err, store.ErrNotFound) || (err == nil && rec.State.Ended()) {
				strays = append(strays, s)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return strays, err
}

// judgeAgain looks once more at a worker that recovery could not judge.
func (h *Hive) judgeAgain(ctx context.Context, w *worker) {
	f := &found{rec: w.record()}
	f.judge(ctx, overlap(h.alloc.Contested(), f.rec.Ports))
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
		w.inherited = h.store.Meta().Relocated
		rest := w.endRest(ctx)
		if ctx.Err() == nil && rest.err == nil { // else in the next review
			w.finish(f.outcome(time.Now().UTC()), rest)
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
		if w.proc == nil {
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
		rec := store.Worker{WorkerID: l.WorkerID, LeaseID: l.LeaseID, Cgroup: l.Cgroup}
		if l.Kind == store.LeaseWorker {
			rec.Log = h.logPath(l.WorkerID)
		}
		trees = append(trees, h.treeOf(rec, nil))
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
