package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// handleExit follows the exit of a main process by itself. What is left of its tree is
// ended too: a dead main process is not a dead worker. It reports whether the supervisor
// goes on.
func (w *worker) handleExit(ctx context.Context) bool {
	rec := w.record()
	exit := w.process().Exit()
	f := errdefs.Fail(errdefs.CodeExitedEarly, "%s before it was ready", launch.DescribeExit(exit))
	if rec.ReadyAt != nil {
		f = errdefs.Fail(errdefs.CodeExitedEarly, "%s", launch.DescribeExit(exit))
	}
	f.Log = w.s.logs.LastLines(ctx, rec.WorkerID, rec.Log, logs.Started, launch.LogTail)
	// The log was read before this: what is ended now may write into it, too.
	rest := w.killLeftovers(ctx)
	// hive is closing, perhaps in the middle of this. The next one finds the worker dead and does it again.
	if ctx.Err() != nil {
		return false
	}
	// If members are left, the listener may be one of them.
	held := false
	if rec.ReadyAt == nil && len(rest.members) == 0 && rest.err == nil {
		held = w.s.ports.Conflict(ctx, rec, f)
	}
	w.reason = ReasonExited
	out := outcome{then: lifecycle.Retry, reason: f.Message, exit: &exit, jobID: rec.JobID, failure: f, held: held}
	if rec.Desired == store.DesiredStopped { // a restart of hive came in between
		out = outcome{then: lifecycle.Stop, reason: "stopped on request", exit: &exit, jobID: rec.JobID}
	}
	return w.afterExit(ctx, out, rest)
}

// killLeftovers ends what a dead main process has left behind. Of a worker that may be
// somebody else's it only looks.
func (w *worker) killLeftovers(ctx context.Context) leftovers {
	// Without the main process: once that is dead, its session id may be a stranger's.
	t := w.s.launcher.Tree(w.record(), nil)
	if w.fromCopiedState.Load() {
		left, err := t.Members(ctx)
		return leftovers{members: left, err: err}
	}
	return w.endTree(ctx, t)
}

// afterExit decides what follows the end of a worker's process, and does it. It reports
// whether the supervisor goes on.
func (w *worker) afterExit(ctx context.Context, out outcome, rest leftovers) bool {
	rec := w.record()
	rest.sayKilled(&out, rec.Spec.Stop)
	// No new start beside what is left of the last one: they would fight for the port and the GPU.
	if len(rest.members) > 0 || rest.err != nil {
		w.finish(out, rest)
		return false
	}
	if out.then == lifecycle.Retry {
		out.then = lifecycle.Fail
		now := time.Now()
		wait, again, exhausted := w.nextStart(out, now)
		// While all workers are being stopped, one that comes back would be overlooked.
		if again && w.s.run.Accepting() {
			return w.backOff(out, now, wait)
		}
		if exhausted && out.failure != nil {
			n := len(lifecycle.Recent(rec.Failures, rec.Spec.Restart.Window, now))
			out.reason = fmt.Sprintf("%s; given up after %d new starts within %s (restart.max)", out.reason, n, rec.Spec.Restart.Window)
			out.failure.Message = out.reason
		}
	}
	if out.then == lifecycle.Start {
		return w.tryRestart(ctx, out)
	}
	w.finish(out, rest)
	return false
}

// nextStart says whether the worker's policy wants a new start after an end by itself, and
// after which wait. exhausted: it does, and there were as many as it allows.
func (w *worker) nextStart(out outcome, now time.Time) (wait time.Duration, again, exhausted bool) {
	rec := w.record()
	policy := rec.Spec.Restart
	// live.action says restart. restart.policy is then only about workers that end by themselves.
	if out.live && policy.Policy == store.RestartNever {
		policy.Policy = store.RestartOnFailure
	}
	// Waiting does not bring back the type, the spawn need not wait, and what may be another hive's is not ours
	// to start.
	if _, ok := w.s.catalog().Type(rec.Type); !ok || w.canTryNextPort(out) || w.fromCopiedState.Load() {
		policy.Policy = store.RestartNever
	}
	spread := rand.Float64() //nolint:gosec // a moment, no secret
	// Whoever has its port goes sooner or later, and the worker has done nothing wrong.
	if out.held && policy.Policy != store.RestartNever {
		w.heldTries++
		return lifecycle.Wait(policy, w.heldTries-1, spread), true, false
	}
	exit := out.exit
	// Most servers end with 0 on SIGTERM, and that is no end of their work.
	if out.givenUp {
		exit = nil
	}
	wait, again = lifecycle.NextStart(policy, rec.Failures, rec.ReadyAt != nil, exit, now, spread)
	if !again {
		_, exhausted = lifecycle.NextStart(policy, nil, rec.ReadyAt != nil, exit, now, spread)
	}
	return wait, again, exhausted
}

