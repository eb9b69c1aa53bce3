package hive

import (
	"time"

	"rbeehive/store"
)

// watchLive arms the next look at a worker that is ready, if its type asks for
// such looks. A worker at rest has no goroutine for them, only a timer.
func (w *worker) watchLive() {
	live := w.record().Spec.Live
	if live.Interval <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed = 0
	w.armLive(live.Interval)
}

// armLive sets the timer; w.mu is held.
func (w *worker) armLive(interval time.Duration) {
	if w.live != nil {
		w.live.Stop()
	}
	w.live = time.AfterFunc(interval, func() { w.h.spawnGoroutine(w.checkLive) })
}

// checkLive looks once whether the worker still serves. After live.failures misses
// in a row the supervisor takes over: it looks again, and shows or restarts the
// worker. What cannot be seen is no miss.
func (w *worker) checkLive() {
	rec := w.record()
	if rec.State != store.WorkerReady || w.h.looks.Acquire(w.h.ctx, 1) != nil {
		return
	}
	defer w.h.looks.Release(1)
	s, err := w.look(w.h.ctx, time.Now(), false)
	if w.h.ctx.Err() != nil {
		return
	}
	missed := err == nil && s.listener != unclear && !s.serves()
	w.mu.Lock()
	if missed {
		w.missed++
	} else {
		w.missed = 0
	}
	over := w.missed >= rec.Spec.Live.Failures
	if !over {
		w.armLive(rec.Spec.Live.Interval)
	}
	w.mu.Unlock()
	if over {
		w.doubt()
	}
}
