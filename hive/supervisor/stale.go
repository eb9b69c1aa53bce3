package supervisor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"weak"

	"rbeehive/hive/catalog"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/store"
)

// difference is what a worker's type says now against what it was started as.
type difference struct {
	stale bool
	keys  []string // those that have changed; none if the type is no longer configured
}

// comparison is what a worker was compared with. Its type is kept and no other: a catalog
// has the templates of all of them, and each worker may have been compared at another time.
type comparison struct {
	with weak.Pointer[catalog.Catalog]
	typ  *catalog.Type // nil: it was not configured
}

// why says it for a person.
func (d difference) why(typ string) string {
	if len(d.keys) == 0 {
		return fmt.Sprintf("its type %s is no longer configured", typ)
	}
	return fmt.Sprintf("changed in its type %s: %s", typ, strings.Join(d.keys, ", "))
}

// differs compares the worker's process with what the types now say. A worker
// without a process is not stale: its next start is by the types as they are.
func (w *worker) differs(ctx context.Context, now *catalog.Catalog) difference {
	rec, started := w.record(), w.os.Load().startedType
	if w.selfTest {
		return difference{}
	}
	typ, ok := now.Type(rec.Type)
	if !ok {
		return difference{stale: true}
	}
	var keys []string
	switch {
	case rec.State == store.WorkerBackoff:
	case started != nil:
		// Only in memory is there all that it was started with: values of env are never stored.
		keys = started.Changes(typ).Start
	default:
		// Since the last comparison, or since this hive knows the worker.
		old := w.knownType
		if last := w.compared.Load(); last != nil {
			old = last.typ
		}
		keys = w.s.launcher.Changes(ctx, rec, old, typ)
	}
	return difference{stale: len(keys) > 0, keys: keys}
}

// compare finds out whether the worker has become stale, or is not stale any
// more, and records it. Only its supervisor calls it. A worker that was adopted
// is not restarted for what has changed while hive was not running: a start of
// hive leaves workers alone. One that may be somebody else's never is.
func (w *worker) compare() {
	now, before, body := w.s.catalog(), w.compared.Load(), w.os.Load()
	with := weak.Make(now)
	if before != nil && before.with == with {
		return
	}
	rec := w.record()
	d := w.differs(w.s.run.Context(), now)
	if (d.stale != rec.Stale || !slices.Equal(d.keys, rec.Changed)) && !w.recordDifference(rec, d) {
		return // the hive is closing
	}
	typ, ok := now.Type(rec.Type)
	w.compared.Store(&comparison{with, typ})
	if ok && !d.stale && body.startedType == nil && body.proc != nil {
		// A copy: others may be reading the old one.
		same := *body
		same.startedType = typ // as far as can be known: from now on all of it can be compared
		w.os.Store(&same)
	}
	if ok && d.stale && typ.Reload && !w.fromCopiedState.Load() && (before != nil || body.startedType != nil) {
		w.s.restartStale(w)
	}
}

// recordDifference records that a worker is stale, or is not, with an event.
func (w *worker) recordDifference(rec store.Worker, d difference) bool {
	message := rec.WorkerID + " is not stale any more"
	if d.stale {
		message = rec.WorkerID + " is stale: " + d.why(rec.Type)
	}
	rec.Stale, rec.Changed = d.stale, d.keys
	return w.commit(rec, func(b *journal.Batch) error {
		return b.Event(store.EventState, "", rec.WorkerID, message, map[string]any{
			"worker": lifecycle.PublicState(rec.State), "worker_id": rec.WorkerID, "stale": d.stale, "changed": append([]string{}, d.keys...),
		})
	})
}

// review has a supervisor compare the worker with its type, and waits for that. A
// supervisor that is busy (it ends the process, or starts another) is not waited
// for longer than ctx: it compares by itself when it is done.
func (w *worker) review(ctx context.Context) {
	w.mu.Lock()
	w.callers++ // as in deliver
	w.mu.Unlock()
	w.ensureSupervisor(0)
	done := make(chan struct{})
	select {
	case w.reviews <- done: // the supervisor takes the caller off
		select {
		case <-done:
		case <-ctx.Done():
		}
		return
	case <-w.ended:
	case <-ctx.Done():
	}
	w.mu.Lock()
	w.callers--
	w.mu.Unlock()
	w.wake()
}

// reviewed answers a review. Only the supervisor calls it.
func (w *worker) reviewed(done chan struct{}) {
	w.compare()
	w.mu.Lock()
	w.callers--
	w.mu.Unlock()
	close(done)
}

// restartStale restarts a stale worker whose type says so, by a job that anybody can
// see. It does not block; the restarts of a reload come a few at a time.
func (s *Supervisor) restartStale(w *worker) {
	// Beside the supervisor, for which the job waits.
	s.run.Go(func() {
		if s.limits.stale.Acquire(s.run.Context(), 1) != nil {
			return
		}
		defer s.limits.stale.Release(1)
		// It may have waited long for its turn: what was true when it was queued may not be now.
		rec := w.record()
		typ, ok := s.catalog().Type(rec.Type)
		if ok && typ.Reload && rec.Stale && rec.Desired != store.DesiredStopped && s.run.Accepting() {
			s.restartStaleJob(s.run.Context(), rec.WorkerID)
		}
	})
}
