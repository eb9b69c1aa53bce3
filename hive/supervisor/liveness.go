package supervisor

import (
	"context"
	"time"

	"rbeehive/hive/probe"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// armLiveness arms the next probe of a worker that is ready, if its type asks for such
// probes. An idle worker has no goroutine for them, only a timer.
func (w *worker) armLiveness() {
	live := w.record().Spec.Live
	if live.Interval <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed, w.notLive = 0, nil
	w.setLivenessTimer(live.Interval)
}

// setLivenessTimer sets the timer; w.mu is held.
func (w *worker) setLivenessTimer(interval time.Duration) {
	if w.liveness != nil {
		w.liveness.Stop()
	}
	// By run.Go: Close waits for a probe under way, and none begins after it.
	w.liveness = time.AfterFunc(interval, func() { w.s.run.Go(w.checkLiveness) })
}

// missedLive is what the last of too many missed probes of a worker has seen.
type missedLive struct {
	proc *proc.Process // of which that is true
	why  string
}

// checkLiveness probes once whether the worker still serves. After live.failures misses in
// a row the supervisor takes over, and shows or restarts the worker. What cannot be seen is
// no miss.
func (w *worker) checkLiveness() {
	rec, p, begun := w.record(), w.process(), time.Now()
	// In any other state a supervisor is at work, which arms the timer when the worker serves again.
	if rec.State != store.WorkerReady || w.s.limits.probes.Acquire(w.s.run.Context(), 1) != nil {
		return
	}
	defer w.s.limits.probes.Release(1)
	r, err := w.probe(w.s.run.Context(), time.Now(), false)
	// The probe was cut off: that is no miss.
	if w.s.run.Closing() {
		return
	}
	missed := err == nil && r.Listener != probe.Unclear && !r.Serves()
	w.mu.Lock()
	if missed {
		w.missed++
	} else {
		w.missed = 0
	}
	over := w.missed >= rec.Spec.Live.Failures
	if over {
		w.notLive = &missedLive{p, r.Why(rec)}
	} else {
		// From the beginning of this one: waiting for an answer must not make the next one late.
		w.setLivenessTimer(max(0, rec.Spec.Live.Interval-time.Since(begun)))
	}
	w.mu.Unlock()
	if over {
		w.requestRecheck()
	}
}

// applyLiveness shows the worker as unhealthy, or starts it again, if it has missed too
// many probes of its liveness: these were enough, and no others are waited for. Only the
// supervisor calls it. over and again are as for apply.
func (w *worker) applyLiveness(ctx context.Context) (over, again bool) {
	w.mu.Lock()
	m := w.notLive
	w.notLive = nil
	w.mu.Unlock()
	// It may have been started again meanwhile; and of what may be somebody else's nothing is said.
	if m == nil || m.proc != w.process() || w.record().ReadyAt == nil || w.fromCopiedState.Load() {
		return false, false
	}
	return w.showUnhealthy(ctx, m.why, missedProbes)
}
