package jobs

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// How many answered queries stay readable, and how many bytes they have together: 1,024
// lists of 200 workers would be 34 MB, and a request may have 1 MiB. rbee's page polls
// every 2 s and reads each answer at once.
const (
	maxQueries    = 1024
	maxQueryBytes = 4 << 20
	// minQueries stay however large they are, so that several who poll a large hive at the
	// same time can all read what they have asked for.
	minQueries = 8
)

// queries holds the jobs of operations that only look. They are answered from memory and
// never written to the file.
type queries struct {
	mu    sync.Mutex // nothing else is locked while it is held
	jobs  map[string]query
	order []string // job ids, oldest first
	bytes int      // of all
}

type query struct {
	rec    store.Job
	events []store.Event // one of them has the very bytes of the record's result
}

func (q query) size() int { return len(q.rec.Request) + len(q.rec.Result) }

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
		v.jobs = map[string]query{}
	}
	q := query{rec, events}
	v.jobs[rec.JobID] = q
	v.order = append(v.order, rec.JobID)
	v.bytes += q.size()
	v.forgetSurplus()
	return rec
}

// forgetSurplus bounds what polling clients cost. v.mu is held.
func (v *queries) forgetSurplus() {
	for len(v.order) > maxQueries || v.bytes > maxQueryBytes && len(v.order) > minQueries {
		oldest := v.order[0]
		v.bytes -= v.jobs[oldest].size()
		delete(v.jobs, oldest)
		v.order = v.order[1:]
	}
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
