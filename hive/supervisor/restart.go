package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/ports"
	"rbeehive/store"
)

// restartRequest is a request to start a worker again, for the job that made it.
type restartRequest struct {
	reason Reason     // for the metrics
	begun  chan error // takes one: nil once the new program runs, else why it does not
}

// answer tells whoever asked; nobody waits twice.
func (r *restartRequest) answer(err error) {
	if r != nil {
		// Buffered: a job that was cancelled no longer receives.
		r.begun <- err
	}
}

// why says for the metrics why the worker was started again. Without a request, and
// without an end that this hive has seen, it is what recovery found.
func (r *restartRequest) why(w *worker) Reason {
	if r != nil {
		return r.reason
	}
	return cmp.Or(w.reason, ReasonRecovery)
}

// backOff records that the worker has ended and is started again after a wait. It
// keeps its lease, without a process. It reports whether the supervisor goes on: not if
// the hive closes.
func (w *worker) backOff(out outcome, now time.Time, wait time.Duration) bool {
	rec := w.record()
	lifecycle.Transition(&rec, lifecycle.Gone, lifecycle.Retry)
	next := now.Add(wait).UTC()
	// Nothing new: no event for each look at a port that somebody has for days. A hive that is killed meanwhile
	// looks at it at once.
	if before := w.record(); out.held && before.State == store.WorkerBackoff && before.Reason == out.reason {
		before.NextTry = &next
		w.show(before)
		return true
	}
	rec.Reason, rec.NextTry, rec.Identity, rec.Cgroup = out.reason, &next, nil, ""
	// Stale without keys means that its type is gone, which stays true.
	if len(rec.Changed) > 0 {
		rec.Stale, rec.Changed = false, nil // the next start is by the type as it is then
	}
	// Only what still counts: else the record of a worker that always crashes would grow for ever.
	rec.Failures = slices.Clone(lifecycle.Recent(rec.Failures, rec.Spec.Restart.Window, now))
	then := "the port is looked at again"
	if !out.held {
		rec.Failures = append(rec.Failures, now.UTC())
		then = fmt.Sprintf("start %d of %d", len(rec.Failures), rec.Spec.Restart.Max)
	}
	if out.exit != nil {
		rec.Exit = out.exit
	}
	logs.Printf(rec.Log, "ended %s: %s; the next start is in %s", now.UTC().Format(time.RFC3339), out.reason, wait.Round(time.Millisecond))
	err := w.s.journal.CommitRequired(func(b *journal.Batch) error {
		if err := setLeaseHolder(b, rec); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		return workerEvent(b, rec, out.jobID, fmt.Sprintf("%s backoff: %s; %s in %s", rec.WorkerID, out.reason, then, wait.Round(100*time.Millisecond)))
	})
	if err != nil {
		return false
	}
	w.failure = out.failure // of the last start, for who gives up waiting
	w.attach(rec, nil, nil) // before the snapshot: who sees backoff finds no process
	w.show(rec)
	return true
}

// waitBackoff waits until the next start is due, and starts the worker. It reports
// whether the supervisor goes on.
func (w *worker) waitBackoff(ctx context.Context) bool {
	rec := w.record()
	timer := time.NewTimer(untilTry(rec, time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false // the next recovery goes on waiting
		case <-timer.C:
			return w.tryRestart(ctx, outcome{jobID: rec.JobID})
		case req := <-w.stops:
			return w.takeRequest(ctx, req)
		case done := <-w.reviews:
			w.reviewed(done)
		}
	}
}

// untilTry is how long a worker is still to wait for its next start: never longer
// than its policy lets it wait at all. The time of the next start is the wall
// clock's, and that can have been turned back since it was recorded.
func untilTry(rec store.Worker, now time.Time) time.Duration {
	policy := rec.Spec.Restart
	return min(rec.NextTry.Sub(now), max(policy.Backoff, policy.MaxBackoff))
}

// interrupted is the error of a start that a request came before.
type interrupted struct{ req stopRequest }

func (e *interrupted) Error() string { return e.req.reason }

// takeRequest carries out a request to a worker that has no process.
func (w *worker) takeRequest(ctx context.Context, req stopRequest) bool {
	if req.restart != nil {
		return w.tryRestart(ctx, asked(req))
	}
	rec := w.record()
	if !req.all {
		rec.Desired = store.DesiredStopped
		// In memory only: finish writes it, together with the end.
		w.show(rec)
	}
	out := asked(req)
	out.then = lifecycle.Stop
	w.finish(out, leftovers{})
	return false
}

