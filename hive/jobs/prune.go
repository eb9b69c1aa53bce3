package jobs

import (
	"context"
	"time"

	"rbeehive/hive/journal"
	"rbeehive/store"
)

// Pruning goes in small steps, so that no transaction grows with what is old.
const (
	pruneStep     = 64
	tombstoneAge  = 7 * 24 * time.Hour
	maxTombstones = 8192 // 7 MB of the file
	// minEndedAge is how long a job stays after its end however many there are: who
	// waits for it reads how it ended, who lost the answer sends it again under its
	// key. One that took long is among the oldest when it ends.
	minEndedAge = 10 * time.Second
	// pruneInterval is between two looks for jobs that have been kept for so long by now.
	pruneInterval = minEndedAge / 4
)

// Prune removes ended jobs, and tombstones and events of what is gone, that are older
// than they need be. One Prune may run at a time.
func (q *Queue) Prune(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := q.pruneOnce()
		if err != nil {
			q.journal.LogUnlessClosing(err, "prune the state file", "")
			return
		}
		if n < pruneStep {
			return
		}
	}
}

// PruneSurplus has prune called, which calls Prune, as often as jobs end that are too many
// to wait for the next round, until the hive closes.
func (q *Queue) PruneSurplus(prune func(context.Context)) {
	for {
		select {
		case <-q.run.Context().Done():
			return
		case <-q.surplus:
			prune(q.run.Context())
		}
		// What is still too many is too young to go: look again in a while.
		if q.surplusCount() < pruneStep {
			continue
		}
		select {
		case <-q.run.Context().Done():
			return
		case <-time.After(pruneInterval):
			q.jobEnded() // the last one that did may have been the last for long
		}
	}
}

// jobEnded has jobs pruned if more than jobs.keep, and a step, that have ended
// have a record.
func (q *Queue) jobEnded() {
	// Not for each job: a commit costs the same, however much it removes.
	if q.surplusCount() < pruneStep {
		return
	}
	select {
	case q.surplus <- struct{}{}:
	default:
	}
}

// count finds out how many jobs have a record.
func (q *Queue) count() error {
	return q.journal.View(func(tx *store.Tx) error {
		n, err := tx.CountJobs()
		q.kept.Store(int64(n))
		return err
	})
}

// surplusCount is how many jobs that have ended more than jobs.keep have a record.
func (q *Queue) surplusCount() int { return int(q.kept.Load()-q.active.Load()) - q.config().Keep }

// pruneOnce removes one batch and returns how many records it held.
func (q *Queue) pruneOnce() (n int, err error) {
	removed := 0
	err = q.journal.CommitBestEffort(func(b *journal.Batch) error {
		old, err := q.oldJobs(b)
		if err != nil {
			return err
		}
		for _, id := range old {
			if err := b.DeleteJob(id); err != nil {
				return err
			}
		}
		ended, err := b.PruneEnded(b.Now().Add(-tombstoneAge), maxTombstones, pruneStep)
		if err != nil {
			return err
		}
		events, err := b.PruneEvents(b.Now().Add(-q.config().Retention), pruneStep) // of no job that is kept
		removed, n = len(old), max(len(old), ended, events)
		return err
	})
	// Only after the commit: one that fails has removed nothing.
	if err == nil {
		q.kept.Add(-int64(removed))
	}
	return n, err
}

// oldJobs returns ended jobs that need not be kept, oldest first, at most a step:
// those that are older than jobs.retention, and those beyond jobs.keep.
func (q *Queue) oldJobs(b *journal.Batch) (old []string, err error) {
	surplus, retention := q.surplusCount(), q.config().Retention
	for job, err := range b.Jobs("", false) {
		if err != nil {
			return nil, err
		}
		// Those beyond jobs.keep need only be old enough for whoever waits for them.
		kept := retention
		if len(old) < surplus {
			kept = minEndedAge
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
