package hive

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"rbeehive/store"
)

// Pruning goes in small steps, so that no transaction grows with what is old.
const (
	pruneStep     = 64
	tombstoneKept = 7 * 24 * time.Hour
	// endedKept is how long a job stays after its end however many there are: who
	// waits for it reads how it ended, who lost the answer sends it again under its
	// key. One that took long is among the oldest when it ends.
	endedKept = 10 * time.Second
	// pruneGap is between two looks for jobs that have been kept for so long by now.
	pruneGap = endedKept / 4
)

// prune removes ended jobs, dead workers with their logs, and tombstones that
// are older than they need be.
func (h *Hive) prune(ctx context.Context) {
	h.pruning.Lock()
	defer h.pruning.Unlock()
	for _, rec := range h.buryable(time.Now()) {
		if ctx.Err() != nil || !h.bury(rec) {
			return
		}
	}
	for ctx.Err() == nil {
		n, err := h.pruneStep()
		if err != nil {
			h.logUnlessClosing(err, "prune the state file", "")
			return
		}
		if n < pruneStep {
			return
		}
	}
}

// pruneOften prunes jobs as fast as they come, where that is faster than audits
// come round, until the hive closes.
func (h *Hive) pruneOften() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.prunes:
			h.prune(h.ctx)
		}
		if h.surplus() < pruneStep {
			continue
		}
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(pruneGap):
			h.jobEnded() // the last one that did may have been the last for long
		}
	}
}

// jobEnded has jobs pruned if more than jobs.keep, and a step, that have ended
// have a record.
func (h *Hive) jobEnded() {
	if h.surplus() < pruneStep {
		return
	}
	select {
	case h.prunes <- struct{}{}:
	default:
	}
}

// countJobs finds out how many jobs have a record.
func (h *Hive) countJobs() error {
	return h.store.View(func(tx *store.Tx) error {
		n, err := tx.CountJobs()
		h.kept.Store(int64(n))
		return err
	})
}

// surplus is how many jobs that have ended more than jobs.keep have a record.
func (h *Hive) surplus() int { return int(h.kept.Load()-h.active.Load()) - h.settings().Jobs.Keep }

// bury removes a dead worker's record and log. While its port is quarantined
// they stay: the log is a proof by which what is left of it can be known. It
// reports whether pruning can go on.
func (h *Hive) bury(rec store.Worker) bool {
	gone := false
	err := h.tidy(func(b *batch) error {
		lease, err := b.Lease(rec.Port)
		if err == nil && lease.LeaseID == rec.LeaseID {
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		gone = true
		return b.DeleteWorker(rec.WorkerID)
	})
	if err == nil && gone {
		h.forget(rec.WorkerID)
		h.logs.Remove(rec.WorkerID)
	}
	if err != nil {
		h.logUnlessClosing(err, "remove a dead worker's record", rec.WorkerID)
	}
	return err == nil
}

// tidy commits a removal of what is old. Nobody waits for it and nothing has
// happened, so an error is no reason to end: the next round tries again.
func (h *Hive) tidy(fn func(*batch) error) error {
	closure, committed := h.batched(fn)
	if err := h.store.UpdateReserved(h.ctx, closure); err != nil {
		return err
	}
	committed()
	return nil
}

// pruneStep removes one batch and returns how many records it held.
func (h *Hive) pruneStep() (n int, err error) {
	removed := 0
	err = h.tidy(func(b *batch) error {
		old, err := h.oldJobs(b)
		if err != nil {
			return err
		}
		for _, id := range old {
			if err := b.DeleteJob(id); err != nil {
				return err
			}
		}
		ended, err := b.PruneEnded(b.Now().Add(-tombstoneKept), pruneStep)
		if err != nil {
			return err
		}
		events, err := b.PruneEvents(b.Now().Add(-h.settings().Jobs.Retention), pruneStep) // of no job and no worker that is kept
		removed, n = len(old), max(len(old), ended, events)
		return err
	})
	if err == nil {
		h.kept.Add(-int64(removed))
	}
	return n, err
}

// oldJobs returns ended jobs that need not be kept, oldest first, at most a step:
// those that are older than jobs.retention, and those beyond jobs.keep.
func (h *Hive) oldJobs(b *batch) (old []string, err error) {
	surplus, retention := h.surplus(), h.settings().Jobs.Retention
	for job, err := range b.Jobs("", false) {
		if err != nil {
			return nil, err
		}
		kept := retention
		if len(old) < surplus {
			kept = endedKept
		}
		young := func(since time.Time) bool {
			age := b.Now().Sub(since)
			// A clock that was put back must not let jobs pile up.
			return age < kept && (age >= 0 || kept == retention)
		}
		if len(old) == pruneStep || young(job.CreatedAt) {
			break // jobs come by age
		}
		if job.FinishedAt == nil || young(*job.FinishedAt) {
			continue
		}
		old = append(old, job.JobID)
	}
	return old, nil
}

func sortByEnd(recs []store.Worker) {
	slices.SortFunc(recs, func(a, b store.Worker) int {
		if a.EndedAt == nil || b.EndedAt == nil {
			return cmp.Compare(a.WorkerID, b.WorkerID)
		}
		return a.EndedAt.Compare(*b.EndedAt)
	})
}
