package hive

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// worker is a live worker. While anything happens to it, a supervisor goroutine
// attends to it and is the only writer of its state; everybody else reads the
// snapshot. A worker that is ready and left in peace has none, and costs only
// the goroutine in which proc waits for its exit.
type worker struct {
	h    *Hive
	body atomic.Pointer[body]
	snap atomic.Pointer[store.Worker]

	stops   chan stopRequest
	wake    chan struct{}      // capacity 1: the supervisor is to look around
	reviews chan chan struct{} // each asks to compare the worker with its type, and is closed then
	ended   chan struct{}      // closed when it has ended and its record and lease say so
	failure *failure           // why it ended by itself; set before ended is closed

	// inherited: its process was adopted from a file that was copied or restored. It
	// may be somebody else's, so it is ended only on request, and not started again.
	inherited atomic.Bool
	known     *catalog.Catalog                // the types when this hive came to know it
	judged    atomic.Pointer[catalog.Catalog] // the types it was last compared with; nil: not yet

	// Only the supervisor uses these once it is there.
	begun  time.Time // when its present start was; zero if another hive did that
	reason string    // for the metrics: why it waits for a new start

	mu       sync.Mutex
	settled  chan struct{} // closed when its present start is ready or it has ended
	live     *time.Timer   // of the next look at a worker that is ready
	missed   int           // such looks in a row that it failed
	attended bool          // a supervisor is there
	callers  int           // those who wait for the supervisor to take a stop request
	doubted  bool          // somebody has seen it not serving: it is to be looked at again
}

// body is what a worker has of the operating system. A new start gives it another.
type body struct {
	proc *proc.Process // nil while it has none (backoff), or none that could be judged (unverified)
	tree *proc.Tree
	made *catalog.Type // what it was started as; nil if another hive did that
}

// process is nil while the worker has no process, or none that could be judged.
func (w *worker) process() *proc.Process { return w.body.Load().proc }
func (w *worker) tree() *proc.Tree       { return w.body.Load().tree }

// stopRequest asks a supervisor to stop its worker.
type stopRequest struct {
	jobID   string
	reason  string
	restart *restartRequest // it is to be started again then; nil: it is not
	all     bool            // hive ends and stops them all: nobody has asked for this one to stay stopped
}

// newWorker makes the worker of a record. p is nil if it has no process, or one
// that cannot be judged; made is what p was started as, nil if another hive did that.
func (h *Hive) newWorker(rec store.Worker, p *proc.Process, made *catalog.Type) *worker {
	w := &worker{
		h: h, known: h.types(),
		stops: make(chan stopRequest), wake: make(chan struct{}, 1), reviews: make(chan chan struct{}), settled: make(chan struct{}), ended: make(chan struct{}),
	}
	w.embody(rec, p, made)
	w.snap.Store(&rec)
	return w
}

func (w *worker) embody(rec store.Worker, p *proc.Process, made *catalog.Type) {
	w.body.Store(&body{proc: p, tree: w.h.treeOf(rec, p), made: made})
}

func (w *worker) record() store.Worker { return *w.snap.Load() }
func (w *worker) id() string           { return w.snap.Load().WorkerID }

// PublicState is a worker's state as the API names it.
func PublicState(s store.WorkerState) string {
	if s == store.WorkerSpawning || s == store.WorkerRunning {
		return "starting"
	}
	return string(s)
}

// change records a new state with its event, then shows it. It reports whether
// it did; if not, the hive is closing.
func (w *worker) change(message string, mutate func(*store.Worker)) bool {
	rec := w.record()
	mutate(&rec)
	err := w.h.settle(func(b *batch) error {
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		return b.workerEvent(rec, rec.JobID, message)
	})
	if err == nil {
		w.snap.Store(&rec)
	}
	return err == nil
}

// workerEvent appends the event of a worker's new state.
func (b *batch) workerEvent(rec store.Worker, jobID, message string) error {
	return b.event(store.EventState, jobID, rec.WorkerID, message, map[string]any{
		"worker": PublicState(rec.State), "worker_id": rec.WorkerID, "reason": orNull(rec.Reason),
	})
}

// attend starts a supervisor if none is there and the hive is open. The first
// look at a worker that is not at rest is after first. It reports whether one is
// there.
func (w *worker) attend(first time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.attended {
		if w.process() == nil && w.record().State != store.WorkerBackoff {
			return false // it has ended, or cannot be judged
		}
		w.attended = w.h.spawnGoroutine(func() { w.supervise(w.h.ctx, first) })
	}
	return w.attended
}

// follow attends to a worker that has just been started or adopted, and from
// now on whenever its process ends.
func (w *worker) follow(first time.Duration) {
	w.mu.Lock()
	w.doubted = true // also one that was ready when hive was killed is looked at
	w.mu.Unlock()
	if !w.attend(first) {
		w.process().Close() // the hive closes; the process runs on
		return
	}
	w.process().AfterDone(func() { w.attend(0) })
}

