package jobs

import (
	"context"
	"errors"
	"time"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// joinTime is how long a job that is recorded with its first effect may take to come to
// that: several times what a process takes to be made. After it the job is recorded alone.
const joinTime = 5 * time.Millisecond

// isAccepted reports whether the job is durable.
func (j *Job) isAccepted() bool {
	select {
	case <-j.accepted:
		return true
	default:
		return false
	}
}

// Accept implements operation.Job.
func (j *Job) Accept() error {
	// Not with a caller's context: the job is under way.
	return j.accept(j.queue.run.Context(), nil)
}

// accept is Accept; ctx counts as for journal.Commit. After an error it calls failed, if that
// is not nil, before another accept can be tried.
func (j *Job) accept(ctx context.Context, failed func(error)) error {
	// One at a time: a full disk can refuse one commit and take the next, and a job whose
	// goroutine has given it up must not be recorded by another.
	j.accepting.Lock()
	defer j.accepting.Unlock()
	if j.isAccepted() {
		return nil
	}
	if err := j.refusal(); err != nil {
		return err
	}
	commit := j.queue.journal.Commit
	if operation.Of(j.op).UsesReserve {
		commit = j.queue.journal.CommitReserved // a full disk does not refuse what helps against it
	}
	err := commit(ctx, j.recordAccepted)
	if err != nil && failed != nil {
		failed(err)
	}
	return err
}

// recordAccepted writes the job as it was submitted, if it is not in the file.
func (j *Job) recordAccepted(b *journal.Batch) error {
	if j.isAccepted() {
		return nil
	}
	// Whoever has written it: the first to return from a commit goes on, and may be done with
	// the job before the other gets to say so.
	b.OnCommit(j.setAccepted)
	// Accept and the first effect can be in one transaction.
	if _, err := b.Job(j.ID()); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	rec := j.Record()
	rec.State, rec.StartedAt, rec.WorkerID = store.JobQueued, nil, ""
	put := b.PutJob
	if rec.Key != "" {
		// Key and job together: else a request that is repeated after a crash could be a second job.
		put = func(rec store.Job) error { return b.PutKeyedJob(rec, j.digest) }
	}
	if err := put(rec); err != nil {
		return err
	}
	return b.Event(store.EventState, rec.JobID, "", rec.Operation+" queued by "+access.Name(rec.RequestedBy),
		map[string]any{"job": store.JobQueued, "requested_by": rec.RequestedBy})
}

// setAccepted notes that the job is durable.
func (j *Job) setAccepted() {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Two commits can both have written it: the second found it there.
	if !j.isAccepted() {
		j.queue.kept.Add(1)
		close(j.accepted)
	}
}

// settled blocks until the job is durable, or will not be.
func (j *Job) settled() {
	select {
	case <-j.accepted:
	case <-j.done:
	}
}

// awaitAccepted blocks until a job that was begun is durable. The error is why it is not,
// and ctx's: then it may become so.
func (j *Job) awaitAccepted(ctx context.Context) error {
	timer := time.NewTimer(j.queue.joinTime)
	defer timer.Stop()
	select {
	case <-j.accepted:
		return nil
	case <-j.done:
	// Beside this: the disk may hang for longer than the caller waits. (Once hive closes
	// nothing is begun here, and done is closed soon.)
	case <-timer.C:
		j.queue.run.Go(j.acceptOrRefuse)
	case <-ctx.Done():
		j.queue.run.Go(j.acceptOrRefuse)
	}
	select {
	case <-j.accepted:
		return nil
	case <-j.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if j.isAccepted() {
		return nil // both at once
	}
	// What could not be recorded because hive closes has another word of its own.
	if err := j.refusal(); err != nil && !j.queue.run.Closing() {
		return err
	}
	return errdefs.ErrClosed
}

// acceptOrRefuse records a job that takes long to come to its first effect. If that cannot
// be done the job is given up, unless it is past that already: a stop that waits for space
// goes on waiting.
func (j *Job) acceptOrRefuse() {
	_ = j.accept(j.queue.run.Context(), func(err error) { // who waits is told by refused
		j.mu.Lock()
		defer j.mu.Unlock()
		if !j.final && !j.isAccepted() {
			j.refused = err
			j.cancel(err)
		}
	})
}

// acceptToEnd records a job that is over, if it is not recorded. If that cannot be done it is
// refused for good.
func (j *Job) acceptToEnd() error { return j.accept(j.queue.run.Context(), j.refuse) }

// refuse notes why a job is not accepted, if it is not.
func (j *Job) refuse(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refused == nil {
		j.refused = err
	}
}

func (j *Job) refusal() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refused
}
