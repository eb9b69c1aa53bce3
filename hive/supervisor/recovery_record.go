package supervisor

import (
	"context"
	"time"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/probe"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Record writes what recovery decided about the workers.
func (r *Recovery) Record(b *journal.Batch) error {
	for _, f := range r.workers {
		if err := f.record(b, r.s.relocated); err != nil {
			return err
		}
	}
	return nil
}

// record records what was decided about one worker. In the first start with a copied or
// restored file, relocated, a stop under way is dropped for good: the worker may be
// somebody else's.
func (f *recordedWorker) record(b *journal.Batch, relocated bool) error {
	before := f.rec.State
	var err error
	switch f.verdict {
	case proc.Alive:
		err = f.recordAlive(b, relocated)
	case proc.Dead:
		if f.restart {
			return f.recordRestart(b)
		}
		f.rec = ended(f.rec, f.outcome(b.Now()))
		if f.quarantine != "" {
			err = quarantineLease(b, f.rec, "", f.quarantine)
		}
	case proc.Unknown:
		lifecycle.Transition(&f.rec, lifecycle.Unsure, lifecycle.Fail)
		f.rec.Reason = f.why
		err = setLeaseState(b, f.rec, store.LeaseUnverified, f.why)
	}
	// Most are as they were; at a start with 1,900 workers that saves 1,900 writes.
	if err != nil || f.rec.State == before {
		return err
	}
	if err := b.PutWorker(f.rec); err != nil {
		return err
	}
	return workerEvent(b, f.rec, "", f.rec.WorkerID+" "+lifecycle.PublicState(f.rec.State)+": "+f.rec.Reason)
}

func (f *recordedWorker) recordAlive(b *journal.Batch, relocated bool) error {
	before, lease, write := f.rec.State, store.LeaseHeld, f.rec.State == store.WorkerUnverified
	stop := f.rec.Desired == store.DesiredStopped // asked for before it could not be verified, or a self-test's
	switch {
	// The stop was requested from the hive that the file is from.
	case relocated && (stop || before == store.WorkerStopping):
		lifecycle.Transition(&f.rec, lifecycle.StopDropped, lifecycle.Fail)
		f.rec.Desired, f.rec.Reason = store.DesiredRunning, ""
		write = true
	case stop:
		lifecycle.Transition(&f.rec, lifecycle.Verified, lifecycle.Stop)
		lease, write = store.LeaseReleasing, write || before != store.WorkerStopping
	default:
		lifecycle.Transition(&f.rec, lifecycle.Verified, lifecycle.Fail)
		if f.rec.State != before {
			f.rec.Reason = "" // of a state that says nothing about a living worker
		}
	}
	if !write {
		return nil
	}
	return setLeaseState(b, f.rec, lease, "")
}

// recordRestart records a dead worker that is started again once hive serves. One
// that was waiting for that already stays as it is.
func (f *recordedWorker) recordRestart(b *journal.Batch) error {
	if f.rec.State == store.WorkerBackoff {
		return nil
	}
	out := f.outcome(b.Now())
	lifecycle.Transition(&f.rec, lifecycle.Gone, lifecycle.Retry)
	f.rec.Reason, f.rec.Exit, f.rec.Identity, f.rec.Cgroup = out.reason, out.exit, nil, ""
	// The lease must not name the dead process: by that it would be judged and freed.
	if err := setLeaseHolder(b, f.rec); err != nil {
		return err
	}
	if err := b.PutWorker(f.rec); err != nil {
		return err
	}
	return workerEvent(b, f.rec, "", f.rec.WorkerID+" backoff: "+f.rec.Reason+"; it is started again")
}

// Review verifies once more the workers that could not be: those that live are adopted,
// with a stop that had been asked for; what the others left behind is ended. It is called
// by one goroutine at a time, and blocks for what it ends.
func (s *Supervisor) Review(ctx context.Context) {
	for _, w := range s.registry.where(func(w *worker) bool { return w.record().State == store.WorkerUnverified }) {
		s.verifyAgain(ctx, w)
	}
}

func (s *Supervisor) verifyAgain(ctx context.Context, w *worker) {
	f := &recordedWorker{rec: w.record()}
	f.verify(ctx, endpoint.Overlap(s.alloc.Contested(), f.rec.Ports), s.relocated)
	switch f.verdict {
	// adoptWorker replaces w. Nobody waits for that: an unverified worker takes no requests.
	case proc.Alive:
		err := s.journal.CommitRequired(func(b *journal.Batch) error { return f.record(b, s.relocated) })
		if err != nil { // the hive is closing
			f.process.Close()
			return
		}
		s.adoptWorker(f, probe.FirstInterval)
	case proc.Dead:
		// Before killLeftovers, which looks at it.
		w.fromCopiedState.Store(s.relocated)
		rest := w.killLeftovers(ctx)
		if ctx.Err() == nil && rest.err == nil { // else in the next review
			if w.afterExit(ctx, f.outcome(time.Now().UTC()), rest) {
				w.ensureSupervisor(0)
			}
		}
	case proc.Unknown:
	}
}
