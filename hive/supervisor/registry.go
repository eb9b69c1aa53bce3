package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// registry is all workers that are known: the live ones, those that have ended and are
// still kept, and the names and records of those that are just being started.
type registry struct {
	mu      lock.Ranked[lock.Registry]
	workers map[string]*worker       // the live ones, by id
	names   map[string]*worker       // of those, the ones that have a name
	ended   []store.Worker           // oldest first
	claimed map[string]string        // names of spawns under way -> job id
	taken   map[string]string        // ended workers that are being started again or removed -> by whom
	pending map[string]pendingWorker // by lease id
	waiting map[string]string        // jobs whose start waits for a port -> for which, and who has it

	changes atomic.Uint64          // of what listing shows
	listed  atomic.Pointer[listed] // the last listing; nil: none yet
}

// listed is all workers as they were when there had been so many changes.
type listed struct {
	changes uint64
	workers []store.Worker
}

// pendingWorker is a worker that is recorded, so that events name it, and whose program
// is about to run: only then it is among the live ones.
type pendingWorker struct {
	rec  store.Worker
	over chan struct{}
}

func newRegistry() *registry {
	return &registry{
		workers: map[string]*worker{}, names: map[string]*worker{},
		claimed: map[string]string{}, taken: map[string]string{}, pending: map[string]pendingWorker{}, waiting: map[string]string{},
	}
}

// add makes a live worker known. It may be among the ended ones, if it was started again.
func (r *registry) add(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changes.Add(1)
	r.workers[w.id()] = w
	if name := w.record().Name; name != "" {
		r.names[name] = w
	}
}

// markEnded moves a worker to the ended ones. A worker that never got past its gate was
// not added, and is only among these. There it may have been already, if it was to be
// started again. Its name is free then, unless the job that has started it is to try
// another port: that job may come to see the end after a later one that wants the name.
func (r *registry) markEnded(w *worker, nextPort bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changes.Add(1)
	delete(r.workers, w.id())
	// One that never got past its gate was not added: the name may be another's.
	if name := w.record().Name; r.names[name] == w {
		delete(r.names, name)
		// While it had the name nobody else could claim that.
		if !nextPort {
			delete(r.claimed, name)
		}
	}
	r.ended = slices.DeleteFunc(r.ended, func(rec store.Worker) bool { return rec.WorkerID == w.id() })
	r.ended = append(r.ended, w.record())
}

// forget takes an ended worker out of memory.
func (r *registry) forget(workerID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changes.Add(1)
	r.ended = slices.DeleteFunc(r.ended, func(rec store.Worker) bool { return rec.WorkerID == workerID })
}

// take reserves an ended worker for a new start or for its removal, which would take the
// record and the log of what runs by then. rec is what the caller has decided by: if the
// worker has run since, that is a conflict. by says what it is for, in words. The errors
// wrap errdefs.ErrNotFound or errdefs.ErrConflict.
func (r *registry) take(rec store.Worker, by string) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other, ok := r.taken[rec.WorkerID]; ok {
		return nil, fmt.Errorf("%w: worker %s is being %s", errdefs.ErrConflict, rec.WorkerID, other)
	}
	n := slices.IndexFunc(r.ended, func(e store.Worker) bool { return e.WorkerID == rec.WorkerID })
	if n < 0 {
		return nil, fmt.Errorf("worker %s: %w", rec.WorkerID, errdefs.ErrNotFound)
	}
	// Each start has a lease of its own.
	if r.ended[n].LeaseID != rec.LeaseID {
		return nil, fmt.Errorf("%w: worker %s has run meanwhile", errdefs.ErrConflict, rec.WorkerID)
	}
	r.taken[rec.WorkerID] = by
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.taken, rec.WorkerID)
	}, nil
}

// addEnded adds records of workers that ended without this hive.
func (r *registry) addEnded(recs []store.Worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changes.Add(1)
	r.ended = append(r.ended, recs...)
}

