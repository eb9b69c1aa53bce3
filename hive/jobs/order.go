package jobs

import (
	"context"
	"slices"

	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// order keeps the jobs on one worker in the order in which they were submitted. A job
// waits for an earlier one only as long as it must to have its effect after that one's:
// a stop does not wait until the worker that it stops is ready.
type order struct {
	mu   lock.Ranked[lock.Order]
	jobs map[string][]*Job // unfinished, by key, in order
}

// join places j behind the others of its key; empty: it has none.
func (o *order) join(j *Job, key string) {
	if j.orderKey = key; key == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.jobs[key] = append(o.jobs[key], j)
}

func (o *order) leave(j *Job) {
	if j.orderKey == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	others := slices.DeleteFunc(o.jobs[j.orderKey], func(other *Job) bool { return other == j })
	// Clients choose names: keys without jobs must not pile up.
	if o.jobs[j.orderKey] = others; len(others) == 0 {
		delete(o.jobs, j.orderKey)
	}
}

// blocker returns the nearest job before j that j must not overtake, and that has neither
// ended nor had its effect; nil: it is j's turn. The nearest has waited for those before
// it: there may be thousands, and each waits once.
func (o *order) blocker(j *Job) *Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.jobs[j.orderKey]
	for _, other := range slices.Backward(list[:max(0, slices.Index(list, j))]) {
		select {
		case <-other.unblocked(j):
		default:
			return other
		}
	}
	return nil
}

// first returns the first job of j's key; nil if that is j, or it has none.
func (o *order) first(j *Job) *Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	if list := o.jobs[j.orderKey]; len(list) > 0 && list[0] != j {
		return list[0]
	}
	return nil
}

// unblocked returns a channel that is closed when other need not wait for j any more,
// if j does not end before.
func (j *Job) unblocked(other *Job) <-chan struct{} {
	stops, stopping := operation.Of(other.op).Stops, operation.Of(j.op).Stops
	switch {
	case j.Record().State.Ended(): // with what it was for, and its goroutine is about to see that
		return closed
	case stops && stopping:
		return closed // both want the same
	case stopping:
		return j.done // its worker has a name, a port and a lease until the stop is over
	}
	// Any other needs only a worker that can be found.
	return j.effect(0)
}

// orderKey names the worker that an operation is about: by its name, which it has before
// it exists, else by its id. Empty: about none that others could mean.
func (q *Queue) orderKey(op operation.Operation) string {
	key := operation.OrderKey(op)
	if key == "" {
		return ""
	}
	// A worker may be named by id or by name; both must be one key.
	if rec, err := q.workers.Worker(key); err == nil && rec.Name != "" {
		return rec.Name
	}
	return key
}

// awaitTurn blocks until those jobs on the same worker that j must not overtake have had
// their effect, or ended. If that takes a while j's events say what it waits for.
func (q *Queue) awaitTurn(ctx context.Context, j *Job) error {
	for other := q.order.blocker(j); other != nil; other = q.order.blocker(j) {
		if err := j.Accept(); err != nil {
			return err
		}
		// An event does not name what may never have been.
		select {
		case <-other.accepted:
		case <-other.done:
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := q.journal.CommitBestEffort(func(b *journal.Batch) error {
			return b.Event(store.EventState, j.ID(), "", "waits for "+other.op.Tag()+" "+other.ID()+" of the same worker",
				map[string]any{"job": store.JobQueued, "waits_for": other.ID()})
		})
		// Only for people: without the event the job waits all the same.
		q.journal.LogUnlessClosing(err, "record that a job waits", j.ID())
		select {
		case <-other.unblocked(j):
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// AwaitTarget implements operation.Job.
func (j *Job) AwaitTarget(ctx context.Context, found func() bool) error {
	for {
		other := j.queue.order.first(j)
		// Nobody is left who could start it: found has the last word.
		if other == nil {
			found()
			return nil
		}
		// Counted before it is looked for, so that an effect in between is not missed.
		seen := other.effectiveCount()
		if found() {
			return nil
		}
		if err := j.Accept(); err != nil {
			return err
		}
		select {
		case <-other.effect(seen):
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
