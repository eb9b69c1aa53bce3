package hive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"rbeehive/alloc"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// restartRequest is a request to start a worker again, for the job that made it.
type restartRequest struct {
	reason string     // for the metrics
	begun  chan error // takes one: nil once the new program runs, else why it does not
}

// answer tells whoever asked; nobody waits twice.
func (r *restartRequest) answer(err error) {
	if r != nil {
		r.begun <- err
	}
}

// why says for the metrics why the worker was started again. Without a request, and
// without an end that this hive has seen, it is what recovery found.
func (r *restartRequest) why(w *worker) string {
	if r != nil {
		return r.reason
	}
	return cmp.Or(w.reason, becauseRecovery)
}

// backOff records that the worker has ended and is started again after a wait. It
// keeps its lease, without a process. It reports whether there is more to attend
// to: no, if the hive closes.
func (w *worker) backOff(out outcome, now time.Time, wait time.Duration) bool {
	rec := w.record()
	m, _ := decide(rec.State, evGone, thenRetry)
	if m.to == "" {
		m, _ = decide(rec.State, evCannot, thenRetry)
	}
	next := now.Add(wait).UTC()
	rec.State, rec.Reason, rec.NextTry, rec.Identity, rec.Cgroup = m.to, out.reason, &next, nil, ""
	if len(rec.Changed) > 0 {
		rec.Stale, rec.Changed = false, nil // the next start is by the type as it is then
	}
	rec.Failures = slices.Concat(recent(rec.Failures, rec.Spec.Restart.Window, now), []time.Time{now.UTC()})
	if out.exit != nil {
		rec.Exit = out.exit
	}
	logs.Printf(rec.Log, "ended %s: %s; the next start is in %s", now.UTC().Format(time.RFC3339), out.reason, wait.Round(time.Millisecond))
	err := w.h.settle(func(b *batch) error {
		if err := b.setHolder(rec); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		return b.workerEvent(rec, out.jobID, fmt.Sprintf("%s backoff: %s; start %d of %d in %s",
			rec.WorkerID, out.reason, len(rec.Failures), rec.Spec.Restart.Max, wait.Round(100*time.Millisecond)))
	})
	if err != nil {
		return false
	}
	w.failure = out.failure // of the last start, for who gives up waiting
	w.embody(rec, nil, nil)
	w.snap.Store(&rec)
	return true
}

// setHolder makes the worker's lease name its present process, or none.
func (b *batch) setHolder(rec store.Worker) error {
	lease, err := b.Lease(rec.Port)
	if errors.Is(err, store.ErrNotFound) || (err == nil && lease.LeaseID != rec.LeaseID) {
		return fmt.Errorf("worker %s has no lease of port %d any more", rec.WorkerID, rec.Port)
	}
	if err != nil {
		return err
	}
	lease.State, lease.Reason, lease.Identity, lease.Cgroup, lease.StampUID = store.LeaseHeld, "", rec.Identity, rec.Cgroup, rec.StampUID
	return b.PutLease(lease)
}

