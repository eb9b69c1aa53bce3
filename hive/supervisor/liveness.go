package supervisor

import (
	"time"

	"rbeehive/hive/probe"
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
	w.missed = 0
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

// checkLiveness probes once whether the worker still serves. After live.failures misses in
// a row the supervisor takes over: it probes again, and shows or restarts the worker. What
// cannot be seen is no miss.
func (w *worker) checkLiveness() {
	rec := w.record()
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
	// Else the supervisor probes at short intervals until the worker serves.
	if !over {
		w.setLivenessTimer(rec.Spec.Live.Interval)
	}
	w.mu.Unlock()
	if over {
		w.requestRecheck()
	}
}
