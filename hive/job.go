package hive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rbeehive/hive/access"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// job is a durable job that has not ended. One goroutine carries it out.
type job struct {
	op     Operation
	line   string // see lines; set before others can see it
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended, or when the hive closed before it did

	mu       sync.Mutex
	rec      store.Job
	final    bool // it can no longer be cancelled
	effected int  // see takesEffect
	changed  chan struct{}
}

func (j *job) record() store.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec
}

func (j *job) id() string { return j.record().JobID }

// begin marks the job as running. The record says so with the next commit of
// the job: a job that did nothing yet may as well begin again after a crash.
func (j *job) begin(workerID string, now time.Time) store.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rec.State = store.JobRunning
	if j.rec.StartedAt == nil {
		j.rec.StartedAt = &now
	}
	if workerID != "" {
		j.rec.WorkerID = workerID
	}
	return j.rec
}

// finalize makes sure that the job is not cancelled from now on. It returns why if
// it has been.
func (j *job) finalize(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.final = true
	return nil
}

// cancelled cancels the job; false: it is too late.
func (j *job) cancelled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.final {
		j.cancel(errCancelled)
	}
	return !j.final
}

// forget takes back that the job has made a worker: it was not recorded.
func (j *job) forget(workerID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.rec.WorkerID == workerID {
		j.rec.WorkerID = ""
	}
}

// Causes of a cancelled job context.
var (
	errCancelled = errors.New("cancelled on request")
	errClosing   = errors.New("hive is closing")
)

// failure is a job's error on its way to the record.
type failure struct{ store.JobError }

func (f *failure) Error() string { return f.Code + ": " + f.Message }

// fail makes a failure, whose message is plain text: names that anybody can choose are
// in it.
func fail(code, format string, args ...any) *failure {
	return &failure{store.JobError{Code: code, Message: plain.Text(fmt.Sprintf(format, args...)), Log: []string{}}}
}

// Submit records a job of hive's own and begins it. When it returns without error the job is
// durable. Listing operations are answered at once from memory, and their jobs
// are never written. Errors: ErrRecovering, ErrClosed, ErrQueueFull,
// store.ErrDiskFull, store.ErrFailed, and ctx's while the write is queued.
func (h *Hive) Submit(ctx context.Context, op Operation, raw json.RawMessage) (store.Job, error) {
	return h.SubmitFor(ctx, access.Hive(), "", op, raw)
}

// admit takes one of the places for unfinished jobs.
func (h *Hive) admit() error {
	if h.ctx.Err() != nil || h.draining.Load() {
		return ErrClosed
	}
	if most := h.settings().Jobs.MaxQueued; int(h.active.Add(1)) > most {
		h.active.Add(-1)
		return fmt.Errorf("%w: %d jobs are waiting or running (jobs.max_queued)", ErrQueueFull, most)
	}
	return nil
}

// start carries out an admitted job in its own goroutine.
func (h *Hive) start(rec store.Job, op Operation) {
	ctx, cancel := context.WithCancelCause(h.ctx)
	j := &job{op: op, cancel: cancel, rec: rec, done: make(chan struct{}), changed: make(chan struct{})}
	h.lines.join(j, h.lineOf(op))
	h.mu.Lock()
	h.jobs[rec.JobID] = j
	h.mu.Unlock()
	switch op.(type) {
	case Spawn, Check, RestartWorker:
		if h.draining.Load() { // admitted before StopWorkers, and not in its list
			cancel(errCancelled)
		}
	}
	h.spawnGoroutine(func() { // else the next recovery begins it
		defer cancel(nil)
		defer close(j.done)
		h.carryOut(ctx, j)
		h.lines.leave(j)
		h.mu.Lock()
		delete(h.jobs, rec.JobID)
		h.mu.Unlock()
		h.active.Add(-1)
		h.jobEnded()
	})
}

