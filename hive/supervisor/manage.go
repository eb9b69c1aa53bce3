package supervisor

import (
	"context"
	"slices"
	"sync"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Change is a live worker that other worker types concern.
type Change struct {
	Worker   store.Worker
	Stale    bool   // it is not as its type says
	Restart  bool   // it is stale, and its type says reload: restart
	Why      string // for a person
	Recorded bool   // its record says so already, and nothing is to be done
}

// Changes says what becomes of the live workers with other types, by port: of those that
// have a verified process, or wait for their next start, and are to live. It blocks for the
// file system, launch.PreflightTimeout at most.
func (s *Supervisor) Changes(ctx context.Context, next *catalog.Catalog) (list []Change) {
	workers := slices.DeleteFunc(s.registry.stoppable(), func(w *worker) bool {
		rec := w.record()
		// A change of type restarts none of these.
		return rec.State == store.WorkerUnverified || rec.State.Ended() || rec.Desired == store.DesiredStopped
	})
	slices.SortFunc(workers, func(a, b *worker) int { return byPort(a.record(), b.record()) })
	ctx, cancel := context.WithTimeout(ctx, launch.PreflightTimeout)
	defer cancel()
	for _, w := range workers {
		c := w.changeBy(ctx, next)
		if c.Restart && !c.Recorded {
			// It is asked when it is restarted, too: then it goes on as it is.
			if err := s.launcher.Preflight(ctx, next, c.Worker); err != nil {
				c.Restart = false
				c.Why += "; it is not restarted, because a start would fail: " + err.Error()
			}
		}
		list = append(list, c)
	}
	return list
}

func (w *worker) changeBy(ctx context.Context, next *catalog.Catalog) Change {
	rec := w.record()
	d := w.differs(ctx, next)
	if !d.stale {
		return Change{Worker: rec, Why: "its type is what it was started as", Recorded: !rec.Stale}
	}
	typ, ok := next.Type(rec.Type)
	// One that may be another hive's is shown as stale, and never restarted for that.
	c := Change{Worker: rec, Stale: true, Restart: ok && typ.Reload && !w.fromCopiedState.Load(), Why: d.why(rec.Type)}
	c.Recorded = !c.Restart && rec.Stale && slices.Equal(d.keys, rec.Changed)
	return c
}

// Compare has the supervisors of these workers compare them with their types, and waits
// for that until ctx ends. Supervisors that are busy do it when they are done.
func (s *Supervisor) Compare(ctx context.Context, workerIDs []string) {
	var wg sync.WaitGroup
	for _, id := range workerIDs {
		if w := s.registry.find(id); w != nil {
			wg.Go(func() { w.review(ctx) })
		}
	}
	wg.Wait()
}

// Recheck has a worker probed that was seen not serving. It does not block.
func (s *Supervisor) Recheck(workerID string) {
	if w := s.registry.find(workerID); w != nil {
		w.requestRecheck()
	}
}

// Missing reports whether no worker of a type lives, and the last one was not stopped on
// request: such a one stays stopped until somebody starts it.
func (s *Supervisor) Missing(workerType string) bool {
	if s.registry.first(func(w *worker) bool { return w.record().Type == workerType }) != nil {
		return false
	}
	last, ok := s.registry.lastOf(workerType)
	return !ok || last.Desired != store.DesiredStopped
}

// Process is a live worker with what it has of the operating system.
type Process struct {
	Worker store.Worker
	Tree   *proc.Tree // Main is its main process, which may have ended meanwhile
}

// lastOf returns the worker of a type that ended last, if there is one.
func (r *registry) lastOf(workerType string) (store.Worker, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range slices.Backward(r.ended) {
		if rec.Type == workerType {
			return rec, true
		}
	}
	return store.Worker{}, false
}

// Processes returns the live workers whose process is verified, by port.
func (s *Supervisor) Processes() (list []Process) {
	for _, w := range s.registry.withProcess() {
		// A worker's process may end, and another start, while this looks at it.
		if tree := w.tree(); tree.Main != nil {
			list = append(list, Process{w.record(), tree})
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return byPort(a.Worker, b.Worker) })
	return list
}

// TreeOfLease is all processes by whom a port may still be reached, where no more than
// the lease need be known: its worker has ended, and the record may be gone.
func (s *Supervisor) TreeOfLease(l store.Lease) *proc.Tree {
	rec := store.Worker{WorkerID: l.WorkerID, LeaseID: l.LeaseID, Identity: l.Identity, Cgroup: l.Cgroup, StampUID: l.StampUID}
	if l.Kind == store.LeaseWorker {
		rec.Log = s.logs.Path(l.WorkerID)
		if known, err := s.Worker(l.WorkerID); err == nil && known.WorkerID == l.WorkerID {
			rec.Spec.User = known.Spec.User // of a lease that does not say as whom it was
		}
	}
	return s.launcher.Tree(rec, nil)
}

// LogSources are the logs of all workers that are known, the ended ones in the order of
// their end. In the first start with a copied or restored file, those of workers that were
// adopted may be somebody else's: since is when this hive was started.
func (s *Supervisor) LogSources(since time.Time) (list []logs.Source) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	for _, w := range s.registry.workers {
		rec := w.snapshot.Load()
		// What was started since is this hive's own, whatever file it began with.
		list = append(list, logs.Source{ID: rec.WorkerID, Path: rec.Log, Foreign: s.relocated && rec.StartedAt.Before(since)})
	}
	for _, rec := range s.registry.ended {
		list = append(list, logs.Source{ID: rec.WorkerID, Path: rec.Log, Ended: true})
	}
	return list
}

// Preflight returns what a start of a worker would fail for at once, before it has a port
// or a process. See launch.Launcher.Preflight.
func (s *Supervisor) Preflight(ctx context.Context, op operation.Spawn) error {
	return s.launcher.Preflight(ctx, s.catalog(), store.Worker{
		Name: op.Name, Type: op.Worker, Port: s.anyPort,
		Asked: store.Asked{Model: op.Model, Device: op.Device, Params: op.Params, Port: op.Port},
	})
}

// Waiting says for a person which port the start that a job makes waits for, and who has it.
// Empty: it waits for none.
func (s *Supervisor) Waiting(jobID string) string {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	return s.registry.waiting[jobID]
}