// doubt has a worker that was ready looked at again, until it serves: somebody has
// seen that it does not. Does not block.
func (w *worker) doubt() {
	w.mu.Lock()
	w.doubted = true
	w.mu.Unlock()
	w.attend(0)
	w.nudge()
}

// nudge has a supervisor that is there look around: what it waited for may be over.
func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// takeDoubt reports whether the worker is to be looked at again.
func (w *worker) takeDoubt() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	doubted := w.doubted
	w.doubted = false
	return doubted
}

// rest reports whether the supervisor may go: the worker serves, and nobody
// waits for the supervisor.
func (w *worker) rest() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.process().Done():
		return false
	default:
	}
	if w.callers > 0 || w.doubted {
		return false
	}
	w.attended = false
	return true
}

// supervise attends to the worker until it rests, has ended, or the hive closes.
func (w *worker) supervise(ctx context.Context, first time.Duration) {
	for {
		w.compare()
		again := false
		if w.record().State == store.WorkerBackoff {
			again = w.waitOut(ctx)
		} else {
			again = w.attendTo(ctx, first)
		}
		if !again {
			return
		}
		first = firstLook
	}
}

// attendTo attends to one process of the worker. It reports whether there is more
// to attend to: it waits for a new start, or has been started again.
func (w *worker) attendTo(ctx context.Context, first time.Duration) bool {
	now := time.Now()
	f := &follower{w: w, since: now, searched: now}
	defer f.cancel()
	timer := time.NewTimer(first)
	defer timer.Stop()
	looking := w.takeDoubt()
	if !looking {
		timer.Stop() // called for a stop or an exit, not to look
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.process().Done():
			f.cancel()
			return w.died(ctx)
		case req := <-w.stops:
			f.cancel()
			return w.stop(ctx, req)
		case done := <-w.reviews:
			w.reviewed(done)
			if looking {
				continue // with the look that is under way, or due
			}
		case <-w.wake:
			if looking {
				continue
			}
		case <-timer.C:
			f.begin(ctx)
			continue
		case seen := <-f.seen:
			v := f.conclude(seen)
			if over, again := w.act(ctx, v, seen, f.state.looks); over {
				return again
			}
			looking = v != nowReady
		}
		if !looking && w.rest() {
			return false
		}
		if looking = w.takeDoubt() || looking; looking {
			timer.Reset(f.gap)
		}
	}
}

// act carries out a verdict. over: the process has ended; again is then as for
// attendTo.
func (w *worker) act(ctx context.Context, v verdict, s sighting, looks int) (over, again bool) {
	rec := w.record()
	if w.inherited.Load() && v != nowReady {
		v = waitUndecided
	}
	switch {
	case v == nowReady:
		w.becomeReady(s)
		return false, false
	case rec.ReadyAt != nil && v != waitUndecided:
		return w.showUnhealthy(ctx, notReadyBecause(s, rec), looks)
	}
	switch v {
	case waitLoading:
		w.showLoading(notReadyBecause(s, rec))
	case takenByOther:
		w.h.alloc.Avoid(rec.Port, s.holder)
		return true, w.giveUp(ctx, fail(CodeForeignListener, "port %d is held by %s", rec.Port, s.holder))
	case onWrongPort:
		return true, w.giveUp(ctx, fail(CodeWrongPort, "it listens on port %d instead of its port %d: does its command use {{.Port}}?", s.elsewhere, rec.Port))
	case stalledOut:
		return true, w.giveUp(ctx, fail(CodeNotReady, "no progress for %s (ready.stall): %s", rec.Spec.Ready.Stall, notReadyBecause(s, rec)))
	case ranOutOfTime:
		return true, w.giveUp(ctx, fail(CodeNotReady, "not ready after %s (ready.timeout): %s", rec.Spec.Ready.Timeout, notReadyBecause(s, rec)))
	}
	return false, false
}

// showLoading records that a worker listens and does not serve yet.
func (w *worker) showLoading(why string) {
	rec := w.record()
	m, ok := decide(rec.State, evListens, thenFail)
	if ok && m.to != rec.State {
		w.change(rec.WorkerID+" is loading: "+why, func(r *store.Worker) { r.State, r.Reason = m.to, why })
	}
}

// showUnhealthy records that a worker that was ready does not serve now, but not
// for one missed answer. It is looked at until it serves again, unless its
// liveness demands that it is started again; over and again are as for act.
func (w *worker) showUnhealthy(ctx context.Context, why string, looks int) (over, again bool) {
	rec := w.record()
	m, ok := decide(rec.State, evSilent, thenFail)
	if !ok || looks < missedAnswers {
		return false, false
	}
	if m.to != rec.State {
		w.change(rec.WorkerID+" is unhealthy: "+why, func(r *store.Worker) { r.State, r.Reason = m.to, why })
	}
	if rec.Spec.Live.Interval == 0 || !rec.Spec.Live.Restart {
		return false, false
	}
	f := fail(CodeNotReady, "it does not serve any more (live): %s", why)
	f.Log = w.h.logs.LastLines(ctx, rec.WorkerID, rec.Log, logTail)
	w.reason = becauseLiveness
	return true, w.bringDown(ctx, outcome{then: thenRetry, reason: f.Message, jobID: rec.JobID, failure: f, live: true})
}

