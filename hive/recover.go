package hive

import (
	"context"
	"errors"
	"fmt"
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
	claimPatience = time.Second      // for a claim that a killed hive's child still holds
	procReaders   = 4                // readers of /proc at once: more only make threads
)

// found is what recovery knows about one recorded worker.
type found struct {
	rec     store.Worker
	lease   *store.Lease // looked up unless it is alive; nil: it has none
	verdict proc.Verdict
	process *proc.Process // if alive
	why     string        // why it is dead or cannot be judged
	keep    string        // why a dead worker's port stays quarantined
}

// ledger is what the state file says at the start.
type ledger struct {
	found  []*found
	active []store.Job // jobs that have not ended
}

// Recover compares the state file with the processes: it adopts the living,
// ends what the dead left behind and frees their ports, keeps what it cannot
// judge, and settles the jobs that ran. Nothing is freed because time ran out.
// It blocks for 15 s at most, besides the reads of the file; the hive serves
// when it returns nil.
func (h *Hive) Recover(ctx context.Context) error {
	begun := time.Now()
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
	if err := ctx.Err(); err != nil {
		led.letGo()
		return err
	}
	if err := h.recordRecovery(led); err != nil {
		led.letGo()
		return fmt.Errorf("record the recovery: %w", err)
	}
	result := h.adopt(led)
	result.Took = time.Since(begun)
	h.recovery.Store(&result)
	h.afterwards(led)
	h.serving.Store(true)
	return nil
}

