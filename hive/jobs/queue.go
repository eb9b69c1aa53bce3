package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// Executor carries out what a job is to do, or what a query asks for.
type Executor interface {
	// Execute blocks until the job has had its effect. The error is an *errdefs.Failure, or
	// why ctx or the hive ended; any other is a fault of hive's own.
	Execute(ctx context.Context, j *Job) (result any, err error)
	// Answer answers an operation that only looks. The error is an *errdefs.Failure.
	Answer(ctx context.Context, op operation.Operation) (result any, err error)
	// Decode reads the request of a recorded job again.
	Decode(request []byte) (operation.Operation, error)
}

// Workers finds workers, living or ended, by id or name.
type Workers interface {
	Worker(ref string) (store.Worker, error)
}

// Metrics is told what is counted.
type Metrics interface {
	JobEnded(operation string, state store.JobState)
}

// Options are what a Queue is made from. All are needed.
type Options struct {
	Run      *run.State
	Journal  *journal.Journal
	Executor Executor
	Workers  Workers
	Metrics  Metrics
	Config   func() Config // as it is now
	DataDir  string        // for a message
	Log      *logrus.Logger
}

// Config bounds the jobs. The tags are those of package setting.
type Config struct {
	// Retention is how long an ended job stays at most.
	Retention time.Duration `key:"retention" default:"168h" min:"1m"`
	// Keep is how many jobs that have ended stay, besides those that just have: beyond it
	// the oldest go. A few must stay, for those who wait for a job to read its result.
	Keep int `key:"keep" default:"10000" min:"100"`
	// MaxQueued: unfinished jobs beyond it are refused.
	MaxQueued int `key:"max_queued" default:"10000" min:"1"`
	// MaxQueueAge: a job that waited longer over a restart is expired.
	MaxQueueAge time.Duration `key:"max_queue_age" default:"10m" min:"1s"`
	// StreamWait is the longest life of an rbee stream of a running job.
	StreamWait time.Duration `key:"stream_wait" default:"25s" min:"1s"`
}

// Queue is the jobs of a hive.
type Queue struct {
	run      *run.State
	journal  *journal.Journal
	executor Executor
	workers  Workers
	metrics  Metrics
	config   func() Config
	dataDir  string
	log      *logrus.Logger
	joinTime time.Duration

	order   order
	queries queries
	active  atomic.Int64 // unfinished jobs
	kept    atomic.Int64 // jobs that have a record

	mu   lock.Ranked[lock.Jobs]
	jobs map[string]*Job          // unfinished
	keys map[string]chan struct{} // of requests that are being accepted; closed when that is over

	surplus chan struct{} // holds one token when there are too many ended jobs
}

// New returns the queue of an open journal, which tells how many jobs it holds.
func New(o Options) (*Queue, error) {
	q := &Queue{
		run: o.Run, journal: o.Journal, executor: o.Executor, workers: o.Workers, metrics: o.Metrics, config: o.Config, dataDir: o.DataDir, log: o.Log, joinTime: joinTime,
		order: order{jobs: map[string][]*Job{}}, jobs: map[string]*Job{}, keys: map[string]chan struct{}{}, surplus: make(chan struct{}, 1),
	}
	return q, q.count()
}

// find returns an unfinished job that is durable; nil if there is none.
func (q *Queue) find(id string) *Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.jobs[id]; j != nil && j.isAccepted() {
		return j
	}
	return nil
}

// admit takes one of the places for unfinished jobs.
func (q *Queue) admit() error {
	if !q.run.Accepting() {
		return errdefs.ErrClosed
	}
	// Counted first and taken back: two that come at once cannot both have the last place.
	if most := q.config().MaxQueued; int(q.active.Add(1)) > most {
		q.active.Add(-1)
		return fmt.Errorf("%w: %d jobs are waiting or running (jobs.max_queued)", errdefs.ErrQueueFull, most)
	}
	return nil
}

// newJob makes the job of a record that is admitted and may not be in the file.
func (q *Queue) newJob(rec store.Job, op operation.Operation, digest string) *Job {
	ctx, cancel := context.WithCancelCause(q.run.Context())
	return &Job{
		queue: q, op: op, ctx: ctx, cancel: cancel, rec: rec, digest: digest,
		done: make(chan struct{}), accepted: make(chan struct{}), changed: make(chan struct{}),
	}
}

// start carries out a job in its own goroutine.
func (q *Queue) start(j *Job) {
	ctx, id, op := j.ctx, j.ID(), j.op
	// In the order before it is in the table: whoever finds the job finds it in its place.
	q.order.join(j, q.orderKey(op))
	q.mu.Lock()
	q.jobs[id] = j
	q.mu.Unlock()
	if operation.Of(op).CancelOnDrain && q.run.Draining() { // admitted before Drain, and not in its list
		j.cancel(errdefs.ErrCancelled)
	}
	begun := q.run.Go(func() {
		defer j.cancel(nil)
		defer close(j.done)
		q.carryOut(ctx, j)
		// After its end is recorded: a job that waited for this one relies on that.
		q.order.leave(j)
		q.mu.Lock()
		delete(q.jobs, id)
		q.mu.Unlock()
		q.active.Add(-1)
		// After active: only now it counts as one that could be pruned.
		q.jobEnded()
	})
	// The hive closes: if the job is durable, the next recovery begins it.
	if !begun {
		close(j.done)
	}
}

