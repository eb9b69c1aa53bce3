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
	first, err := h.strays(ctx)
	if len(first) > 0 && err == nil {
		// A worker that is being spawned right now is recorded a moment later.
		select {
		case <-time.After(gatePatience):
		case <-ctx.Done():
			return
		}
		first, err = h.strays(ctx)
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
	f.judge(ctx, slices.Contains(h.alloc.Contested(), f.rec.Port))
	switch f.verdict {
	case proc.Alive:
		err := h.settle(func(b *batch) error {
			l, err := b.Lease(f.rec.Port)
			if err != nil {
				return err
			}
			f.lease = &l
			return b.recordFound(f)
		})
		if err != nil {
			f.process.Close()
			h.logUnlessClosing(err, "record an adopted worker", w.id())
			return
		}
		again := h.newWorker(f.rec, f.process)
		h.enlist(again)
		again.follow(firstLook)
	case proc.Dead:
		left, err := w.tree.Stop(ctx, f.rec.Spec.Stop)
		if err != nil && ctx.Err() != nil {
			return
		}
		w.finish(ctx, outcome{state: store.WorkerFailed, reason: "it ended unseen: " + f.why, exit: &store.Exit{At: time.Now().UTC()}}, left)
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
	leases, err := h.Leases()
	if err != nil {
		h.logUnlessClosing(err, "read the leases", "")
		return
	}
	var held []store.Lease
	for _, l := range leases {
		switch {
		case l.State == store.LeaseQuarantined:
			held = append(held, l)
		case l.Kind == store.LeaseWorker && h.hasEnded(l.WorkerID):
			// Worker and lease end in one transaction, so this is a file that was
			// mended by hand. Nobody is known to hold the port; it is judged as one
			// that may still be reached.
			held = append(held, l)
		}
	}
	h.reviewQuarantine(ctx, held)
}

// hasEnded reports whether a worker's record says that it has ended, or is gone.
func (h *Hive) hasEnded(workerID string) bool {
	ended := false
	err := h.store.View(func(tx *store.Tx) error {
		rec, err := tx.Worker(workerID)
		ended = errors.Is(err, store.ErrNotFound) || (err == nil && rec.State.Ended())
		return nil
	})
	return err == nil && ended
}

func (h *Hive) reviewQuarantine(ctx context.Context, held []store.Lease) {
	seen := map[string]int{}
	defer func() { h.quiet = seen }()
	if len(held) == 0 {
		return
	}
	var trees []*proc.Tree
	for _, l := range held {
		trees = append(trees, h.treeOf(store.Worker{WorkerID: l.WorkerID, LeaseID: l.LeaseID, Cgroup: l.Cgroup, Log: h.logPath(l.WorkerID)}, nil))
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
		if len(members[i]) > 0 || len(snap.Listeners(l.Port)) > 0 {
			continue
		}
		if seen[l.LeaseID] = h.quiet[l.LeaseID] + 1; seen[l.LeaseID] < 2 {
			continue
		}
		closure, committed := h.batched(func(b *batch) error {
			return b.event(store.EventAudit, "", l.WorkerID, fmt.Sprintf("port %d is free again: nobody was found on it twice", l.Port),
				map[string]any{"port": l.Port, "lease_id": l.LeaseID})
		})
		if err := h.alloc.Release(ctx, l.Port, l.LeaseID, closure); err != nil {
			h.logUnlessClosing(err, "free a quarantined port", l.LeaseID)
			continue
		}
		committed()
	}
}
