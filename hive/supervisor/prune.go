package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/store"
)

// Ended workers whose records are kept, whatever their age.
const (
	minEnded = 50
	maxEnded = 1000
)

// Prune removes the records and logs of ended workers that are older than keep, but for
// the last ones. It reports whether pruning can go on.
func (s *Supervisor) Prune(ctx context.Context, keep time.Duration) bool {
	for _, rec := range s.registry.prunable(time.Now(), keep, s.catalog()) {
		if ctx.Err() != nil {
			return false
		}
		err := s.remove(rec, s.journal.CommitBestEffort, func(*journal.Batch) error { return nil })
		if err == nil || errors.Is(err, errdefs.ErrConflict) || errors.Is(err, errdefs.ErrNotFound) {
			continue // what stays is looked at again
		}
		s.journal.LogUnlessClosing(err, "remove an ended worker's record", rec.WorkerID)
		return false
	}
	return true
}

// RemoveWorker removes the record and the log of an ended worker, given by id or name, on request
// of who. The errors wrap errdefs.ErrNotFound if there is none; errdefs.ErrConflict if it
// lives, if what is left of it can be known by its log only, or if it is why an autostart
// entry stays stopped; else they are those of journal.CommitReserved.
func (s *Supervisor) RemoveWorker(ctx context.Context, ref, who string) (store.Worker, error) {
	rec, err := s.Worker(ref)
	switch {
	case err != nil:
		return rec, err
	case !rec.State.Ended():
		return rec, fmt.Errorf("%w: worker %s is %s; only one that has ended can be removed: stop it first", errdefs.ErrConflict, rec.WorkerID, lifecycle.PublicState(rec.State))
	case s.registry.keepsStopped(rec, s.catalog()):
		return rec, fmt.Errorf("%w: that worker %s was stopped is why the autostart entry %q stays stopped; to remove it, take autostart out of the entry and reload", errdefs.ErrConflict, rec.WorkerID, rec.Type)
	}
	commit := func(fn func(*journal.Batch) error) error { return s.journal.CommitReserved(ctx, fn) }
	return rec, s.remove(rec, commit, func(b *journal.Batch) error {
		// Not one of the worker's: those go with it.
		return b.Event(store.EventAudit, "", "", fmt.Sprintf("the record and the log of %s were removed by %s", rec.WorkerID, who),
			map[string]any{"worker_id": rec.WorkerID, "removed": true})
	})
}

// remove removes an ended worker's record, with what more is to be in the same transaction,
// and its log. While its port is quarantined they stay: the log is a proof by which what is
// left of it can be known.
func (s *Supervisor) remove(rec store.Worker, commit func(func(*journal.Batch) error) error, more func(*journal.Batch) error) error {
	release, err := s.registry.take(rec, "removed")
	if err != nil {
		return err
	}
	defer release()
	err = commit(func(b *journal.Batch) error {
		lease, err := b.Lease(rec.Port)
		// Still leased although the worker has ended: quarantined.
		if err == nil && lease.LeaseID == rec.LeaseID {
			return fmt.Errorf("%w: port %d of worker %s is quarantined: %s", errdefs.ErrConflict, rec.Port, rec.WorkerID, lease.Reason)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return cmp.Or(more(b), b.DeleteWorker(rec.WorkerID))
	})
	if err == nil {
		// The log goes last: if hive is killed before, a log without a worker is left, which pruning removes.
		s.registry.forget(rec.WorkerID)
		s.logs.Remove(rec.WorkerID)
	}
	return err
}

// prunable returns the ended workers that need not be kept any longer, oldest first.
func (r *registry) prunable(now time.Time, keep time.Duration, types *catalog.Catalog) (list []store.Worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := 0; n < len(r.ended)-minEnded; n++ {
		rec := r.ended[n]
		old := rec.EndedAt != nil && now.Sub(*rec.EndedAt) > keep
		// Not the end of the search: one that ended while the clock was ahead may be before older ones.
		if (old || len(r.ended)-n > maxEnded) && !r.saysStopped(n, types) {
			list = append(list, rec)
		}
	}
	return list
}

// saysStopped reports whether the n-th of the ended ones is what tells that an autostart
// entry was stopped on request and stays so. r.mu is held.
func (r *registry) saysStopped(n int, types *catalog.Catalog) bool {
	rec := r.ended[n]
	typ, ok := types.Type(rec.Type)
	if !ok || !typ.Autostart || rec.Desired != store.DesiredStopped {
		return false
	}
	// Only the last of a type says whether the entry is to stay stopped.
	return !slices.ContainsFunc(r.ended[n+1:], func(later store.Worker) bool { return later.Type == rec.Type })
}

// keepsStopped is saysStopped for the record of an ended worker.
func (r *registry) keepsStopped(rec store.Worker, types *catalog.Catalog) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := slices.IndexFunc(r.ended, func(e store.Worker) bool { return e.WorkerID == rec.WorkerID })
	return n >= 0 && r.saysStopped(n, types)
}