// missedAnswers is after how many looks in a row a worker that was ready is no
// longer shown as ready.
const missedAnswers = 5

func notReadyBecause(s sighting, rec store.Worker) string {
	switch s.listener {
	case nobody:
		if s.astray != "" {
			return fmt.Sprintf("it listens on %s, not on %s", s.astray, net.JoinHostPort(rec.Spec.Host, strconv.Itoa(int(rec.Port))))
		}
		return fmt.Sprintf("nothing listens on port %d", rec.Port)
	case ours, weaklyOurs:
		return s.answer + fmt.Sprintf(" to %s, expected %d", probed(rec).Ready.Path, rec.Spec.Ready.Status)
	case foreign:
		return fmt.Sprintf("port %d is held by %s", rec.Port, s.holder)
	}
	return fmt.Sprintf("who listens on port %d cannot be seen", rec.Port)
}

func (w *worker) becomeReady(s sighting) {
	rec := w.record()
	m, ok := decide(rec.State, evServes, thenFail)
	if ok && m.to != rec.State {
		message := fmt.Sprintf("%s is ready at %s", rec.WorkerID, URL(rec))
		if rec.ReadyAt != nil {
			message = fmt.Sprintf("%s is ready again at %s", rec.WorkerID, URL(rec))
		}
		if s.listener == weaklyOurs {
			message += " (weak: the system does not show who listens)"
		}
		first := rec.ReadyAt == nil
		if !w.change(message, func(r *store.Worker) {
			r.State, r.Reason = m.to, ""
			if now := time.Now().UTC(); r.ReadyAt == nil {
				r.ReadyAt = &now
			}
		}) {
			return
		}
		if first && !w.begun.IsZero() {
			w.h.metrics.spawned(WaitReady, w.begun)
		}
	}
	w.watchLive()
	w.settle()
}

// whenSettled is closed when the worker is ready or has ended.
func (w *worker) whenSettled() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settled
}

// settle tells those who wait that the worker is ready or has ended. Only the
// supervisor calls it.
func (w *worker) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.settled:
	default:
		close(w.settled)
	}
}

// unsettle makes those who begin to wait now wait for a new start.
func (w *worker) unsettle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.settled:
		w.settled = make(chan struct{})
	default:
	}
	w.doubted = true
}

// follower runs one look at a time beside the supervisor, which must stay free
// to see an exit or a stop.
type follower struct {
	w        *worker
	since    time.Time
	gap      time.Duration
	searched time.Time
	state    following
	seen     chan sighting
	stop     context.CancelFunc
}

func (f *follower) begin(ctx context.Context) {
	ctx, f.stop = context.WithCancel(ctx)
	search := time.Since(f.searched) >= searchEvery
	if search {
		f.searched = time.Now()
	}
	seen := make(chan sighting, 1)
	f.seen = seen
	f.w.h.wg.Go(func() {
		if f.w.h.looks.Acquire(ctx, 1) != nil {
			return
		}
		defer f.w.h.looks.Release(1)
		s, err := f.w.look(ctx, f.since, search)
		if err != nil {
			s.listener = unclear
		}
		seen <- s
	})
}

// conclude returns the verdict and sets the time to the next look. A worker
// that has been ready once is never given up for being slow.
func (f *follower) conclude(s sighting) verdict {
	f.cancel()
	rec := f.w.record()
	ready := rec.Spec.Ready
	if rec.ReadyAt != nil {
		ready.Stall, ready.Timeout = 0, 0
	}
	f.gap = min(max(firstLook, f.gap*3/2), longestGap)
	return f.state.judge(s, ready)
}

func (f *follower) cancel() {
	if f.stop != nil {
		f.stop()
	}
	f.seen, f.stop = nil, nil
}

// progress is a string that changes while the worker gets on: bytes of log and
// CPU time of the whole tree, in tenths of a second.
func (w *worker) progress(ctx context.Context) string {
	size := w.h.logs.Written(w.id(), w.record().Log)
	cpu, err := w.tree().CPUTime(ctx)
	if err != nil {
		return "" // not known this time
	}
	return strconv.FormatInt(size, 10) + "/" + strconv.FormatInt(int64(cpu/(100*time.Millisecond)), 10)
}

// uid is the user of the worker's main process.
func (w *worker) uid() (uint32, bool) {
	id := w.record().Identity
	if id == nil { // it has ended meanwhile
		return 0, false
	}
	fi, err := os.Stat("/proc/" + strconv.Itoa(id.PID))
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if p := w.process(); !ok || p == nil || p.PID() != id.PID || p.Ended() { // it may have been of another with its PID
		return 0, false
	}
	return st.Uid, true
}