// waitOut waits until the next start is due, and starts the worker. It reports
// whether there is more to attend to.
func (w *worker) waitOut(ctx context.Context) bool {
	rec := w.record()
	timer := time.NewTimer(untilTry(rec, time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false // the next recovery goes on waiting
		case <-timer.C:
			return w.startOver(ctx, outcome{jobID: rec.JobID})
		case req := <-w.stops:
			return w.askedAnew(ctx, req)
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

// askedMeanwhile is a request that came while a new start was waited for.
type askedMeanwhile struct{ req stopRequest }

func (e *askedMeanwhile) Error() string { return e.req.reason }

// askedAnew carries out a request to a worker that has no process.
func (w *worker) askedAnew(ctx context.Context, req stopRequest) bool {
	if req.restart != nil {
		return w.startOver(ctx, outcome{jobID: req.jobID, restart: req.restart})
	}
	rec := w.record()
	if !req.all {
		rec.Desired = store.DesiredStopped
		w.snap.Store(&rec)
	}
	w.finish(outcome{then: thenStop, reason: req.reason, jobID: req.jobID}, remains{})
	return false
}

// startOver starts the worker again, on its ports, as the configuration says now.
// It reports whether there is more to attend to.
func (w *worker) startOver(ctx context.Context, out outcome) bool {
	w.unsettle()
	err := w.startAgain(ctx, out)
	if ctx.Err() != nil {
		out.restart.answer(errClosing)
		return false
	}
	if err == nil {
		out.restart.answer(nil)
		return true
	}
	var asked *askedMeanwhile
	if errors.As(err, &asked) {
		out.restart.answer(fail(CodeCancelled, "%s", asked.req.reason))
		return w.askedAnew(ctx, asked.req)
	}
	var f *failure
	if !errors.As(err, &f) {
		f = fail(CodeInternal, "%v", err)
	}
	again := w.conclude(ctx, outcome{then: thenRetry, reason: f.Message, jobID: out.jobID, failure: f}, remains{})
	if again { // who asked waits on, until it is ready or given up
		out.restart.answer(nil)
	} else {
		out.restart.answer(f)
	}
	return again
}

// startAgain is one new start. The process waits behind its gate until one
// transaction has recorded it, as at the first.
func (w *worker) startAgain(ctx context.Context, out outcome) error {
	h := w.h
	begun := time.Now()
	rec := w.record()
	typ, ok := h.types().Type(rec.Type)
	if !ok {
		return fail(CodeProgramNotFound, "worker type %q is no longer configured", rec.Type)
	}
	env, err := h.prepare(ctx, typ, &rec)
	if err != nil {
		return err
	}
	if err := w.awaitPorts(ctx, rec); err != nil {
		return err
	}
	if err := h.spawns.Acquire(ctx, 1); err != nil {
		return err
	}
	defer h.spawns.Release(1)
	if err := h.beforeStart(ctx, typ, rec, env); err != nil {
		return err
	}
	m, _ := decide(store.WorkerBackoff, evDue, thenFail)
	rec.State, rec.Desired, rec.Reason, rec.NextTry, rec.ReadyAt = m.to, store.DesiredRunning, "", nil, nil
	rec.Stale, rec.Changed = false, nil
	rec.StartedAt = time.Now().UTC()
	rec.Restarts++
	if out.restart != nil {
		rec.Failures, rec.JobID = nil, out.jobID // a person has looked at it
	}
	gated, err := proc.Start(h.procSpec(rec, env))
	if err != nil {
		return fail(CodeExecFailed, "start %s: %v", rec.Spec.Argv[0], err)
	}
	id := embodied(&rec, gated)
	logs.Printf(rec.Log, "started again, pid %d port %d %s", id.PID, rec.Port, rec.StartedAt.Format(time.RFC3339))
	err = h.settle(func(b *batch) error {
		if err := b.setHolder(rec); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		if err := b.beginJob(h, out.jobID); err != nil {
			return err
		}
		return b.event(store.EventProcess, rec.JobID, rec.WorkerID, fmt.Sprintf("%s started again as pid %d", rec.WorkerID, id.PID),
			map[string]any{"pid": id.PID, "worker_id": rec.WorkerID, "log": rec.Log, "restarts": rec.Restarts})
	})
	if err != nil {
		gated.Abort()
		return err
	}
	w.snap.Store(&rec)
	p, err := letGo(gated)
	if err != nil {
		return fail(CodeExecFailed, "%v", err)
	}
	w.begun = begun
	h.metrics.spawned(WaitStarted, begun)
	h.metrics.restarted(rec.Type, out.restart.why(w))
	running := rec                      // the snapshot of rec is read by now
	running.State = store.WorkerRunning // rides on the next commit
	w.embody(running, p, typ)
	w.inherited.Store(false)
	w.snap.Store(&running)
	p.AfterDone(func() { w.attend(0) })
	return nil
}

// awaitPorts makes sure that nobody else has the worker's ports. What the kernel
// keeps of closed connections is waited for, up to drainPatience: it is no failure
// of the worker.
func (w *worker) awaitPorts(ctx context.Context, rec store.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	ticker := time.NewTicker(drainGlance)
	defer ticker.Stop()
	for {
		err := w.h.alloc.Recheck(ctx, rec.Ports, rec.Spec.Host)
		var held *alloc.UnavailableError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &held):
			return fail(CodePortUnavailable, "%v", err)
		case !held.Draining:
			return fail(CodeForeignListener, "port %d is held by somebody else: %s", held.Port, held.Reason)
		}
		select {
		case <-ticker.C:
		case req := <-w.stops:
			return &askedMeanwhile{req}
		case <-ctx.Done():
			return fail(CodePortUnavailable, "%v", err)
		}
	}
}

const (
	drainPatience = 70 * time.Second // TIME_WAIT lasts for 60 s
	drainGlance   = 500 * time.Millisecond
)

// runRestart carries out worker_restart.
func (h *Hive) runRestart(ctx context.Context, j *job, op RestartWorker) (any, error) {
	w := h.liveWorker(op.WorkerID)
	switch {
	case !op.IfStale:
	case w == nil:
		return nil, fail(CodeNotFound, "no live worker %q", clip(op.WorkerID))
	case !w.record().Stale:
		return resultOf(w.record()), nil
	}
	begun := false
	if w != nil { // it may end before it is asked
		var err error
		if begun, err = w.requestRestart(ctx, j); err != nil {
			return nil, err
		}
	}
	if !begun {
		rec, err := h.Worker(op.WorkerID)
		if err != nil || op.IfStale {
			return nil, fail(CodeNotFound, "no worker %q", clip(op.WorkerID))
		}
		if w, err = h.revive(ctx, j, rec); err != nil {
			return nil, err
		}
		j.takesEffect()
	}
	if err := h.awaitReady(ctx, j, w); err != nil {
		return nil, err
	}
	return resultOf(w.record()), nil
}

// revive starts a worker that has ended again, under its id and on its ports.
func (h *Hive) revive(ctx context.Context, j *job, rec store.Worker) (*worker, error) {
	typ, ok := h.types().Type(rec.Type)
	if !ok {
		return nil, fail(CodeProgramNotFound, "worker type %q is no longer configured", rec.Type)
	}
	if err := h.claimName(rec.Name, j.id()); err != nil {
		return nil, err
	}
	defer h.unclaimName(rec.Name)
	rec.State, rec.Desired, rec.Reason = store.WorkerSpawning, store.DesiredRunning, ""
	rec.ReadyAt, rec.EndedAt, rec.NextTry, rec.Failures = nil, nil, nil, nil
	rec.LeaseID, rec.JobID, rec.StartedAt = uuid.Must(uuid.NewV7()).String(), j.id(), time.Now().UTC()
	rec.Restarts++
	w, err := h.spawn(ctx, j, typ, rec)
	if err == nil {
		h.metrics.restarted(rec.Type, becauseRequested)
	}
	return w, err
}

// startable finds the mistakes that a new start of a live worker would fail for:
// they must not cost the process that it has.
func (h *Hive) startable(ctx context.Context, rec store.Worker) error {
	typ, ok := h.types().Type(rec.Type)
	if !ok {
		return fail(CodeProgramNotFound, "worker type %q is no longer configured", rec.Type)
	}
	_, err := h.prepare(ctx, typ, &rec)
	return err
}

// requestRestart has a supervisor end the worker's process and start another, and
// waits until that runs. It reports false if the worker ended before its supervisor
// took the request.
func (w *worker) requestRestart(ctx context.Context, j *job) (begun bool, err error) {
	rec := w.record()
	if rec.State == store.WorkerUnverified {
		return false, fail(CodeStopIncomplete, "it cannot be verified that pid %d is still worker %s (%s), so it is not touched", rec.Identity.PID, rec.WorkerID, rec.Reason)
	}
	if err := w.h.startable(ctx, rec); err != nil {
		return false, err // it goes on as it is
	}
	j.begin(rec.WorkerID, time.Now().UTC())
	r := &restartRequest{begun: make(chan error, 1), reason: becauseRequested}
	if op, ok := j.op.(RestartWorker); ok && op.IfStale {
		r.reason = becauseReload
	}
	taken, err := w.hand(ctx, stopRequest{jobID: j.id(), reason: "restarted on request", restart: r})
	if err != nil || !taken {
		return false, err
	}
	j.takesEffect()
	select {
	case err := <-r.begun:
		return true, err
	case <-w.ended:
		if w.failure != nil {
			return true, w.failure
		}
		return true, fail(CodeCancelled, "the worker was stopped on request before it was started again")
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-w.h.broken:
		return true, w.h.fault
	case <-w.h.ctx.Done():
		return true, errClosing
	}
}