// claimName reserves a worker name while a spawn goes on.
func (r *registry) claimName(name, jobID string) error {
	if name == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// A claim is released only once its worker is in names, so one of the two always has it. The worker
	// goes first: it can be ready before the job that has started it is over.
	other, w := r.claimed[name], r.names[name]
	if other != "" && (w == nil || w.record().State != store.WorkerReady) {
		return errdefs.Fail(errdefs.CodeNameInUse, "a worker named %q is being started by %s", name, other)
	}
	if w != nil {
		rec := w.record()
		is := lifecycle.PublicState(rec.State)
		if rec.State == store.WorkerReady {
			is += " at " + endpoint.URL(rec)
		}
		return errdefs.Fail(errdefs.CodeNameInUse, "worker %s has the name %q and is %s; stop or restart it, or give another worker another name", rec.WorkerID, name, is)
	}
	r.claimed[name] = jobID
	return nil
}

// releaseName gives up the claim of a job, if that has it still.
func (r *registry) releaseName(name, jobID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed[name] == jobID {
		delete(r.claimed, name)
	}
}

// wait notes what the start of a job waits for; empty: nothing any more.
func (r *registry) wait(jobID, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if what == "" {
		delete(r.waiting, jobID)
		return
	}
	r.waiting[jobID] = what
}

// addPending notes that a worker is about to be recorded, and returns the end of that.
func (r *registry) addPending(rec store.Worker) (over func()) {
	p := pendingWorker{rec, make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[rec.LeaseID] = p
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.pending, rec.LeaseID)
		close(p.over)
	}
}

// AwaitPending blocks until the worker that is meant is among the live ones, if it is
// just being started: who has its id or PID from an event must find it. The error is why
// ctx ended.
func (s *Supervisor) AwaitPending(ctx context.Context, target operation.Target) error {
	var wait []pendingWorker
	s.registry.mu.Lock()
	for _, p := range s.registry.pending {
		if target.Is(p.rec) {
			wait = append(wait, p)
		}
	}
	s.registry.mu.Unlock()
	// Without the lock: over needs it.
	for _, p := range wait {
		select {
		case <-p.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// find returns a live worker by id or name; nil if there is none.
func (r *registry) find(ref string) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.workers[ref]; w != nil {
		return w
	}
	return r.names[ref]
}

// byPID returns the live worker whose main process has a PID; nil if there is none.
func (r *registry) byPID(pid int) *worker {
	return r.first(func(w *worker) bool {
		rec := w.record()
		return rec.Identity != nil && rec.Identity.PID == pid
	})
}

func (r *registry) first(is func(*worker) bool) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		if is(w) {
			return w
		}
	}
	return nil
}

// where returns the live workers for which is holds, in no order.
func (r *registry) where(is func(*worker) bool) (list []*worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range maps.Values(r.workers) {
		if is(w) {
			list = append(list, w)
		}
	}
	return list
}

// stoppable returns the live workers that can be stopped: all whose process is verified, and
// those that have none because they wait for their next start, or are being started again.
func (r *registry) stoppable() []*worker {
	return r.where(func(w *worker) bool { return w.process() != nil || w.record().State != store.WorkerUnverified })
}

// withProcess returns the live workers whose process is verified.
func (r *registry) withProcess() []*worker {
	return r.where(func(w *worker) bool { return w.process() != nil })
}

// live returns the records of all live workers, by port.
func (r *registry) live() []store.Worker {
	r.mu.Lock()
	recs := make([]store.Worker, 0, len(r.workers))
	for _, w := range r.workers {
		recs = append(recs, w.record())
	}
	r.mu.Unlock()
	slices.SortFunc(recs, byPort)
	return recs
}

func byPort(a, b store.Worker) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.WorkerID, b.WorkerID))
}

// all returns the live workers and the ended ones, by port, then by start, then by id. It is
// the same list, which nobody changes, until a worker does.
func (r *registry) all() []store.Worker {
	changes := r.changes.Load() // before the look: what changes meanwhile is looked at again
	if last := r.listed.Load(); last != nil && last.changes == changes {
		return last.workers
	}
	recs := r.live()
	r.mu.Lock()
	recs = append(recs, r.ended...)
	r.mu.Unlock()
	slices.SortFunc(recs, byPort)
	r.listed.Store(&listed{changes, recs})
	return recs
}

func (r *registry) worker(ref string) (store.Worker, error) {
	if w := r.find(ref); w != nil {
		return w.record(), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Newest first: many may have had the name.
	for _, rec := range slices.Backward(r.ended) {
		if rec.WorkerID == ref || (ref != "" && rec.Name == ref) {
			return rec, nil
		}
	}
	return store.Worker{}, fmt.Errorf("worker %q: %w", plain.Short(ref), errdefs.ErrNotFound)
}