// tryRestart starts the worker again, on its ports, as the configuration says now.
// It reports whether the supervisor goes on.
func (w *worker) tryRestart(ctx context.Context, out outcome) bool {
	// From here on callers wait for this start, not for the one that is over.
	w.resetStarted()
	err := w.restartProcess(ctx, out)
	if ctx.Err() != nil {
		out.restart.answer(errdefs.ErrClosing)
		return false
	}
	if err == nil {
		out.restart.answer(nil)
		return true
	}
	if by, ok := errors.AsType[*interrupted](err); ok {
		out.restart.answer(errdefs.Fail(errdefs.CodeCancelled, "%s", by.req.reason))
		return w.takeRequest(ctx, by.req)
	}
	var f *errdefs.Failure
	if !errors.As(err, &f) {
		f = errdefs.Fail(errdefs.CodeInternal, "%v", err)
	}
	_, held := errors.AsType[*ports.HeldError](err)
	again := w.afterExit(ctx, outcome{then: lifecycle.Retry, reason: f.Message, job: out.job, jobID: out.jobID, failure: f, held: held}, leftovers{})
	if again { // who asked waits on, until it is ready or given up
		out.restart.answer(nil)
	} else {
		out.restart.answer(f)
	}
	return again
}

// restartProcess starts the worker again, by the same steps as the first time.
func (w *worker) restartProcess(ctx context.Context, out outcome) error {
	begun, rec := time.Now(), w.record()
	// By the type as it is now: what made the worker crash may have been mended in it.
	typ, err := w.s.typeOf(rec.Type)
	if err != nil {
		return err
	}
	prepared, err := w.s.launcher.Prepare(ctx, typ, &rec)
	if err != nil {
		return err
	}
	release := func() {}
	defer func() { release() }()
	err = w.interruptibly(ctx, func(ctx context.Context) error {
		// Before a slot is taken: this can take as long as the kernel keeps a closed connection.
		if err := w.awaitPorts(ctx, rec); err != nil {
			return err
		}
		free, err := w.s.acquireStart(ctx, func() error { return nil })
		if err != nil {
			return err
		}
		release = free
		return w.s.launcher.BeforeStart(ctx, typ, rec, prepared.Env)
	})
	if err != nil {
		return err
	}
	recorded, p, err := w.s.startProcess(start{
		rec: again(rec, out), env: prepared.Env, begun: begun, note: logs.Started + " again,",
		record: func(rec store.Worker) error { return w.recordRestart(rec, out) },
	})
	// The record names a process that is gone; afterExit, by way of the caller, corrects it.
	if failed, ok := errors.AsType[*notOpened](err); ok {
		return errdefs.Fail(errdefs.CodeExecFailed, "%v", failed)
	}
	if err != nil {
		return err
	}
	w.startedAt, w.heldTries = begun, 0
	w.s.metrics.Restarted(rec.Type, out.restart.why(w))
	lifecycle.Transition(&recorded, lifecycle.Opened, lifecycle.Fail) // is written with the next commit
	// Before the snapshot: who sees it running finds the process.
	w.attach(recorded, p, typ)
	// Whoever the last process belonged to, this one is ours.
	w.fromCopiedState.Store(false)
	w.show(recorded)
	p.AfterDone(func() { w.ensureSupervisor(0) })
	return nil
}

// interruptibly carries out what comes before a new start and can take minutes. A request to
// the worker ends it: the error is *interrupted.
func (w *worker) interruptibly(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	done := make(chan struct{})
	go func() { err = do(ctx); close(done) }()
	select {
	case <-done:
		return err
	case req := <-w.stops:
		cancel()
		<-done // nothing of it goes on beside what was asked for
		return &interrupted{req}
	}
}

