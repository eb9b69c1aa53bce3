package hive

import (
	"context"
	"fmt"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// recordRecovery writes everything that recovery decided in one transaction.
func (h *Hive) recordRecovery(led *ledger) error {
	var free []store.Lease
	for _, f := range led.found {
		if f.verdict == proc.Dead && f.keep == "" && f.lease != nil && !f.again {
			free = append(free, *f.lease)
		}
	}
	for _, f := range led.leases {
		if f.verdict == proc.Dead && f.keep == "" {
			free = append(free, f.lease)
		}
	}
	h.endChecks(led)
	closure, committed := h.batched(func(b *batch) error {
		for _, f := range led.leases {
			if err := b.recordFoundLease(f); err != nil {
				return err
			}
		}
		for _, f := range led.found {
			if err := b.recordFound(f, h.store.Meta().Relocated); err != nil {
				return err
			}
		}
		if err := h.settleJobs(b, led); err != nil {
			return err
		}
		return b.startEvent(h.cfg.Version, led.counts())
	})
	if err := h.alloc.ReleaseAll(context.Background(), free, closure); err != nil {
		return err
	}
	committed()
	return nil
}

// endChecks has the workers of interrupted self-tests stopped. That is recorded with
// the end of their jobs: a stop that is only remembered is lost when hive is killed
// once more before it has begun, and the worker would stay for good.
func (h *Hive) endChecks(led *ledger) {
	if h.store.Meta().Relocated {
		return
	}
	for _, rec := range led.active {
		for _, f := range led.found {
			if rec.Operation == (Check{}).Tag() && f.rec.WorkerID == rec.WorkerID {
				f.rec.Desired, f.rec.Reason = store.DesiredStopped, "the hive_check that started it was interrupted"
			}
		}
	}
}

// startEvent tells that the hive was started, behind all that recovery has found:
// who follows everything knows then that what was before is accounted for.
func (b *batch) startEvent(version string, r Recovery) error {
	message := fmt.Sprintf("hive started: %d adopted, %d freed", r.Adopted, r.Freed)
	if r.Restarted > 0 {
		message += fmt.Sprintf(", %d started again", r.Restarted)
	}
	if r.Unverified > 0 {
		message += fmt.Sprintf(", %d unverified", r.Unverified)
	}
	return b.event(store.EventState, "", "", message, map[string]any{
		"hive": "started", "version": version,
		"adopted": r.Adopted, "freed": r.Freed, "restarted": r.Restarted, "unverified": r.Unverified,
	})
}

// recordFound records what recovery decided about one worker. In the first start
// with a copied or restored file, relocated, a stop under way is dropped for
// good: the worker may be somebody else's.
func (b *batch) recordFound(f *found, relocated bool) error {
	before := f.rec.State
	switch f.verdict {
	case proc.Alive:
		lease := store.LeaseHeld
		switch {
		case relocated && (f.rec.Desired == store.DesiredStopped || f.rec.State == store.WorkerStopping):
			f.rec.State, f.rec.Desired, f.rec.Reason = store.WorkerRunning, store.DesiredRunning, ""
			if err := b.setLease(f.rec, lease, ""); err != nil {
				return err
			}
		case f.rec.Desired == store.DesiredStopped: // asked for before it could not be judged, or a self-test's
			f.rec.State, lease = store.WorkerStopping, store.LeaseReleasing
		case f.rec.State == store.WorkerSpawning || f.rec.State == store.WorkerUnverified:
			f.rec.State, f.rec.Reason = store.WorkerRunning, ""
		}
		if before == store.WorkerUnverified || (lease == store.LeaseReleasing && before != store.WorkerStopping) {
			if err := b.setLease(f.rec, lease, ""); err != nil {
				return err
			}
		}
	case proc.Dead:
		if f.again {
			return b.recordAgain(f)
		}
		f.rec = ended(f.rec, f.outcome(b.Now()))
		if f.keep != "" {
			if err := b.quarantine(f.rec, "", f.keep); err != nil {
				return err
			}
		}
	case proc.Unknown:
		f.rec.State, f.rec.Reason = store.WorkerUnverified, f.why
		if err := b.setLease(f.rec, store.LeaseUnverified, f.why); err != nil {
			return err
		}
	}
	if f.rec.State == before {
		return nil
	}
	if err := b.PutWorker(f.rec); err != nil {
		return err
	}
	return b.workerEvent(f.rec, "", f.rec.WorkerID+" "+PublicState(f.rec.State)+": "+f.rec.Reason)
}

// recordAgain records a dead worker that is started again once hive serves. One
// that was waiting for that already stays as it is.
func (b *batch) recordAgain(f *found) error {
	if f.rec.State == store.WorkerBackoff {
		return nil
	}
	out := f.outcome(b.Now())
	f.rec.State, f.rec.Reason, f.rec.Exit, f.rec.Identity, f.rec.Cgroup = store.WorkerBackoff, out.reason, out.exit, nil, ""
	if err := b.setHolder(f.rec); err != nil {
		return err
	}
	if err := b.PutWorker(f.rec); err != nil {
		return err
	}
	return b.workerEvent(f.rec, "", f.rec.WorkerID+" backoff: "+f.rec.Reason+"; it is started again")
}

// outcome is how a worker that recovery found dead has ended.
func (f *found) outcome(now time.Time) outcome {
	exit := f.exit
	if exit.At.IsZero() {
		exit.At = now
	}
	out := outcome{then: thenRetry, exit: &exit, reason: "it ended while hive was not running: " + f.why}
	switch {
	case f.left:
		out.then, out.reason = thenFail, "could not be stopped wholly: "+f.keep
	case f.rec.Desired == store.DesiredStopped:
		out.then, out.reason = thenStop, "stopped on request"
	case f.rec.State == store.WorkerStopping:
		out.reason = f.rec.Reason // it was being given up
	}
	return out
}

// settleJobs ends the jobs that a crash interrupted. Queued ones that are not
// too old stay queued and are begun once the hive serves, and so do stops that
// are not over: asking again for a stop does no harm. In the first start with a
// copied or restored file neither goes on, nor does a download.
func (h *Hive) settleJobs(b *batch, led *ledger) error {
	workers := map[string]*found{}
	for _, f := range led.found {
		workers[f.rec.WorkerID] = f
	}
	var goOn []store.Job
	for _, rec := range led.active {
		if h.store.Meta().Relocated && (rec.State == store.JobQueued || endsWorkers(rec.Operation) || rec.Operation == ModelDownload{}.Tag()) {
			// The hive that the file is from may carry it out, or may have done so.
			if err := h.endJob(b, &rec, store.JobFailed, nil, &fail(CodeInterrupted, "the state file was copied or restored: nothing is begun, stopped or downloaded but on a new request").JobError); err != nil {
				return err
			}
			continue
		}
		if rec.State == store.JobQueued && b.Now().Sub(rec.CreatedAt) <= h.settings().Jobs.MaxQueueAge {
			goOn = append(goOn, rec)
			continue
		}
		result, f := h.settled(b, rec, workers[rec.WorkerID])
		var err error
		switch {
		case result != nil:
			err = h.endJob(b, &rec, store.JobSucceeded, result, nil)
		case f != nil:
			err = h.endJob(b, &rec, store.JobFailed, nil, &f.JobError)
		default:
			goOn = append(goOn, rec)
		}
		if err != nil {
			return err
		}
	}
	led.active = goOn
	return nil
}

// endsWorkers reports whether an operation ends a process.
func endsWorkers(operation string) bool {
	return operation == StopWorker{}.Tag() || operation == ProcessDelete{}.Tag() || operation == RestartWorker{}.Tag()
}

// settled says how a job that was begun has ended: with a result or a failure.
// Neither: it goes on. w is its worker, if that had not ended before.
func (h *Hive) settled(b *batch, rec store.Job, w *found) (any, *failure) {
	if rec.State == store.JobQueued {
		return nil, fail(CodeExpired, "queued for more than %s (jobs.max_queue_age)", h.settings().Jobs.MaxQueueAge)
	}
	alive := w != nil && w.verdict == proc.Alive
	switch rec.Operation {
	case Spawn{}.Tag():
		if alive && w.rec.State == store.WorkerStopping {
			return nil, fail(CodeInterrupted, "hive was restarted while it stopped the worker: %s", w.rec.Reason)
		}
		if alive {
			return resultOf(w.rec), nil
		}
	case RestartWorker{}.Tag():
		if alive && w.rec.JobID == rec.JobID && w.rec.State != store.WorkerStopping {
			return resultOf(w.rec), nil
		}
	case ModelDownload{}.Tag():
		return nil, nil // what has come is there, and the rest is asked for
	case StopWorker{}.Tag(), ProcessDelete{}.Tag():
		if alive {
			return nil, nil
		}
		if ended, err := b.Worker(rec.WorkerID); err == nil && ended.State == store.WorkerStopped {
			return stopResult(ended), nil
		}
	}
	return nil, fail(CodeInterrupted, "hive was restarted while the job ran")
}
