package supervisor

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// worker is a live worker. While anything happens to it, a goroutine supervises it and
// is the only writer of its state; everybody else reads the snapshot. A worker that is
// ready and left in peace has none, and costs only the goroutine in which proc waits for
// its exit.
type worker struct {
	s        *Supervisor
	os       atomic.Pointer[osProcess]
	snapshot atomic.Pointer[store.Worker]

	stops   chan stopRequest
	wakeup  chan struct{}      // capacity 1: what the supervisor waited for may be over
	reviews chan chan struct{} // each asks to compare the worker with its type, and is closed then
	ended   chan struct{}      // closed when it has ended and its record and lease say so
	failure *errdefs.Failure   // why it ended by itself; set before ended is closed

	// fromCopiedState: its process was adopted from a file that was copied or restored. It
	// may be somebody else's, so it is ended only on request, and not started again.
	fromCopiedState atomic.Bool
	selfTest        bool                       // hive_check started it: it is of no type that can change
	knownType       *catalog.Type              // its type when this hive came to know it; nil: there was none
	compared        atomic.Pointer[comparison] // the last one with the types; nil: none yet

	// Only the supervisor uses these once it is there.
	startedAt time.Time // when its present start was begun; zero if another hive did that
	reason    Reason    // for the metrics: why it waits for a new start
	nextPort  bool      // a spawn waits for it, and would try another port
	heldTries int       // new starts in a row that were put off because somebody else had its port

	mu         lock.Ranked[lock.Worker]
	startDone  chan struct{}   // closed when its present start is ready or it has ended
	liveness   *time.Timer     // of the next probe of a worker that is ready
	missed     int             // such probes in a row that it failed
	notLive    *missedLive     // it failed as many as its type allows, and its supervisor has not taken that up yet
	supervised bool            // a supervisor is there
	callers    int             // those who wait for the supervisor to take a request
	recheck    bool            // somebody has seen it not serving: it is to be probed again
	jobs       []operation.Job // those that end when it is ready
}

// newWorker makes the worker of a record. p is nil if it has no process, or one that
// cannot be verified; started is what p was started as, nil if another hive did that.
func (s *Supervisor) newWorker(rec store.Worker, p *proc.Process, started *catalog.Type) *worker {
	known, _ := s.catalog().Type(rec.Type)
	w := &worker{
		s: s, knownType: known,
		// Unbuffered: a request is taken by a supervisor or stays with its sender, and none gets lost between.
		stops: make(chan stopRequest), wakeup: make(chan struct{}, 1), reviews: make(chan chan struct{}),
		startDone: make(chan struct{}), ended: make(chan struct{}),
	}
	w.attach(rec, p, started)
	w.show(rec)
	return w
}

// attach gives the worker the process of its present start; nil: it has none.
func (w *worker) attach(rec store.Worker, p *proc.Process, started *catalog.Type) {
	if p != nil {
		p.MarkMain()
	}
	w.os.Store(&osProcess{proc: p, tree: w.s.launcher.Tree(rec, p), startedType: started})
}

// process is nil while the worker has no process, or none that could be verified.
func (w *worker) process() *proc.Process { return w.os.Load().proc }
func (w *worker) tree() *proc.Tree       { return w.os.Load().tree }
func (w *worker) record() store.Worker   { return *w.snapshot.Load() }
func (w *worker) id() string             { return w.snapshot.Load().WorkerID }

// show makes rec what everybody else sees of the worker.
func (w *worker) show(rec store.Worker) {
	w.snapshot.Store(&rec)
	w.s.registry.changes.Add(1) // after it: a list made before is not taken for one of now
}

// commit records a changed record with whatever event tells of it, then shows it. It
// reports whether it did; if not, the hive is closing.
func (w *worker) commit(rec store.Worker, event func(*journal.Batch) error) bool {
	err := w.s.journal.CommitRequired(func(b *journal.Batch) error {
		// Shown only then: what was shown must still be true after a crash. Before what event
		// has done then: the end of a job that waited for this.
		b.OnCommit(func() { w.show(rec) })
		return errors.Join(b.PutWorker(rec), event(b))
	})
	return err == nil
}

// change gives the worker the state that ev makes of its present one, with an event. It
// does nothing where that is the same state, or cannot happen in it. It reports whether
// the worker is in the state now.
func (w *worker) change(ev lifecycle.Event, message string, also func(*store.Worker)) bool {
	rec := w.record()
	before := rec.State
	if !lifecycle.Transition(&rec, ev, lifecycle.Fail) {
		return false
	}
	// No commit: a worker that loads is probed twice a second, for minutes, and no two
	// answers need be alike. Who looks sees the last one.
	if rec.State == before {
		shown := w.record()
		if also(&rec); rec.Reason != shown.Reason {
			shown.Reason = rec.Reason
			w.show(shown)
		}
		return true
	}
	also(&rec)
	return w.commit(rec, func(b *journal.Batch) error {
		err := workerEvent(b, rec, rec.JobID, message)
		if rec.State != store.WorkerReady {
			return err
		}
		for _, j := range w.waiting() {
			err = errors.Join(err, j.RecordEnd(b, operation.SpawnedOf(rec)))
		}
		return err
	})
}

// endWhenReady has a job end with the commit that shows its worker as ready, if stop is not
// called before.
func (w *worker) endWhenReady(j operation.Job) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, j)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.jobs = slices.DeleteFunc(w.jobs, func(other operation.Job) bool { return other == j })
	}
}

// waiting returns the jobs that end when the worker is ready.
func (w *worker) waiting() []operation.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.jobs)
}

// started returns a channel that is closed when the present start of the worker is ready
// or has ended.
func (w *worker) started() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.startDone
}

// signalStarted tells those who wait that the worker is ready or has ended. Only the
// supervisor calls it.
func (w *worker) signalStarted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A worker can be ready more than once.
	select {
	case <-w.startDone:
	default:
		close(w.startDone)
	}
}

// resetStarted makes those who begin to wait now wait for a new start.
func (w *worker) resetStarted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.startDone:
		w.startDone = make(chan struct{})
	default:
	}
	// So that the supervisor probes the new process from its start.
	w.recheck = true
}