// canTryNextPort reports whether a spawn that waits for this worker is to try its next port
// instead of waiting for this one: a stranger has it, and nobody asked for this port and no
// other.
func (w *worker) canTryNextPort(out outcome) bool {
	rec := w.record()
	return w.nextPort && out.failure != nil && out.failure.Code == errdefs.CodeForeignListener &&
		rec.Restarts == 0 && rec.ReadyAt == nil && rec.Asked.Port == 0
}

// finish records the end of a worker and frees its ports, unless somebody can
// still be reached there: then they are quarantined.
func (w *worker) finish(out outcome, rest leftovers) {
	rec := w.record()
	keep := w.s.whyQuarantine(rec.Ports, rest)
	if len(rest.members) > 0 || rest.err != nil {
		out.then, out.reason = lifecycle.Fail, "could not be stopped wholly: "+keep
		out.failure = errdefs.Fail(errdefs.CodeStopIncomplete, "%s; port %d is quarantined", keep, rec.Port)
	}
	rec = ended(rec, out)
	logExit(rec)
	if w.recordEnd(rec, out, keep) != nil {
		return // the hive is closing: the next recovery decides about the worker
	}
	close(w.ended) // before startDone: who waits for that looks at ended next
	w.signalStarted()
}

func (w *worker) recordEnd(rec store.Worker, out outcome, quarantine string) error {
	end := func(b *journal.Batch) error {
		// Shown only then: a port that is shown as free must be free after a crash, too.
		b.OnCommit(func() {
			// In this order: the registry copies the record, and who waits on ended reads both.
			w.failure = out.failure
			w.show(rec)
			w.s.registry.markEnded(w, w.canTryNextPort(out))
		})
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		if err := out.recordJob(b); err != nil { // of a request to a worker without a process
			return err
		}
		err := workerEvent(b, rec, out.jobID, rec.WorkerID+" "+string(rec.State)+": "+rec.Reason)
		if err == nil && out.then == lifecycle.Stop && out.endsJob && quarantine == "" {
			err = out.job.RecordEnd(b, operation.StoppedOf(rec))
		}
		return err
	}
	if quarantine != "" {
		return w.s.journal.CommitRequired(func(b *journal.Batch) error {
			return errors.Join(quarantineLease(b, rec, out.jobID, quarantine), end(b))
		})
	}
	// The allocator frees the ports in the same transaction.
	return w.s.journal.CommitUntilDone(func(closure func(*store.Tx) error) error {
		// Not with a caller's context: the worker has ended, whether or not the caller still waits.
		return w.s.alloc.Release(context.Background(), rec.Port, rec.LeaseID, closure)
	}, end)
}

// ended is the record of a worker that is not started again.
func ended(rec store.Worker, out outcome) store.Worker {
	now := time.Now().UTC()
	// Its policy might have wanted a new start, but the caller has decided against one.
	if out.then == lifecycle.Retry {
		out.then = lifecycle.Fail
	}
	lifecycle.Transition(&rec, lifecycle.Gone, out.then)
	rec.Reason, rec.EndedAt, rec.NextTry, rec.RestartJob = out.reason, &now, nil, ""
	rec.Stale, rec.Changed = false, nil // of a process that is gone
	// Without a process (backoff) the exit of the last one stays.
	if out.exit != nil {
		rec.Exit = out.exit
	}
	return rec
}

// whyQuarantine says why ports cannot be given out again; empty if they can.
func (s *Supervisor) whyQuarantine(ports []uint16, rest leftovers) string {
	if len(rest.members) > 0 {
		var names []string
		for _, m := range rest.members {
			names = append(names, fmt.Sprintf("%s (pid %d)", m.Program, m.PID))
		}
		return "these processes could not be ended: " + strings.Join(names, ", ")
	}
	if rest.err != nil {
		return "it is not known what is left of it: " + rest.err.Error()
	}
	return endpoint.WhyHeld(s.sockets, ports)
}