func (q *Queue) carryOut(ctx context.Context, j *Job) {
	err := q.awaitTurn(ctx, j)
	var result any
	if err == nil {
		result, err = q.executor.Execute(ctx, j)
	}
	if err == nil {
		q.end(j, store.JobSucceeded, result, nil)
		return
	}
	if errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrClosed) {
		j.refuse(err)
		return // unfinished: the next recovery decides what becomes of it
	}
	if q.journal.Over() {
		return // the same
	}
	var f *errdefs.Failure
	// A failure says more, even if the job was cancelled meanwhile, unless it is of that.
	failed := errors.As(err, &f)
	if errors.Is(err, errdefs.ErrCancelled) || !failed && errors.Is(context.Cause(ctx), errdefs.ErrCancelled) {
		q.end(j, store.JobCancelled, nil, &errdefs.Fail(errdefs.CodeCancelled, "cancelled on request").JobError)
		return
	}
	switch {
	case failed:
	case errors.Is(err, store.ErrDiskFull):
		f = errdefs.Fail(errdefs.CodeDiskFull, "the disk is full: nothing new can be recorded; free some space in %s", q.dataDir)
	default:
		q.log.WithError(err).WithField("job", j.ID()).Error("job failed unexpectedly")
		f = errdefs.Fail(errdefs.CodeInternal, "%v", err)
	}
	q.end(j, store.JobFailed, nil, &f.JobError)
}

// end records the job's last state with its result and end events, unless that was recorded
// with what the job was for.
func (q *Queue) end(j *Job, state store.JobState, result any, jobErr *store.JobError) {
	if j.Record().State.Ended() {
		return
	}
	// Not in the same transaction: a job that has had no effect is refused on a full disk.
	if j.acceptToEnd() != nil {
		return
	}
	// Fails only if the hive closes: then the next recovery decides.
	_ = q.journal.CommitRequired(func(b *journal.Batch) error { return q.endIn(b, j, state, result, jobErr) })
}

// endIn writes the job's end, which is shown once it is committed.
func (q *Queue) endIn(b *journal.Batch, j *Job, state store.JobState, result any, jobErr *store.JobError) error {
	// On a copy: until the commit the job reads as running.
	rec := j.Record()
	err := q.endJob(b, &rec, state, result, jobErr)
	b.OnCommit(func() { // last: whoever reads that it has ended finds all the rest
		j.mu.Lock()
		defer j.mu.Unlock()
		j.rec = rec
	})
	return err
}

// endJob writes an ended job and its last events.
func (q *Queue) endJob(b *journal.Batch, rec *store.Job, state store.JobState, result any, jobErr *store.JobError) error {
	now := b.Now()
	rec.State, rec.FinishedAt, rec.Error = state, &now, jobErr
	// It was refused, cancelled or expired in the queue.
	if rec.StartedAt == nil {
		rec.StartedAt = &now
	}
	if result != nil {
		raw, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		rec.Result = raw
		if err := b.Event(store.EventResult, rec.JobID, rec.WorkerID, rec.Operation+" done", rec.Result); err != nil {
			return err
		}
	}
	message := fmt.Sprintf("%s %s", rec.Operation, state)
	if jobErr != nil && state == store.JobFailed {
		for _, line := range jobErr.Log {
			if err := b.Event(store.EventLog, rec.JobID, rec.WorkerID, line, nil); err != nil {
				return err
			}
		}
		message += ": " + jobErr.Code + ": " + jobErr.Message
	}
	// After the events above: of a job whose record says ended, Event takes none but the end.
	if err := b.PutJob(*rec); err != nil {
		return err
	}
	b.OnCommit(func() { q.metrics.JobEnded(rec.Operation, state) })
	return b.Event(store.EventEnd, rec.JobID, rec.WorkerID, message, map[string]any{"state": state, "error": jobErr})
}

// CancelStarts cancels the jobs that start workers and waits until they have ended what
// they had begun, or ctx ends.
func (q *Queue) CancelStarts(ctx context.Context) error {
	q.mu.Lock()
	var list []*Job
	for _, j := range q.jobs {
		if operation.Of(j.op).CancelOnDrain {
			list = append(list, j)
		}
	}
	q.mu.Unlock()
	for _, j := range list {
		j.cancel(errdefs.ErrCancelled)
	}
	// Without the lock, which each takes when it ends.
	for _, j := range list {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Alive returns when the table of jobs can be locked.
func (q *Queue) Alive() {
	q.mu.Lock()
	defer q.mu.Unlock()
}
