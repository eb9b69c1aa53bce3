package hive

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"rbeehive/store"
)

// Dead workers whose records are kept, whatever their age.
const (
	deadAtLeast = 50
	deadAtMost  = 1000
)

// enlist makes a worker known.
func (h *Hive) enlist(w *worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.workers[w.id()] = w
	if name := w.record().Name; name != "" {
		h.names[name] = w
	}
}

// retire moves a worker that has ended to the dead. A worker that never got
// past its gate was not enlisted, and is only added to the dead. There it may
// have been already, if it was to be started again.
func (h *Hive) retire(w *worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.workers, w.id())
	if name := w.record().Name; h.names[name] == w {
		delete(h.names, name)
	}
	h.dead = slices.DeleteFunc(h.dead, func(rec store.Worker) bool { return rec.WorkerID == w.id() })
	h.dead = append(h.dead, w.record())
}

// claimName reserves a worker name while a spawn goes on.
func (h *Hive) claimName(name, jobID string) error {
	if name == "" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.claimed[name]; other != "" {
		return fail(CodeNameInUse, "a worker named %q is being started by %s", name, other)
	}
	if w := h.names[name]; w != nil {
		return fail(CodeNameInUse, "worker %s has the name %q; stop it first, or choose another name", w.id(), name)
	}
	h.claimed[name] = jobID
	return nil
}

func (h *Hive) unclaimName(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.claimed, name)
}

// liveWorker finds a live worker by id or name; nil if there is none.
func (h *Hive) liveWorker(ref string) *worker {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.workers[ref]; w != nil {
		return w
	}
	return h.names[ref]
}

// workerByPID finds a live worker by the PID of its main process.
func (h *Hive) workerByPID(pid int) *worker {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.workers {
		if rec := w.record(); rec.Identity != nil && rec.Identity.PID == pid {
			return w
		}
	}
	return nil
}

// live returns the records of all live workers, by port.
func (h *Hive) live() []store.Worker {
	h.mu.Lock()
	recs := make([]store.Worker, 0, len(h.workers))
	for _, w := range h.workers {
		recs = append(recs, w.record())
	}
	h.mu.Unlock()
	slices.SortFunc(recs, byPort)
	return recs
}

func byPort(a, b store.Worker) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), a.StartedAt.Compare(b.StartedAt))
}

// Workers returns all live workers and the dead ones that are still kept, by port.
func (h *Hive) Workers() []store.Worker {
	recs := h.live()
	h.mu.Lock()
	recs = append(recs, h.dead...)
	h.mu.Unlock()
	slices.SortFunc(recs, byPort)
	return recs
}

// Worker returns a worker by id or name: the live one of that name, else the
// last that had it. ErrNotFound if there is none.
func (h *Hive) Worker(ref string) (store.Worker, error) {
	if w := h.liveWorker(ref); w != nil {
		return w.record(), nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, rec := range slices.Backward(h.dead) {
		if rec.WorkerID == ref || (ref != "" && rec.Name == ref) {
			return rec, nil
		}
	}
	return store.Worker{}, fmt.Errorf("worker %q: %w", clip(ref), ErrNotFound)
}

// buryable returns the dead workers that need not be kept any longer, oldest first.
func (h *Hive) buryable(now time.Time) (list []store.Worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := 0; n < len(h.dead)-deadAtLeast; n++ {
		rec := h.dead[n]
		old := rec.EndedAt != nil && now.Sub(*rec.EndedAt) > h.settings().WorkersKeep
		if !old && len(h.dead)-n <= deadAtMost {
			break
		}
		if !h.saysStopped(n) {
			list = append(list, rec)
		}
	}
	return list
}

// saysStopped reports whether the n-th of the dead is what tells that an autostart
// entry was stopped on request and stays so. h.mu is held.
func (h *Hive) saysStopped(n int) bool {
	rec := h.dead[n]
	typ, ok := h.types().Type(rec.Type)
	if !ok || !typ.Autostart || rec.Desired != store.DesiredStopped {
		return false
	}
	return !slices.ContainsFunc(h.dead[n+1:], func(later store.Worker) bool { return later.Type == rec.Type })
}

// forget takes a dead worker out of memory.
func (h *Hive) forget(workerID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = slices.DeleteFunc(h.dead, func(rec store.Worker) bool { return rec.WorkerID == workerID })
}