func (l *ledger) letGo() {
	for _, f := range l.found {
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
		return nil
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
			f.judge(ctx, slices.Contains(contested, f.rec.Port))
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: a verdict is not a failure
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

// judge verifies one recorded process. contested says that another hive claims
// its port: then whose worker it is cannot be told.
func (f *found) judge(ctx context.Context, contested bool) {
	switch {
	case contested:
		f.verdict, f.why = proc.Unknown, "another hive on this machine claims its port"
		return
	case ctx.Err() != nil:
		f.verdict, f.why = proc.Unknown, "there was no time to judge it"
		return
	case f.rec.Identity == nil:
		f.verdict, f.why = proc.Dead, "it has no process"
		return
	}
	p, verdict, err := proc.Adopt(*f.rec.Identity)
	f.process, f.verdict = p, verdict
	if err != nil {
		f.why = err.Error()
	}
	if verdict != proc.Alive || f.rec.State != store.WorkerSpawning || !p.AtGate() {
		return
	}
	select {
	case <-p.Done():
		f.verdict, f.why = proc.Dead, "hive was killed before its program was executed"
	case <-ctx.Done():
		f.verdict, f.why = proc.Unknown, "there was no time to judge it"
	case <-time.After(gatePatience):
		f.verdict, f.why = proc.Unknown, "it waits at its gate and should have gone"
	}
	p.Close()
	f.process = nil
}

// findLeases looks up the leases that recovery is going to change.
func (h *Hive) findLeases(led *ledger) error {
	return h.store.View(func(tx *store.Tx) error {
		for _, f := range led.found {
			if f.verdict == proc.Alive && f.rec.State != store.WorkerUnverified {
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
// can still be reached. In the first start with a copied or restored file
// nothing is ended: it may belong to somebody else.
func (h *Hive) endTrees(ctx context.Context, led *ledger) {
	var dead []*found
	var trees []*proc.Tree
	for _, f := range led.found {
		if f.verdict == proc.Dead {
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
		left := members[i]
		if err != nil {
			f.keep = "what it left behind could not be looked for: " + err.Error()
			continue
		}
		if len(left) == 0 {
			continue
		}
		g.Go(func() error {
			if !h.store.Meta().Relocated {
				left, _ = trees[i].Stop(ctx, f.rec.Spec.Stop)
			}
			if len(left) > 0 {
				f.keep = h.whyQuarantine(ctx, f.rec.Port, left)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: what is left is in keep
	snap, err := h.sockets.Snapshot(ctx, 0)
	for _, f := range dead {
		switch {
		case f.keep != "":
		case err != nil:
			f.keep = "the socket table cannot be read: " + err.Error()
		default:
			f.keep = stillHeld(ctx, snap, f.rec.Port)
		}
	}
}

// recordRecovery writes everything that recovery decided in one transaction.
func (h *Hive) recordRecovery(led *ledger) error {
	var free []store.Lease
	for _, f := range led.found {
		if f.verdict == proc.Dead && f.keep == "" && f.lease != nil {
			free = append(free, *f.lease)
		}
	}
	closure, committed := h.batched(func(b *batch) error {
		for _, f := range led.found {
			if err := b.recordFound(f); err != nil {
				return err
			}
		}
		return h.settleJobs(b, led)
	})
	if err := h.alloc.ReleaseAll(context.Background(), free, closure); err != nil {
		return err
	}
	committed()
	return nil
}

func (b *batch) recordFound(f *found) error {
	before := f.rec.State
	switch f.verdict {
	case proc.Alive:
		if f.rec.State == store.WorkerSpawning || f.rec.State == store.WorkerUnverified {
			f.rec.State, f.rec.Reason = store.WorkerRunning, ""
		}
		if before == store.WorkerUnverified {
			if err := b.setLease(f.lease, store.LeaseHeld); err != nil {
				return err
			}
		}
	case proc.Dead:
		out := outcome{state: store.WorkerFailed, reason: "it ended while hive was not running: " + f.why, exit: &store.Exit{At: b.Now()}}
		if f.rec.Desired == store.DesiredStopped {
			out.state, out.reason = store.WorkerStopped, "stopped on request"
		}
		f.rec = ended(f.rec, out)
		if f.keep != "" && f.lease != nil {
			if err := b.quarantine(f.rec, "", f.keep); err != nil {
				return err
			}
		}
	case proc.Unknown:
		f.rec.State, f.rec.Reason = store.WorkerUnverified, f.why
		if err := b.setLease(f.lease, store.LeaseUnverified); err != nil {
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

func (b *batch) setLease(l *store.Lease, state store.LeaseState) error {
	if l == nil {
		return nil
	}
	l.State = state
	return b.PutLease(*l)
}

// settleJobs ends the jobs that a crash interrupted. Queued ones that are not
// too old stay queued and are begun once the hive serves.
func (h *Hive) settleJobs(b *batch, led *ledger) error {
	alive := map[string]store.Worker{}
	for _, f := range led.found {
		if f.verdict == proc.Alive {
			alive[f.rec.WorkerID] = f.rec
		}
	}
	var queued []store.Job
	for _, rec := range led.active {
		w, lives := alive[rec.WorkerID]
		var err error
		switch {
		case rec.State == store.JobRunning && rec.Operation == (Spawn{}).Tag() && lives:
			err = endJob(b, &rec, store.JobSucceeded, resultOf(w), nil)
		case rec.State == store.JobRunning:
			err = endJob(b, &rec, store.JobFailed, nil, &fail(CodeInterrupted, "hive was restarted while the job ran").JobError)
		case b.Now().Sub(rec.CreatedAt) > h.cfg.Jobs.MaxQueueAge:
			err = endJob(b, &rec, store.JobFailed, nil, &fail(CodeExpired, "queued for more than %s (jobs.max_queue_age)", h.cfg.Jobs.MaxQueueAge).JobError)
		default:
			queued = append(queued, rec)
		}
		if err != nil {
			return err
		}
	}
	led.active = queued
	return nil
}

// adopt takes back the living workers and starts their supervisors.
func (h *Hive) adopt(led *ledger) Recovery {
	var r Recovery
	for _, f := range led.found {
		switch f.verdict {
		case proc.Alive:
			r.Adopted++
			w := h.newWorker(f.rec, f.process)
			h.enlist(w)
			// All at once would be a burst of probes just when clients come back.
			first := rand.N(time.Duration(len(led.found))*time.Millisecond + firstLook)
			w.follow(first)
			if f.rec.State == store.WorkerStopping {
				h.resume = append(h.resume, func() {
					h.wg.Go(func() { _ = w.requestStop(h.ctx, stopRequest{reason: f.rec.Reason}) })
				})
			}
		case proc.Dead:
			r.Freed++
			logExit(f.rec)
			h.dead = append(h.dead, f.rec)
		case proc.Unknown:
			r.Unverified++
			h.enlist(h.newWorker(f.rec, nil))
		}
	}
	return r
}

// afterwards notes what is begun once the hive serves: queued jobs, the sweep
// for processes without a record, and the full check of the file.
func (h *Hive) afterwards(led *ledger) {
	for _, rec := range led.active {
		h.resume = append(h.resume, func() { h.restart(rec) })
	}
	h.resume = append(h.resume, func() { h.spawnGoroutine(h.lookAround) })
}

// lookAround does what need not be done before serving: the sweep, the full
// check of the file, and giving back the memory that all this took.
func (h *Hive) lookAround() {
	h.sweep(h.ctx)
	if err := h.store.Check(h.ctx); err != nil && h.ctx.Err() == nil {
		h.cfg.Log.WithError(err).Error("the state file is damaged: stop hive and look at it before it is relied on")
	}
	h.awaitLooks()
	debug.FreeOSMemory() // a start needs several times the memory of the time after it
}

// awaitLooks waits, for a while, until the adopted workers have been looked at.
func (h *Hive) awaitLooks() {
	deadline := time.After(recoveryLimit)
	h.mu.Lock()
	var settled []<-chan struct{}
	for _, w := range h.workers {
		settled = append(settled, w.settled)
	}
	h.mu.Unlock()
	for _, ch := range settled {
		select {
		case <-ch:
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
		return endJob(b, &rec, store.JobFailed, nil, &fail(CodeInterrupted, "it can no longer be carried out: %v", err).JobError)
	})
	if err != nil {
		h.logUnlessClosing(err, "record the end of a job", rec.JobID)
	}
}
