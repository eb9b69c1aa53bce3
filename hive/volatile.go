package hive

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"rbeehive/store"
)

// volatileKept is how many answered listing jobs stay readable. rbee's page
// polls every 2 s and reads each answer at once.
const volatileKept = 1024

// volatile holds the jobs of listing operations. They are answered from
// memory and never written to the file.
type volatile struct {
	mu    sync.Mutex
	jobs  map[string]volatileJob
	order []string // ring of job ids
	next  int
}

type volatileJob struct {
	rec    store.Job
	events []store.Event
}

// answer is the outcome of a listing operation.
type answer struct {
	result any
	err    *failure
}

// answer carries out an operation that only looks. ok is false for all others. It
// blocks while programs are asked for their versions (Types); ctx ends that.
func (h *Hive) answer(ctx context.Context, op Operation) (a answer, ok bool) {
	switch op := op.(type) {
	case ProcessList:
		procs := []process{}
		for _, w := range h.live() {
			procs = append(procs, processOf(w))
		}
		return answer{result: procs}, true
	case ProcessGet:
		w := h.workerByPID(op.PID)
		if w == nil {
			return answer{err: fail(CodeNotFound, "no worker of this hive has PID %d", op.PID)}, true
		}
		return answer{result: processOf(w.record())}, true
	case CatalogList:
		return answer{result: h.listCatalog(ctx)}, true
	case CatalogGet:
		t, f := h.getCatalog(ctx, op.WorkerID)
		return answer{result: t, err: f}, true
	case InstalledList:
		return answer{result: h.listInstalled(ctx)}, true
	case InstalledGet:
		p, f := h.getInstalled(ctx, op.WorkerID)
		return answer{result: p, err: f}, true
	case ModelList:
		list, f := h.listModels()
		return answer{result: list, err: f}, true
	case ModelGet:
		m, f := h.getModel(op.ID)
		return answer{result: m, err: f}, true
	}
	return answer{}, false
}

// add keeps an answered job and returns its record.
func (v *volatile) add(rec store.Job, a answer) store.Job {
	now := time.Now().UTC()
	rec.State, rec.StartedAt, rec.FinishedAt = store.JobSucceeded, &now, &now
	events := []store.Event{}
	event := func(typ store.EventType, message string, data any) {
		raw, err := json.Marshal(data)
		if err != nil {
			raw = nil // data is made of plain structs above; they always encode
		}
		events = append(events, store.Event{JobSeq: uint64(len(events) + 1), JobID: rec.JobID, Type: typ, At: now, Message: message, Data: raw})
		if typ == store.EventResult {
			rec.Result = raw
		}
	}
	message := rec.Operation + " succeeded"
	var jobErr *store.JobError
	if a.err != nil {
		jobErr = &a.err.JobError
		rec.State, rec.Error = store.JobFailed, jobErr
		message = rec.Operation + " failed: " + jobErr.Code + ": " + jobErr.Message
	} else {
		event(store.EventResult, rec.Operation+" done", a.result)
	}
	event(store.EventEnd, message, map[string]any{"state": rec.State, "error": jobErr})

	v.mu.Lock()
	defer v.mu.Unlock()
	if v.jobs == nil {
		v.jobs, v.order = map[string]volatileJob{}, make([]string, volatileKept)
	}
	delete(v.jobs, v.order[v.next])
	v.order[v.next] = rec.JobID
	v.next = (v.next + 1) % volatileKept
	v.jobs[rec.JobID] = volatileJob{rec, events}
	return rec
}

func (v *volatile) job(id string) (store.Job, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	j, ok := v.jobs[id]
	return j.rec, ok
}

func (h *Hive) volatileEvents(id string) ([]store.Event, bool) {
	h.volatile.mu.Lock()
	defer h.volatile.mu.Unlock()
	j, ok := h.volatile.jobs[id]
	return j.events, ok
}