func (h *Hive) carryOut(ctx context.Context, j *job) {
	result, err := h.perform(ctx, j)
	if err == nil {
		h.end(j, store.JobSucceeded, result, nil)
		return
	}
	if h.over() || errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrClosed) {
		return // unfinished: the next recovery settles it
	}
	var f *failure
	switch {
	case errors.As(err, &f):
	case errors.Is(context.Cause(ctx), errCancelled):
		h.end(j, store.JobCancelled, nil, &fail(CodeCancelled, "cancelled on request").JobError)
		return
	case errors.Is(err, store.ErrDiskFull):
		f = fail(CodeDiskFull, "the disk is full: nothing new can be recorded; free some space in %s", h.cfg.DataDir)
	default:
		h.cfg.Log.WithError(err).WithField("job", j.id()).Error("job failed unexpectedly")
		f = fail(CodeInternal, "%v", err)
	}
	h.end(j, store.JobFailed, nil, &f.JobError)
}

func (h *Hive) perform(ctx context.Context, j *job) (any, error) {
	if err := h.awaitTurn(ctx, j); err != nil {
		return nil, err
	}
	if err := h.awaitOpening(ctx, j.op); err != nil {
		return nil, err
	}
	switch op := j.op.(type) {
	case Spawn:
		return h.runSpawn(ctx, j, op)
	case StopWorker:
		return h.runStop(ctx, j, func() *worker { return h.liveWorker(op.WorkerID) }, fmt.Sprintf("no live worker %q", clip(op.WorkerID)))
	case RestartWorker:
		return h.runRestart(ctx, j, op)
	case ProcessDelete:
		return h.runStop(ctx, j, func() *worker { return h.workerByPID(op.PID) }, fmt.Sprintf("no worker of this hive has PID %d", op.PID))
	case Check:
		return h.runCheck(ctx, j)
	case ModelDownload:
		return h.runDownload(ctx, j, op)
	case ModelDelete:
		return h.runModelDelete(ctx, j, op)
	case Install:
		return h.runInstall(ctx, j, op)
	case Remove:
		return h.runRemove(ctx, j, op)
	case Unsupported:
		return nil, fail(CodeUnsupportedOperation, "%s", op.Reason)
	}
	return nil, fmt.Errorf("no way to carry out %T", j.op)
}

// end records the job's last state with its result and end events.
func (h *Hive) end(j *job, state store.JobState, result any, jobErr *store.JobError) {
	j.mu.Lock()
	rec := j.rec
	j.mu.Unlock()
	_ = h.settle(func(b *batch) error { // fails only if the hive closes: then the next recovery settles it
		err := h.endJob(b, &rec, state, result, jobErr)
		b.onCommit(func() { // last: whoever reads that it has ended finds all the rest
			j.mu.Lock()
			defer j.mu.Unlock()
			j.rec = rec
		})
		return err
	})
}

// endJob writes an ended job and its last events.
func (h *Hive) endJob(b *batch, rec *store.Job, state store.JobState, result any, jobErr *store.JobError) error {
	now := b.Now()
	rec.State, rec.FinishedAt, rec.Error = state, &now, jobErr
	if rec.StartedAt == nil {
		rec.StartedAt = &now
	}
	if result != nil {
		raw, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		rec.Result = raw
		if err := b.event(store.EventResult, rec.JobID, rec.WorkerID, rec.Operation+" done", rec.Result); err != nil {
			return err
		}
	}
	message := fmt.Sprintf("%s %s", rec.Operation, state)
	if jobErr != nil && state == store.JobFailed {
		for _, line := range jobErr.Log {
			if err := b.event(store.EventLog, rec.JobID, rec.WorkerID, line, nil); err != nil {
				return err
			}
		}
		message += ": " + jobErr.Code + ": " + jobErr.Message
	}
	if err := b.PutJob(*rec); err != nil {
		return err
	}
	b.onCommit(func() { h.metrics.jobEnded(rec.Operation, state) })
	return b.event(store.EventEnd, rec.JobID, rec.WorkerID, message, map[string]any{"state": state, "error": jobErr})
}

