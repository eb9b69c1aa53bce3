package hive

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rbeehive/store"
)

// Pruning goes in small steps, so that no transaction grows with what is old.
const (
	pruneStep     = 256
	tombstoneKept = 7 * 24 * time.Hour
)

// prune removes ended jobs, dead workers with their logs, and tombstones that
// are older than they need be.
func (h *Hive) prune(ctx context.Context) {
	for _, rec := range h.buryable(time.Now()) {
		if err := h.settle(func(b *batch) error { return b.DeleteWorker(rec.WorkerID) }); err != nil {
			h.logUnlessClosing(err, "remove a dead worker's record", rec.WorkerID)
			return
		}
		_ = os.Remove(h.logPath(rec.WorkerID)) // gone already is as good
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

// pruneStep removes one batch and returns how many records it held.
func (h *Hive) pruneStep() (n int, err error) {
	err = h.settle(func(b *batch) error {
		var old []string
		for job, err := range b.Jobs("", false) {
			if err != nil {
				return err
			}
			if len(old) == pruneStep || job.FinishedAt == nil || b.Now().Sub(*job.FinishedAt) < h.cfg.Jobs.Retention {
				break // jobs come by age
			}
			old = append(old, job.JobID)
		}
		for _, id := range old {
			if err := b.DeleteJob(id); err != nil {
				return err
			}
		}
		ended, err := b.PruneEnded(b.Now().Add(-tombstoneKept), pruneStep)
		n = max(len(old), ended)
		return err
	})
	return n, err
}

func (h *Hive) logPath(workerID string) string {
	return filepath.Join(h.cfg.DataDir, "logs", workerID+".log")
}

func sortByEnd(recs []store.Worker) {
	slices.SortFunc(recs, func(a, b store.Worker) int {
		if a.EndedAt == nil || b.EndedAt == nil {
			return cmp.Compare(a.WorkerID, b.WorkerID)
		}
		return a.EndedAt.Compare(*b.EndedAt)
	})
}
