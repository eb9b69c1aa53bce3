package supervisor

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/endpoint"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/probe"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Bounds of recovery.
const (
	gateTimeout      = 2 * time.Second // a gate whose hive died sees end-of-file and exits
	gatePollInterval = 2 * time.Millisecond
	maxProcReaders   = 4 // readers of /proc at once: more only make threads
)

// Recovery takes the workers of a state file over after a start of hive. Its methods are
// called once each, in the order in which they stand here, by one goroutine; each does
// what the ones before it have found out. Nothing is freed because time ran out.
type Recovery struct {
	s       *Supervisor
	workers []*recordedWorker
	ended   []store.Worker
}

// recordedWorker is what recovery knows about one recorded worker.
type recordedWorker struct {
	rec        store.Worker
	lease      *store.Lease // of a dead one; nil: it has none
	verdict    proc.Verdict
	process    *proc.Process // if alive
	why        string        // why it is dead or cannot be verified
	exit       store.Exit    // how a dead one ended, as far as it can be known
	quarantine string        // why a dead worker's port stays quarantined
	left       bool          // it does because processes of it could not be ended
	restart    bool          // a dead worker is started again once hive serves
	restartJob string        // which had begun to restart it; empty: none
}

// Counts says what became of the workers.
type Counts struct{ Adopted, Freed, Restarted, Unverified int }

// Load reads the workers of the state file.
func (s *Supervisor) Load(tx *store.Tx) (*Recovery, error) {
	r := &Recovery{s: s}
	for rec, err := range tx.Workers() {
		if err != nil {
			return nil, err
		}
		if rec.State.Ended() {
			r.ended = append(r.ended, rec)
			continue
		}
		r.workers = append(r.workers, &recordedWorker{rec: rec})
	}
	// The file has them by id. Pruning, and a search by name, go by the time of their end.
	slices.SortFunc(r.ended, byEnd)
	s.registry.addEnded(r.ended)
	return r, nil
}

func byEnd(a, b store.Worker) int {
	if a.EndedAt == nil || b.EndedAt == nil {
		return cmp.Compare(a.WorkerID, b.WorkerID)
	}
	return a.EndedAt.Compare(*b.EndedAt)
}

// Len is how many workers there are to verify.
func (r *Recovery) Len() int { return len(r.workers) }