// Job returns a job as it is now, or ErrNotFound.
func (h *Hive) Job(id string) (store.Job, error) {
	h.mu.Lock()
	j := h.jobs[id]
	h.mu.Unlock()
	if j != nil {
		return j.record(), nil
	}
	if rec, ok := h.volatile.job(id); ok {
		return rec, nil
	}
	var rec store.Job
	err := h.store.View(func(tx *store.Tx) (err error) {
		rec, err = tx.Job(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return rec, fmt.Errorf("job %q: %w", clip(id), ErrNotFound)
	}
	return rec, err
}

// WaitJob blocks until the job has ended or ctx ends, and returns the job as
// it is then. An ended ctx is not an error.
func (h *Hive) WaitJob(ctx context.Context, id string) (store.Job, error) {
	for {
		rec, again, err := h.waitOnce(ctx, id)
		if !again {
			return rec, err
		}
	}
}

// waitOnce waits for the end of a job, or, if it is recorded and whoever submitted
// it has not come to begin it, for its next event; then it is to be called again.
func (h *Hive) waitOnce(ctx context.Context, id string) (rec store.Job, again bool, err error) {
	wake := h.feed.join(id)
	defer h.feed.leave(id, wake)
	h.mu.Lock()
	j := h.jobs[id]
	h.mu.Unlock()
	if j == nil {
		rec, err = h.Job(id)
		if err != nil || rec.State.Ended() {
			return rec, false, err
		}
		select {
		case <-wake:
			return rec, true, nil
		case <-ctx.Done():
		case <-h.ctx.Done():
		}
		return rec, false, nil
	}
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	return j.record(), false, nil
}

// Jobs returns a page of recorded jobs, newest first, and the cursor of the
// next page, empty when there is none.
func (h *Hive) Jobs(f JobFilter) (jobs []store.Job, next string, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	if f.State == store.JobQueued || f.State == store.JobRunning {
		return h.unfinishedJobs(f, limit) // without reading a week of ended ones
	}
	err = h.store.View(func(tx *store.Tx) error {
		for rec, err := range tx.Jobs(f.After, true) {
			if err != nil {
				return err
			}
			h.mu.Lock()
			j := h.jobs[rec.JobID]
			h.mu.Unlock()
			if j != nil && !rec.State.Ended() {
				rec = j.record()
			}
			if (f.State != "" && f.State != rec.State) || (f.Operation != "" && f.Operation != rec.Operation) {
				continue
			}
			if len(jobs) == limit {
				next = jobs[limit-1].JobID
				return nil
			}
			jobs = append(jobs, rec)
		}
		return nil
	})
	return jobs, next, err
}

// unfinishedJobs is Jobs for the states that only jobs in memory have.
func (h *Hive) unfinishedJobs(f JobFilter, limit int) (jobs []store.Job, next string, err error) {
	h.mu.Lock()
	for _, j := range h.jobs {
		rec := j.record()
		if rec.State == f.State && (f.Operation == "" || f.Operation == rec.Operation) && (f.After == "" || rec.JobID < f.After) {
			jobs = append(jobs, rec)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(jobs, func(a, b store.Job) int { return cmp.Compare(b.JobID, a.JobID) })
	if len(jobs) > limit {
		jobs, next = jobs[:limit], jobs[limit-1].JobID
	}
	return jobs, next, nil
}

// Cancel cancels a job and waits until what it had begun is undone. Errors:
// ErrNotFound; an *InputError of kind ErrForbidden unless the caller has submitted it
// or is an admin; ErrConflict if it has ended, or ended before it could be
// cancelled, or cannot be cancelled; ctx's.
func (h *Hive) Cancel(ctx context.Context, by access.Caller, id string) (store.Job, error) {
	if rec, err := h.Job(id); err != nil || !by.Rights.May(access.Admin) && !by.Same(rec.RequestedBy) {
		return store.Job{}, cmp.Or(err, error(&InputError{Kind: ErrForbidden, Detail: fmt.Sprintf(
			"job %s was submitted by %s, and only they and admins may cancel it; the caller is %s", id, access.Name(rec.RequestedBy), by)}))
	}
	h.mu.Lock()
	j := h.jobs[id]
	h.mu.Unlock()
	if j == nil {
		rec, err := h.Job(id)
		if err != nil {
			return rec, err
		}
		if !rec.State.Ended() {
			return rec, fmt.Errorf("%w: job %s is about to begin; try again", ErrConflict, id)
		}
		return rec, fmt.Errorf("%w: job %s has already ended (%s)", ErrConflict, id, rec.State)
	}
	if !j.cancelled() {
		return j.record(), fmt.Errorf("%w: a %s cannot be cancelled once it has begun", ErrConflict, j.op.Tag())
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return j.record(), ctx.Err()
	}
	rec := j.record()
	if rec.State != store.JobCancelled {
		return rec, fmt.Errorf("%w: job %s ended first (%s)", ErrConflict, id, rec.State)
	}
	return rec, nil
}
