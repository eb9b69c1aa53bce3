package supervisor

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/probe"
	"rbeehive/store"
)

// ensureSupervisor starts a supervisor if none is there and the hive is open. The first
// probe of a worker that is to be probed is after first. It reports whether one is there.
func (w *worker) ensureSupervisor(first time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.supervised {
		if w.process() == nil && w.record().State != store.WorkerBackoff {
			return false // it has ended, or cannot be verified
		}
		// false once hive closes: the next one goes on.
		w.supervised = w.s.run.Go(func() { w.supervise(w.s.run.Context(), first) })
	}
	return w.supervised
}

// follow supervises a worker that has just been started or adopted, and from now on
// whenever its process ends.
func (w *worker) follow(first time.Duration) {
	w.mu.Lock()
	w.recheck = true // also one that was ready when hive was killed is probed
	w.mu.Unlock()
	if !w.ensureSupervisor(first) {
		w.process().Close() // the hive closes; the process runs on
		return
	}
	// After the first: an exit in between is seen by the supervisor that is there.
	w.process().AfterDone(func() { w.ensureSupervisor(0) })
}

// requestRecheck has a worker that was ready probed again, until it serves: somebody has
// seen that it does not. Does not block.
func (w *worker) requestRecheck() {
	w.mu.Lock()
	w.recheck = true
	w.mu.Unlock()
	// Either starts a supervisor, or wakes the one that is there.
	w.ensureSupervisor(0)
	w.wake()
}

// takeRecheck reports whether the worker is to be probed again.
func (w *worker) takeRecheck() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	recheck := w.recheck
	w.recheck = false
	return recheck
}

// wake has a supervisor that is there look around: what it waited for may be over.
func (w *worker) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default:
	}
}

// tryIdle reports whether the supervisor may go: the worker serves, and nobody waits for
// the supervisor. After it, who wants something starts another one.
func (w *worker) tryIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Who wants a supervisor takes the same lock: either this sees the request, or the requester sees that
	// there is no supervisor and starts one. The same is true of an exit.
	select {
	case <-w.process().Done():
		return false
	default:
	}
	if w.callers > 0 || w.recheck {
		return false
	}
	w.supervised = false
	return true
}

// supervise looks after the worker until it is idle, has ended, or the hive closes.
func (w *worker) supervise(ctx context.Context, first time.Duration) {
	for {
		w.compare()
		again := false
		if w.record().State == store.WorkerBackoff {
			again = w.waitBackoff(ctx)
		} else {
			again = w.superviseProcess(ctx, first)
		}
		if !again {
			return
		}
		first = probe.FirstInterval
	}
}

// superviseProcess looks after one process of the worker. It reports whether the
// supervisor goes on: the worker waits for a new start, or has been started again.
func (w *worker) superviseProcess(ctx context.Context, first time.Duration) bool {
	// After a start of hive, too: how long it had loaded before is not known.
	now := time.Now()
	p := &prober{w: w, since: now, searched: now}
	defer p.cancel()
	timer := time.NewTimer(first)
	defer timer.Stop()
	probing := w.takeRecheck()
	if !probing {
		timer.Stop() // called for a stop or an exit, not to probe
	}
	for {
		if over, again := w.applyLiveness(ctx); over {
			p.cancel()
			return again
		}
		select {
		case <-ctx.Done():
			return false
		case <-w.process().Done():
			p.cancel()
			return w.handleExit(ctx)
		case req := <-w.stops:
			p.cancel()
			return w.stop(ctx, req)
		case done := <-w.reviews:
			w.reviewed(done)
			if probing {
				continue // with the probe that is under way, or due
			}
		case <-w.wakeup:
			if probing {
				continue
			}
		case <-timer.C:
			p.begin(ctx) // its result comes by p.seen: the supervisor stays free meanwhile
			continue
		// p.seen is nil, which blocks, while no probe is under way.
		case seen := <-p.seen:
			v := p.evaluate(seen)
			if over, again := w.apply(ctx, v, seen, p.tracker.Count); over {
				return again
			}
			probing = v != probe.Ready
		}
		if !probing && w.tryIdle() {
			return false
		}
		// Asked for meanwhile, or the worker does not serve yet: probe again.
		if probing = w.takeRecheck() || probing; probing {
			timer.Reset(p.interval)
		}
	}
}

// apply carries out a verdict. over: the process has ended; again is then as for
// superviseProcess.
func (w *worker) apply(ctx context.Context, v probe.Verdict, r probe.Result, count int) (over, again bool) {
	rec := w.record()
	if w.fromCopiedState.Load() && v != probe.Ready {
		v = probe.Undecided // it may be somebody else's: nothing is ended for being slow
	}
	switch {
	case v == probe.Ready:
		w.becomeReady(r)
		return false, false
	// It has served before, so it is unhealthy, and not given up as if it never started.
	case rec.ReadyAt != nil && v != probe.Undecided:
		return w.showUnhealthy(ctx, r.Why(rec), count)
	}
	switch v {
	case probe.NotListening:
		// Who looks need not wait for a time-out to learn that it never becomes ready like this.
		if why := r.Why(rec); r.Astray != "" && rec.Reason != why {
			rec.Reason = why
			w.commit(rec, func(b *journal.Batch) error { return workerEvent(b, rec, rec.JobID, rec.WorkerID+": "+why) })
		}
	case probe.Loading:
		why := r.Why(rec)
		w.change(lifecycle.Listens, rec.WorkerID+" is loading: "+why, func(rec *store.Worker) { rec.Reason = why })
	case probe.TakenByOther:
		// Else the next try might be given the same port.
		w.s.alloc.Avoid(rec.Port, r.Holder)
		return true, w.giveUp(ctx, errdefs.Fail(errdefs.CodeForeignListener, "port %d is held by %s", rec.Port, r.Holder))
	case probe.OnWrongPort:
		return true, w.giveUp(ctx, errdefs.Fail(errdefs.CodeWrongPort, "it listens on port %d instead of its port %d: does its command use {{.Port}}?", r.WrongOn, rec.Port))
	case probe.Stalled:
		return true, w.giveUp(ctx, errdefs.Fail(errdefs.CodeNotReady, "no progress for %s (ready.stall): %s", rec.Spec.Ready.Stall, r.Why(rec)))
	case probe.TimedOut:
		return true, w.giveUp(ctx, errdefs.Fail(errdefs.CodeNotReady, "not ready after %s (ready.timeout): %s", rec.Spec.Ready.Timeout, r.Why(rec)))
	}
	return false, false
}