// Verify verifies every recorded process, and calls done after each. contested are ports
// that another hive claims. What is not verified when ctx ends stays unknown.
func (r *Recovery) Verify(ctx context.Context, contested []uint16, done func()) {
	var g errgroup.Group
	g.SetLimit(maxProcReaders)
	for _, f := range r.workers {
		g.Go(func() error {
			defer done()
			f.verify(ctx, endpoint.Overlap(contested, f.rec.Ports), r.s.relocated)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: a verdict is not a failure
}

// verify verifies one recorded process. contested says that another hive claims its port:
// then whose worker it is cannot be told. relocated is the first start with a copied or
// restored file: the hive that it is from starts what waits.
func (f *recordedWorker) verify(ctx context.Context, contested, relocated bool) {
	switch {
	case f.rec.State == store.WorkerBackoff && relocated:
		f.verdict, f.why = proc.Dead, "it waited for a new start in a state file that was copied or restored: it is started only on request"
		return
	case f.rec.State == store.WorkerBackoff:
		f.verdict, f.restart = proc.Dead, true // it goes on waiting for its next start
		return
	case f.rec.Identity == nil:
		f.verdict, f.why = proc.Dead, "it has no process"
		return
	case contested:
		f.verdict, f.why = proc.Unknown, "another hive on this machine claims its port"
		return
	case ctx.Err() != nil:
		f.verdict, f.why = proc.Unknown, "there was no time to verify it"
		return
	}
	p, verdict, err := proc.Adopt(*f.rec.Identity)
	f.process, f.verdict = p, verdict
	if reason := errors.Unwrap(err); reason != nil {
		f.why = reason.Error()
	}
	if verdict == proc.Dead {
		// It is not our child, so there is no wait status; new kernels keep the exit all the same.
		f.exit = proc.LastExit(*f.rec.Identity)
	}
	if verdict == proc.Alive && f.rec.State == store.WorkerSpawning {
		f.verifyGate(ctx)
	}
}

// verifyGate waits until a process that was recorded as spawning has executed
// its program or is gone: its gate saw either the byte or end-of-file.
func (f *recordedWorker) verifyGate(ctx context.Context) {
	for deadline := time.Now().Add(gateTimeout); f.process.AtGate(); {
		select {
		case <-f.process.Done():
			f.verdict, f.why = proc.Dead, "hive was killed before its program was executed"
		case <-ctx.Done():
			f.verdict, f.why = proc.Unknown, "there was no time to verify it"
		case <-time.After(gatePollInterval):
			if time.Now().Before(deadline) {
				continue
			}
			f.verdict, f.why = proc.Unknown, "it waits at its gate and should have gone"
		}
		f.process.Close()
		f.process = nil
		return
	}
	if f.process.Ended() { // a gate that has just gone is not at its gate either
		f.verdict, f.why = proc.Dead, "hive was killed before its program was executed"
		f.process.Close()
		f.process = nil
	}
}

// FindLeases looks up the leases of the dead.
func (r *Recovery) FindLeases(tx *store.Tx) error {
	for _, f := range r.workers {
		if f.verdict != proc.Dead {
			continue
		}
		l, err := tx.Lease(f.rec.Port)
		switch {
		// None, or another's by now: there is nothing to free, and no port to start it on again.
		case errors.Is(err, store.ErrNotFound) || (err == nil && l.LeaseID != f.rec.LeaseID):
		case err != nil:
			return err
		default:
			f.lease = &l
		}
	}
	return nil
}

// EndTrees ends what dead workers have left behind, and finds out which ports can still
// be reached. Where time or the system does not let it, the worker stays unverified and
// keeps its record: a later review ends the rest. In the first start with a copied or
// restored file nothing is ended: it may belong to somebody else.
func (r *Recovery) EndTrees(ctx context.Context) {
	var dead []*recordedWorker
	var trees []*proc.Tree
	for _, f := range r.workers {
		// The trees of those in backoff were ended before their wait began.
		if f.verdict == proc.Dead && !f.restart {
			dead, trees = append(dead, f), append(trees, r.s.launcher.Tree(f.rec, nil))
		}
	}
	if len(dead) == 0 {
		return
	}
	// One walk of /proc for all: one for each of 1,900 workers would take longer than recovery may.
	members, err := proc.SurveyMembers(ctx, trees)
	var g errgroup.Group
	g.SetLimit(maxProcReaders)
	for i, f := range dead {
		rest := leftovers{members: members[i], err: err}
		g.Go(func() error {
			if !r.s.relocated && err == nil && (len(rest.members) > 0 || f.rec.Cgroup != "") {
				rest.members, rest.err = trees[i].Stop(ctx, f.rec.Spec.Stop) // removes an empty cgroup, too
			}
			// Not freed: what is left may still serve on the port.
			if rest.err != nil {
				f.verdict, f.why = proc.Unknown, "what it left behind could not be ended: "+rest.err.Error()
			} else if len(rest.members) > 0 {
				f.left = true
				f.quarantine = r.s.whyQuarantine(f.rec.Ports, rest)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: what is left is in quarantine and verdict
	r.findListeners(ctx, dead)
}

// findListeners looks once for all who have the ports of the dead.
func (r *Recovery) findListeners(ctx context.Context, dead []*recordedWorker) {
	dead = slices.DeleteFunc(dead, func(f *recordedWorker) bool { return f.verdict != proc.Dead || f.quarantine != "" })
	var lists [][]uint16
	for _, f := range dead {
		lists = append(lists, f.rec.Ports)
	}
	for i, why := range r.s.ports.WhyHeld(ctx, lists) {
		dead[i].quarantine = why
	}
}

// FinishRestart has a restart finished that a job had begun: the worker's process was ended
// for it, or was about to be. In the first start with a copied or restored file it is not.
func (r *Recovery) FinishRestart(workerID, jobID string) {
	for _, f := range r.workers {
		// Asked to stop since.
		if f.rec.WorkerID != workerID || f.rec.Desired == store.DesiredStopped || r.s.relocated {
			continue
		}
		// With the id of the job it was started, but perhaps nothing has run behind its gate; or it is
		// this job's since the last recovery, which went on with its stop.
		if f.rec.JobID != jobID || f.rec.State == store.WorkerSpawning || f.rec.RestartJob == jobID {
			f.restartJob = jobID
		}
	}
}

// DecideRestarts finds the dead workers that are started again once hive serves, on their
// ports. An end with the machine is no failure of theirs. In the first start with a copied
// or restored file there are none: the hive that the file is from may run them.
func (r *Recovery) DecideRestarts() {
	now := time.Now()
	for _, f := range r.workers {
		if f.restartJob != "" && f.decideFinish(now) {
			continue
		}
		// Without a lease the ports may be another's by now; a quarantined one still has a listener.
		out := f.outcome(now)
		if f.verdict != proc.Dead || f.restart || f.lease == nil || f.quarantine != "" || out.then != lifecycle.Retry || r.s.relocated {
			continue
		}
		before, booted := f.rec.Failures, f.rec.Identity != nil && bootedSince(*f.rec.Identity)
		// A reboot ends every process: that says nothing about the program, and neither do failures before it.
		if booted {
			before = nil
		}
		exit := out.exit
		if f.rec.State == store.WorkerStopping { // it was being given up: see nextStart
			exit = nil
		}
		wait, again := lifecycle.NextStart(f.rec.Spec.Restart, before, f.rec.ReadyAt != nil, exit, now, rand.Float64()) //nolint:gosec // a moment, no secret
		if !again {
			continue
		}
		if booted {
			wait = 0
		} else {
			f.rec.Failures = slices.Concat(lifecycle.Recent(f.rec.Failures, f.rec.Spec.Restart.Window, now), []time.Time{now.UTC()})
		}
		next := now.Add(wait).UTC()
		f.restart, f.rec.NextTry = true, &next
	}
}

// decideFinish finds out whether the restart that a job had begun can be finished.
func (f *recordedWorker) decideFinish(now time.Time) bool {
	switch {
	case f.verdict == proc.Dead && f.lease != nil && f.quarantine == "":
		// It was asked for, whatever the policy says, and what came before does not count.
		at := now.UTC()
		f.restart, f.rec.NextTry, f.rec.Failures = true, &at, nil
	case f.verdict == proc.Alive && f.rec.State == store.WorkerStopping: // adoptWorker goes on with it
	default:
		f.restartJob = ""
		return false
	}
	f.rec.JobID = f.restartJob // which waits for the new start
	return true
}

// Restarts reports whether the restart of a worker that a job had begun is finished.
func (r *Recovery) Restarts(workerID, jobID string) bool {
	return slices.ContainsFunc(r.workers, func(f *recordedWorker) bool {
		return f.rec.WorkerID == workerID && f.restartJob == jobID
	})
}

// bootedSince reports whether the machine has been booted since a process was recorded.
func bootedSince(id store.Identity) bool {
	boot, err := proc.BootID()
	return err == nil && boot != id.BootID
}

// outcome is how a worker that recovery found dead has ended.
func (f *recordedWorker) outcome(now time.Time) outcome {
	exit := f.exit
	// Not known either: it is at least not later than now.
	if exit.At.IsZero() {
		exit.At = now
	}
	out := outcome{then: lifecycle.Retry, exit: &exit, reason: "it ended while hive was not running: " + f.why}
	switch {
	case f.left:
		out.then, out.reason = lifecycle.Fail, "could not be stopped wholly: "+f.quarantine
	case f.rec.Desired == store.DesiredStopped:
		out.then, out.reason = lifecycle.Stop, "stopped on request"
	case f.rec.State == store.WorkerStopping:
		out.reason = f.rec.Reason // it was being given up
	}
	return out
}

// StopWorker has a living worker stopped once hive serves. That is recorded with the rest
// of the recovery: a stop that is only remembered is lost when hive is killed once more
// before it has begun, and the worker would stay for good.
func (r *Recovery) StopWorker(workerID, why string) {
	// It may be the other hive's.
	if r.s.relocated {
		return
	}
	for _, f := range r.workers {
		if f.rec.WorkerID == workerID {
			f.rec.Desired, f.rec.Reason = store.DesiredStopped, why
		}
	}
}

// Find returns a worker that had not ended, and whether it lives. After Record it is as
// it was recorded.
func (r *Recovery) Find(workerID string) (rec store.Worker, alive bool) {
	for _, f := range r.workers {
		if f.rec.WorkerID == workerID {
			return f.rec, f.verdict == proc.Alive
		}
	}
	return store.Worker{}, false
}

// Freed returns the leases that end with this recovery.
func (r *Recovery) Freed() (free []store.Lease) {
	for _, f := range r.workers {
		if f.verdict == proc.Dead && f.quarantine == "" && f.lease != nil && !f.restart {
			free = append(free, *f.lease)
		}
	}
	return free
}

// Counts is what became of the workers.
func (r *Recovery) Counts() (c Counts) {
	for _, f := range r.workers {
		switch {
		case f.verdict == proc.Alive:
			c.Adopted++
		case f.verdict == proc.Unknown:
			c.Unverified++
		case f.restart:
			c.Restarted++
		case f.quarantine == "":
			c.Freed++
		}
	}
	return c
}

// Abort lets go of the processes of a recovery that is given up.
func (r *Recovery) Abort() {
	for _, f := range r.workers {
		if f.process != nil {
			f.process.Close()
		}
	}
}

// Adopt takes over the living workers and supervises them.
func (r *Recovery) Adopt() {
	var ended []store.Worker
	for _, f := range r.workers {
		switch f.verdict {
		case proc.Alive:
			// All at once would be a burst of probes just when clients come back.
			r.s.adoptWorker(f, rand.N(time.Duration(len(r.workers))*time.Millisecond+probe.FirstInterval)) //nolint:gosec // a moment, no secret
		case proc.Dead:
			if f.restart {
				// Not before hive serves: clients that wait for the living come before new starts.
				w := r.s.newWorker(f.rec, nil, nil)
				r.s.registry.add(w)
				r.s.run.WhenServing(func() { w.ensureSupervisor(0) })
				continue
			}
			// Only now that the end is recorded: else a hive killed in between would write it twice.
			logExit(f.rec)
			ended = append(ended, f.rec)
		case proc.Unknown:
			r.s.registry.add(r.s.newWorker(f.rec, nil, nil))
		}
	}
	r.s.registry.addEnded(ended) // the supervisors are at work already
}

// adoptWorker makes the worker of a living process, and goes on with its stop if it was
// being stopped.
func (s *Supervisor) adoptWorker(f *recordedWorker, first time.Duration) {
	w := s.newWorker(f.rec, f.process, nil)
	// Before follow: the supervisor's first verdict depends on it.
	w.fromCopiedState.Store(s.relocated)
	s.registry.add(w)
	w.follow(first)
	if f.rec.State == store.WorkerStopping && !w.fromCopiedState.Load() {
		req := stopRequest{reason: f.rec.Reason}
		if f.restartJob != "" {
			req.jobID, req.restart = f.restartJob, &restartRequest{begun: make(chan error, 1), reason: ReasonRequested}
		}
		s.run.WhenServing(func() {
			s.run.Go(func() { _, _ = w.deliver(s.run.Context(), req) }) // fails only if the hive closes
		})
	}
}

// AwaitFirstProbes waits until the adopted workers have been probed, or ctx ends.
func (s *Supervisor) AwaitFirstProbes(ctx context.Context) {
	// Unverified ones are never probed: with one of them this waits until ctx ends.
	for _, w := range s.registry.where(func(*worker) bool { return true }) {
		select {
		case <-w.started():
		case <-ctx.Done():
			return
		case <-s.run.Context().Done():
			return
		}
	}
}