// awaitPorts makes sure that nobody else has the worker's ports. What the kernel
// keeps of closed connections is waited for, up to drainTimeout. Whoever else has one may
// keep it for long: that is *ports.HeldError, and the policy says whether to wait. Neither
// is a failure of the worker.
func (w *worker) awaitPorts(ctx context.Context, rec store.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	ticker := time.NewTicker(drainPollInterval)
	defer ticker.Stop()
	for {
		err := w.s.ports.Look(ctx, rec)
		if held, ok := errors.AsType[*ports.HeldError](err); !ok || !held.Draining {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

const (
	drainTimeout      = 70 * time.Second // TIME_WAIT lasts for 60 s
	drainPollInterval = 500 * time.Millisecond
)

// again is the record of a worker's next start.
func again(rec store.Worker, out outcome) store.Worker {
	lifecycle.Transition(&rec, lifecycle.Started, lifecycle.Fail)
	rec.Desired, rec.Reason, rec.NextTry, rec.ReadyAt = store.DesiredRunning, "", nil, nil
	rec.Stale, rec.Changed, rec.RestartJob = false, nil, ""
	rec.StartedAt = time.Now().UTC()
	rec.Restarts++
	if out.restart != nil {
		rec.Failures, rec.JobID = nil, out.jobID // a person has looked at it
	}
	return rec
}

// recordRestart is the transaction of a new start: the lease has been there all the time
// and only gets another holder.
func (w *worker) recordRestart(rec store.Worker, out outcome) error {
	err := w.s.journal.CommitRequired(func(b *journal.Batch) error {
		if err := setLeaseHolder(b, rec); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		if err := out.recordJob(b); err != nil {
			return err
		}
		return b.Event(store.EventProcess, rec.JobID, rec.WorkerID, fmt.Sprintf("%s started again as pid %d", rec.WorkerID, rec.Identity.PID),
			map[string]any{"pid": rec.Identity.PID, "worker_id": rec.WorkerID, "log": rec.Log, "restarts": rec.Restarts})
	})
	// Shown before the gate opens: the event has told the PID, and who asks for it must find the worker.
	if err == nil {
		w.show(rec)
	}
	return err
}

// restartEnded starts a worker that has ended again, under its id and on its ports.
func (s *Supervisor) restartEnded(ctx context.Context, j operation.Job, rec store.Worker) (*worker, error) {
	release, err := s.registry.take(rec, "started again by "+j.ID())
	if err != nil { // it is being removed, or has been
		return nil, errdefs.Fail(errdefs.CodeNotFound, "%v", err)
	}
	defer release()
	typ, err := s.typeOf(rec.Type)
	if err != nil {
		return nil, err
	}
	if err := s.registry.claimName(rec.Name, j.ID()); err != nil {
		return nil, err
	}
	defer s.registry.releaseName(rec.Name, j.ID())
	lifecycle.Transition(&rec, lifecycle.Started, lifecycle.Fail)
	rec.Desired, rec.Reason = store.DesiredRunning, ""
	rec.ReadyAt, rec.EndedAt, rec.NextTry, rec.Failures, rec.RestartJob = nil, nil, nil, nil, ""
	// A new lease id: the old lease has ended, and its id must not be good for this one.
	rec.LeaseID, rec.JobID, rec.StartedAt = uuid.Must(uuid.NewV7()).String(), j.ID(), time.Now().UTC()
	rec.Restarts++
	w, err := s.spawn(ctx, j, typ, rec, spawnOptions{})
	if err == nil {
		s.metrics.Restarted(rec.Type, ReasonRequested)
	}
	return w, err
}

// requestRestart has a supervisor end the worker's process and start another, and
// waits until that runs. It reports false if the worker ended before its supervisor
// took the request.
func (w *worker) requestRestart(ctx context.Context, j operation.Job, stale bool) (begun bool, err error) {
	rec := w.record()
	if rec.State == store.WorkerUnverified {
		return false, errdefs.Fail(errdefs.CodeStopIncomplete, "it cannot be verified that pid %d is still worker %s (%s), so it is not touched", rec.Identity.PID, rec.WorkerID, rec.Reason)
	}
	if err := w.s.launcher.Preflight(ctx, w.s.catalog(), rec); err != nil {
		return false, err // it goes on as it is
	}
	// In memory only: recordStopping writes it, before anything is done to the worker.
	j.Begin(rec.WorkerID, time.Now().UTC())
	r := &restartRequest{begun: make(chan error, 1), reason: ReasonRequested}
	if stale {
		r.reason = ReasonReload
	}
	taken, err := w.deliver(ctx, stopRequest{job: j, reason: "restarted on request", restart: r})
	if err != nil || !taken {
		return false, err
	}
	j.MarkEffective()
	// All of these: the supervisor answers only if it gets as far as the start.
	select {
	case err := <-r.begun:
		return true, err
	case <-w.ended:
		if w.failure != nil {
			return true, w.failure
		}
		return true, errdefs.Fail(errdefs.CodeCancelled, "the worker was stopped on request before it was started again")
	case <-ctx.Done():
		// Between the end and the new start, or just behind that: like one that waits to be ready.
		return true, w.s.stopCancelled(ctx, j, w)
	case <-w.s.journal.Broken():
		return true, w.s.journal.Err()
	case <-w.s.run.Context().Done():
		return true, errdefs.ErrClosing
	}
}