// missedProbes is after how many probes in a row a worker that was ready is no longer
// shown as ready.
const missedProbes = 5

// showUnhealthy records that a worker that was ready does not serve now, but not for one
// missed answer. It is probed until it serves again, unless its liveness demands that it
// is started again; over and again are as for apply.
func (w *worker) showUnhealthy(ctx context.Context, why string, count int) (over, again bool) {
	rec := w.record()
	if count < missedProbes {
		return false, false
	}
	// Shown even if it is ended next: who follows the worker sees why.
	shown := w.change(lifecycle.Silent, rec.WorkerID+" is unhealthy: "+why, func(rec *store.Worker) { rec.Reason = why })
	if !shown || rec.Spec.Live.Interval == 0 || !rec.Spec.Live.Restart {
		return false, false
	}
	f := errdefs.Fail(errdefs.CodeNotReady, "it does not serve any more (live): %s", why)
	f.Log = w.s.logs.LastLines(ctx, rec.WorkerID, rec.Log, logs.Started, launch.LogTail)
	w.reason = ReasonLiveness
	return true, w.terminate(ctx, outcome{then: lifecycle.Retry, reason: f.Message, jobID: rec.JobID, failure: f, live: true})
}

func (w *worker) becomeReady(r probe.Result) {
	rec := w.record()
	message := fmt.Sprintf("%s is ready at %s", rec.WorkerID, endpoint.URL(rec))
	if rec.ReadyAt != nil {
		message = fmt.Sprintf("%s is ready again at %s", rec.WorkerID, endpoint.URL(rec))
	}
	if r.Listener == probe.WeaklyOurs {
		message += " (weak: the system does not show who listens)"
	}
	first := rec.ReadyAt == nil
	serves := w.change(lifecycle.Serves, message, func(rec *store.Worker) {
		rec.Reason = ""
		if now := time.Now().UTC(); rec.ReadyAt == nil {
			rec.ReadyAt = &now
		}
	})
	// Not recorded, so not told. (A worker that is being stopped does not become ready either, but has now
	// been probed, for which AwaitFirstProbes waits.)
	if !serves && w.s.journal.Over() {
		return
	}
	// How long a start took that another hive began is not known.
	if first && serves && !w.startedAt.IsZero() {
		w.s.metrics.Spawned(operation.WaitReady, w.startedAt)
	}
	w.armLiveness()
	w.signalStarted()
}

// prober runs one probe at a time beside the supervisor, which must stay free to see an
// exit or a stop.
type prober struct {
	w        *worker
	since    time.Time
	interval time.Duration
	searched time.Time
	tracker  probe.Tracker
	seen     chan probe.Result
	stop     context.CancelFunc
}

func (p *prober) begin(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	// A search walks all of /proc, which is too much for every probe.
	search := time.Since(p.searched) >= probe.SearchInterval
	if search {
		p.searched = time.Now()
	}
	seen := make(chan probe.Result, 1) // a probe whose supervisor has gone on waits for nobody
	p.seen = seen
	p.w.s.run.Go(func() {
		// Bounded: after a start of hive all workers are probed within seconds.
		if p.w.s.limits.probes.Acquire(ctx, 1) != nil {
			return
		}
		defer p.w.s.limits.probes.Release(1)
		r, err := p.w.probe(ctx, p.since, search)
		if err != nil {
			// Nothing was seen, which is no evidence against the worker.
			r.Listener = probe.Unclear
		}
		seen <- r
	})
}

// evaluate returns the verdict and sets the time to the next probe. A worker that has
// been ready once is never given up for being slow.
func (p *prober) evaluate(r probe.Result) probe.Verdict {
	p.cancel()
	rec := p.w.record()
	ready := rec.Spec.Ready
	if rec.ReadyAt != nil {
		ready.Stall, ready.Timeout = 0, 0
	}
	p.interval = probe.Interval(time.Since(p.since))
	return p.tracker.Evaluate(r, ready)
}

func (p *prober) cancel() {
	if p.stop != nil {
		p.stop()
	}
	p.seen, p.stop = nil, nil
}

// probe probes the worker once.
func (w *worker) probe(ctx context.Context, since time.Time, search bool) (probe.Result, error) {
	return w.s.prober.Probe(ctx, probe.Target{Worker: w.record(), Main: w.process(), Tree: w.tree(), Progress: w.progress}, since, search)
}

// progress is a string that changes while the worker gets on: bytes of log and
// CPU time of the whole tree, in tenths of a second.
func (w *worker) progress(ctx context.Context) string {
	rec := w.record()
	// Not the size of the file, which rotation reduces: that would pass for progress.
	size := w.s.logs.Written(rec.WorkerID, rec.Log)
	cpu, err := w.tree().CPUTime(ctx)
	if err != nil {
		return "" // not known this time
	}
	return strconv.FormatInt(size, 10) + "/" + strconv.FormatInt(int64(cpu/(100*time.Millisecond)), 10)
}
