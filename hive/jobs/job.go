package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// Job is a durable job that has not ended. One goroutine carries it out. It is the
// operation.Job of whoever does that.
type Job struct {
	queue    *Queue
	op       operation.Operation
	orderKey string // see order; set before others can see it
	ctx      context.Context
	cancel   context.CancelCauseFunc
	done     chan struct{} // closed when it has ended, or was not accepted, or when the hive closed before it did

	digest   string        // of its request, if it has a key
	accepted chan struct{} // closed when it is durable; nobody is shown it before

	accepting sync.Mutex // held over the commit that records it alone; nothing else is locked under it but mu

	mu        lock.Ranked[lock.Job]
	rec       store.Job
	final     bool  // it can no longer be cancelled
	ending    bool  // its end is being recorded together with what it was for
	refused   error // why it was not accepted; before accepted is closed, or never is
	effective int   // how often MarkEffective was called
	changed   chan struct{}
}

// Operation is what the job is to do.
func (j *Job) Operation() operation.Operation { return j.op }

// Record implements operation.Job.
func (j *Job) Record() store.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec
}

// ID implements operation.Job.
func (j *Job) ID() string { return j.Record().JobID }

// Begin implements operation.Job.
func (j *Job) Begin(workerID string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rec.State = store.JobRunning
	// Only the first time: a spawn begins again with each port that it tries.
	if j.rec.StartedAt == nil {
		j.rec.StartedAt = &at
	}
	if workerID != "" {
		j.rec.WorkerID = workerID
	}
}

// RecordRunning implements operation.Job.
func (j *Job) RecordRunning(b *journal.Batch) error {
	if err := j.recordAccepted(b); err != nil {
		return err
	}
	// The supervisor may take the request long after the job has been cancelled.
	recorded, err := b.Job(j.ID())
	if errors.Is(err, store.ErrNotFound) || err == nil && recorded.State.Ended() {
		return nil // cancelled meanwhile, perhaps long ago
	}
	if err != nil {
		return err
	}
	j.Begin("", b.Now())
	return b.PutJob(j.Record())
}

// RecordEnd implements operation.Job.
func (j *Job) RecordEnd(b *journal.Batch, result any) error {
	if !j.tryEnd() {
		return nil
	}
	return j.queue.endIn(b, j, store.JobSucceeded, result, nil)
}

// tryEnd makes sure that the job is not cancelled while its end is recorded; false: it was
// cancelled, or has ended.
func (j *Job) tryEnd() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Under the lock that tryCancel takes: exactly one of the two wins. A transaction that is
	// tried again comes here again.
	j.ending = j.ending || !j.rec.State.Ended() && (j.final || j.ctx.Err() == nil)
	return j.ending && !j.rec.State.Ended()
}

// Finalize implements operation.Job.
func (j *Job) Finalize(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Under the lock that tryCancel takes: exactly one of the two wins.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.final = true
	return nil
}

// tryCancel cancels the job, unless its end is being recorded; false: it is too late.
func (j *Job) tryCancel() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Who has asked sees in a moment that it ended first.
	if j.ending {
		return true
	}
	if !j.final {
		j.cancel(errdefs.ErrCancelled)
	}
	return !j.final
}

// Forget implements operation.Job.
func (j *Job) Forget(workerID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rec.WorkerID == workerID {
		j.rec.WorkerID = ""
	}
}

// MarkEffective implements operation.Job.
func (j *Job) MarkEffective() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.effective++
	// More than once: a spawn has its effect again with each port that it tries.
	close(j.changed)
	j.changed = make(chan struct{})
}

// effectiveCount is how often the job has had the effect that others wait for.
func (j *Job) effectiveCount() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.effective
}

// effect returns a channel that is closed once effectiveCount is more than seen.
func (j *Job) effect(seen int) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.effective > seen {
		return closed
	}
	return j.changed
}

// closed is for a wait that is over.
var closed = func() <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()
