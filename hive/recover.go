package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Bounds of recovery.
const (
	recoveryLimit = 15 * time.Second // for judging all records and ending dead workers' trees
	gatePatience  = 2 * time.Second  // a gate whose hive died sees end-of-file and exits
	gateGlance    = 2 * time.Millisecond
	claimPatience = time.Second // for a claim that a killed hive's child still holds
	procReaders   = 4           // readers of /proc at once: more only make threads
)

// found is what recovery knows about one recorded worker.
type found struct {
	rec     store.Worker
	lease   *store.Lease // of a dead one; nil: it has none
	verdict proc.Verdict
	process *proc.Process // if alive
	why     string        // why it is dead or cannot be judged
	exit    store.Exit    // how a dead one ended, as far as it can be known
	keep    string        // why a dead worker's port stays quarantined
	left    bool          // it is because processes of it could not be ended
	again   bool          // a dead worker is started again once hive serves
}

// ledger is what the state file says at the start.
type ledger struct {
	found  []*found
	leases []*foundLease // of programs that hive did not start
	active []store.Job   // jobs that have not ended
}

// Recover compares the state file with the processes: it adopts the living,
// ends what the dead left behind and frees their ports, keeps what it cannot
// judge, and settles the jobs that ran. Nothing is freed because time ran out.
// It blocks for 15 s at most, besides the reads of the file and of the socket
// table; the hive serves when it returns nil.
func (h *Hive) Recover(ctx context.Context) error {
	begun := time.Now()
	if err := h.endCommands(ctx); err != nil {
		return err
	}
	var led *ledger
	var g errgroup.Group
	g.Go(func() (err error) { led, err = h.load(); return err })
	g.Go(func() error { return h.alloc.Rebuild(ctx) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, recoveryLimit)
	defer cancel()
	h.judgeAll(limited, led)
	if err := h.findLeases(led); err != nil {
		led.letGo()
		return fmt.Errorf("read the leases: %w", err)
	}
	h.endTrees(limited, led)
	h.decideRestarts(led)
	if err := ctx.Err(); err != nil {
		led.letGo()
		return err
	}
	if err := h.recordRecovery(led); err != nil {
		led.letGo()
		return fmt.Errorf("record the recovery: %w", err)
	}
	result := h.adopt(led)
	h.takeBackLeases(led.leases)
	result.Took = time.Since(begun)
	h.metrics.recovery.Observe(result.Took.Seconds())
	h.recovery.Store(&result)
	h.afterwards(led)
	h.begin()
	h.serving.Store(true)
	return nil
}

func (l *ledger) letGo() {
	for _, f := range l.found {
		if f.process != nil {
			f.process.Close()
		}
	}
	for _, f := range l.leases {
		if f.process != nil {
			f.process.Close()
		}
	}
}

func (h *Hive) load() (*ledger, error) {
	led := &ledger{}
	err := h.store.View(func(tx *store.Tx) error {
		for rec, err := range tx.Workers() {
			if err != nil {
				return err
			}
			if rec.State.Ended() {
				h.dead = append(h.dead, rec)
				continue
			}
			led.found = append(led.found, &found{rec: rec})
		}
		for job, err := range tx.ActiveJobs() {
			if err != nil {
				return err
			}
			led.active = append(led.active, job)
		}
		leases, err := foreignLeases(tx)
		led.leases = leases
		return err
	})
	sortByEnd(h.dead)
	h.total.Store(int64(len(led.found)))
	return led, err
}

// judgeAll verifies every recorded process. What is not judged in time stays
// unknown.
func (h *Hive) judgeAll(ctx context.Context, led *ledger) {
	contested := h.contested(ctx)
	var g errgroup.Group
	g.SetLimit(procReaders)
	for _, f := range led.found {
		g.Go(func() error {
			defer h.done.Add(1)
			f.judge(ctx, overlap(contested, f.rec.Ports), h.store.Meta().Relocated)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: a verdict is not a failure
	h.judgeLeases(ctx, led.leases, contested)
}

// contested returns the leased ports that another hive claims. A claim can be
// held for a moment by a child of a killed hive that has not become the gate
// yet, so they are asked for again for a while.
func (h *Hive) contested(ctx context.Context) []uint16 {
	for deadline := time.Now().Add(claimPatience); ; {
		ports := h.alloc.Contested()
		if len(ports) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return ports
		}
		time.Sleep(time.Millisecond)
	}
}

func overlap(a, b []uint16) bool {
	return slices.ContainsFunc(a, func(port uint16) bool { return slices.Contains(b, port) })
}

// judge verifies one recorded process. contested says that another hive claims
// its port: then whose worker it is cannot be told. relocated is the first start
// with a copied or restored file: the hive that it is from starts what waits.
func (f *found) judge(ctx context.Context, contested, relocated bool) {
	switch {
	case f.rec.State == store.WorkerBackoff && relocated:
		f.verdict, f.why = proc.Dead, "it waited for a new start in a state file that was copied or restored: it is started only on request"
		return
	case f.rec.State == store.WorkerBackoff:
		f.verdict, f.again = proc.Dead, true // it goes on waiting for its next start
		return
	case f.rec.Identity == nil:
		f.verdict, f.why = proc.Dead, "it has no process"
		return
	case contested:
		f.verdict, f.why = proc.Unknown, "another hive on this machine claims its port"
		return
	case ctx.Err() != nil:
		f.verdict, f.why = proc.Unknown, "there was no time to judge it"
		return
	}
	p, verdict, err := proc.Adopt(*f.rec.Identity)
	f.process, f.verdict = p, verdict
	if reason := errors.Unwrap(err); reason != nil {
		f.why = reason.Error()
	}
	if verdict == proc.Dead {
		f.exit = proc.LastExit(*f.rec.Identity)
	}
	if verdict == proc.Alive && f.rec.State == store.WorkerSpawning {
		f.judgeGate(ctx)
	}
}

// judgeGate waits until a process that was recorded as spawning has executed
// its program or is gone: its gate saw either the byte or end-of-file.
func (f *found) judgeGate(ctx context.Context) {
	for deadline := time.Now().Add(gatePatience); f.process.AtGate(); {
		select {
		case <-f.process.Done():
			f.verdict, f.why = proc.Dead, "hive was killed before its program was executed"
		case <-ctx.Done():
			f.verdict, f.why = proc.Unknown, "there was no time to judge it"
		case <-time.After(gateGlance):
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

// findLeases looks up the leases of the dead.
func (h *Hive) findLeases(led *ledger) error {
	return h.store.View(func(tx *store.Tx) error {
		for _, f := range led.found {
			if f.verdict != proc.Dead {
				continue
			}
			l, err := tx.Lease(f.rec.Port)
			switch {
			case errors.Is(err, store.ErrNotFound) || (err == nil && l.LeaseID != f.rec.LeaseID):
			case err != nil:
				return err
			default:
				f.lease = &l
			}
		}
		return nil
	})
}

// endTrees ends what dead workers have left behind, and finds out which ports
// can still be reached. Where time or the system does not let it, the worker
// stays unjudged and keeps its record: a later review ends the rest. In the
// first start with a copied or restored file nothing is ended: it may belong to
// somebody else.
func (h *Hive) endTrees(ctx context.Context, led *ledger) {
	var dead []*found
	var trees []*proc.Tree
	for _, f := range led.found {
		if f.verdict == proc.Dead && !f.again {
			dead, trees = append(dead, f), append(trees, h.treeOf(f.rec, nil))
		}
	}
	if len(dead) == 0 {
		return
	}
	members, err := proc.SurveyMembers(ctx, trees)
	var g errgroup.Group
	g.SetLimit(procReaders)
	for i, f := range dead {
		rest := remains{members[i], err}
		hands := !h.store.Meta().Relocated
		g.Go(func() error {
			if hands && err == nil && (len(rest.members) > 0 || f.rec.Cgroup != "") {
				rest.members, rest.err = trees[i].Stop(ctx, f.rec.Spec.Stop) // removes an empty cgroup, too
			}
			if rest.err != nil {
				f.verdict, f.why = proc.Unknown, "what it left behind could not be ended: "+rest.err.Error()
			} else if len(rest.members) > 0 {
				f.left = true
				f.keep = h.whyQuarantine(f.rec.Ports, rest)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: what is left is in keep and verdict
	h.findListeners(ctx, dead)
}

// findListeners looks once for all who have the ports of the dead.
func (h *Hive) findListeners(ctx context.Context, dead []*found) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	snap, err := h.sockets.Snapshot(ctx, 0)
	for _, f := range dead {
		switch {
		case f.verdict != proc.Dead || f.keep != "":
		case err != nil:
			f.keep = "the socket table cannot be read: " + err.Error()
		default:
			f.keep = stillHeld(ctx, snap, f.rec.Ports)
		}
	}
}

// adopt takes back the living workers and starts their supervisors.
func (h *Hive) adopt(led *ledger) Recovery {
	var dead []store.Worker
	for _, f := range led.found {
		switch f.verdict {
		case proc.Alive:
			// All at once would be a burst of probes just when clients come back.
			h.takeBack(f, rand.N(time.Duration(len(led.found))*time.Millisecond+firstLook)) //nolint:gosec // a moment, no secret
		case proc.Dead:
			if f.again {
				h.startLater(f.rec)
				continue
			}
			logExit(f.rec)
			dead = append(dead, f.rec)
		case proc.Unknown:
			h.enlist(h.newWorker(f.rec, nil, nil))
		}
	}
	h.mu.Lock()
	h.dead = append(h.dead, dead...) // the supervisors are at work already
	h.mu.Unlock()
	return led.counts()
}

// counts is what became of the workers.
func (l *ledger) counts() (r Recovery) {
	for _, f := range l.found {
		switch {
		case f.verdict == proc.Alive:
			r.Adopted++
		case f.verdict == proc.Unknown:
			r.Unverified++
		case f.again:
			r.Restarted++
		case f.keep == "":
			r.Freed++
		}
	}
	return r
}

// takeBack makes the worker of a living process, and goes on with its stop if
// it was being stopped.
func (h *Hive) takeBack(f *found, first time.Duration) {
	w := h.newWorker(f.rec, f.process, nil)
	w.inherited.Store(h.store.Meta().Relocated)
	h.enlist(w)
	w.follow(first)
	if f.rec.State == store.WorkerStopping && !w.inherited.Load() {
		h.later(func() {
			h.spawnGoroutine(func() { _ = w.requestStop(h.ctx, stopRequest{reason: f.rec.Reason}) })
		})
	}
}

// decideRestarts finds the dead workers that are started again once hive serves,
// on their ports. An end with the machine is no failure of theirs. In the first
// start with a copied or restored file there are none: the hive that the file is
// from may run them.
func (h *Hive) decideRestarts(led *ledger) {
	now := time.Now()
	for _, f := range led.found {
		out := f.outcome(now)
		if f.verdict != proc.Dead || f.again || f.lease == nil || f.keep != "" || out.then != thenRetry || h.store.Meta().Relocated {
			continue
		}
		before, booted := f.rec.Failures, f.rec.Identity != nil && bootedSince(*f.rec.Identity)
		if booted {
			before = nil
		}
		wait, again := retry(f.rec.Spec.Restart, before, f.rec.ReadyAt != nil, out.exit, now, rand.Float64()) //nolint:gosec // a moment, no secret
		if !again {
			continue
		}
		if booted {
			wait = 0
		} else {
			f.rec.Failures = slices.Concat(recent(f.rec.Failures, f.rec.Spec.Restart.Window, now), []time.Time{now.UTC()})
		}
		next := now.Add(wait).UTC()
		f.again, f.rec.NextTry = true, &next
	}
}

// bootedSince reports whether the machine has been booted since a process was recorded.
func bootedSince(id store.Identity) bool {
	boot, err := proc.BootID()
	return err == nil && boot != id.BootID
}

// startLater has a worker in backoff attended to once hive serves.
func (h *Hive) startLater(rec store.Worker) {
	w := h.newWorker(rec, nil, nil)
	h.enlist(w)
	h.later(func() { w.attend(0) })
}

// later has f called once the hive serves: at once if it does.
func (h *Hive) later(f func()) {
	h.mu.Lock()
	if h.running {
		h.mu.Unlock()
		f()
		return
	}
	h.resume = append(h.resume, f)
	h.mu.Unlock()
}

// afterwards notes what is begun once the hive serves: queued jobs, the sweep
// for processes without a record, and the full check of the file.
func (h *Hive) afterwards(led *ledger) {
	for _, rec := range led.active {
		h.later(func() { h.restart(rec) })
	}
	h.later(func() { h.spawnGoroutine(h.lookAround) })
	h.later(func() { h.spawnGoroutine(h.autostart) })
}

// lookAround does what need not be done before serving: the sweep, the full
// check of the file, and giving back the memory that all this took.
func (h *Hive) lookAround() {
	h.sweep(h.ctx)
	h.examine()
	h.awaitLooks()
	debug.FreeOSMemory() // a start needs several times the memory of the time after it
}

// awaitLooks waits, for a while, until the adopted workers have been looked at.
func (h *Hive) awaitLooks() {
	deadline := time.After(recoveryLimit)
	h.mu.Lock()
	workers := slices.Collect(maps.Values(h.workers))
	h.mu.Unlock() // before worker.mu is taken
	for _, w := range workers {
		select {
		case <-w.whenSettled():
		case <-deadline:
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// restart begins a job that was queued when hive was stopped.
func (h *Hive) restart(rec store.Job) {
	h.active.Add(1)
	op, err := h.Decode(rec.Request)
	if err == nil {
		h.start(rec, op)
		return
	}
	h.active.Add(-1)
	err = h.settle(func(b *batch) error {
		return h.endJob(b, &rec, store.JobFailed, nil, &fail(CodeInterrupted, "it can no longer be carried out: %v", err).JobError)
	})
	if err != nil {
		h.logUnlessClosing(err, "record the end of a job", rec.JobID)
	}
}
