package jobs

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// maxQueries is how many answered queries stay readable. rbee's page polls every 2 s and
// reads each answer at once.
const maxQueries = 1024

// queries holds the jobs of operations that only look. They are answered from memory and
// never written to the file.
type queries struct {
	mu    sync.Mutex // nothing else is locked while it is held
	jobs  map[string]query
	order []string // ring of job ids
	next  int
}

type query struct {
	rec    store.Job
	events []store.Event
}

// add keeps an answered query and returns the record of its job.
func (v *queries) add(rec store.Job, result any, err error) store.Job {
	now := time.Now().UTC()
	rec.State, rec.StartedAt, rec.FinishedAt = store.JobSucceeded, &now, &now
	events := []store.Event{}
	event := func(typ store.EventType, message string, data any) {
		raw, err := json.Marshal(data)
		if err != nil {
			raw = nil // results are plain structs; they always encode
		}
		events = append(events, store.Event{JobSeq: uint64(len(events) + 1), JobID: rec.JobID, Type: typ, At: now, Message: message, Data: raw})
		if typ == store.EventResult {
			rec.Result = raw
		}
	}
	message := rec.Operation + " succeeded"
	if err != nil {
		f, ok := errors.AsType[*errdefs.Failure](err)
		if !ok {
			f = errdefs.Fail(errdefs.CodeInternal, "%v", err)
		}
		rec.State, rec.Error = store.JobFailed, &f.JobError
		message = rec.Operation + " failed: " + f.Code + ": " + f.Message
	} else {
		event(store.EventResult, rec.Operation+" done", result)
	}
	event(store.EventEnd, message, map[string]any{"state": rec.State, "error": rec.Error})

	// Not held while the result is encoded: all polls would wait for one long list.
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.jobs == nil {
		v.jobs, v.order = map[string]query{}, make([]string, maxQueries)
	}
	// The ring bounds what polling clients cost.
	delete(v.jobs, v.order[v.next])
	v.order[v.next] = rec.JobID
	v.next = (v.next + 1) % maxQueries
	v.jobs[rec.JobID] = query{rec, events}
	return rec
}

func (v *queries) job(id string) (store.Job, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	j, ok := v.jobs[id]
	return j.rec, ok
}

func (v *queries) events(id string) ([]store.Event, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	j, ok := v.jobs[id]
	return j.events, ok
}
