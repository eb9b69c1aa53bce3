package hive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// outcome is how a worker ended.
type outcome struct {
	state   store.WorkerState // stopped or failed
	reason  string
	exit    *store.Exit
	jobID   string
	failure *failure // nil if it ended on request
}

// runStop carries out worker_stop and worker_process_delete.
func (h *Hive) runStop(ctx context.Context, j *job, find func() *worker, missing string) (any, error) {
	w := find()
	if w == nil {
		return nil, fail(CodeNotFound, "%s", missing)
	}
	rec := w.record()
	if w.proc == nil {
		return nil, fail(CodeStopIncomplete, "it cannot be verified that pid %d is still worker %s (%s), so it is not touched", rec.Identity.PID, rec.WorkerID, rec.Reason)
	}
	j.begin(rec.WorkerID, time.Now().UTC())
	if err := w.requestStop(ctx, stopRequest{jobID: j.id(), reason: "stopped on request"}); err != nil {
		return nil, err
	}
	if w.failure != nil && w.failure.Code == CodeStopIncomplete {
		return nil, w.failure
	}
	return map[string]any{"worker_id": rec.WorkerID, "name": orNull(rec.Name), "port": rec.Port, "status": "stopped"}, nil
}

// requestStop has a supervisor stop the worker and waits until it has ended.
func (w *worker) requestStop(ctx context.Context, req stopRequest) error {
	w.mu.Lock()
	w.callers++ // before attend: a supervisor that is there does not rest now
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.callers--
		w.mu.Unlock()
	}()
	w.attend(0)
	select {
	case w.stops <- req:
	case <-w.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.h.ctx.Done():
		return errClosing
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.h.ctx.Done():
		return errClosing
	}
}

// stop ends the worker on request. Only its supervisor calls it.
func (w *worker) stop(ctx context.Context, req stopRequest) {
	out := outcome{state: store.WorkerStopped, reason: req.reason, jobID: req.jobID}
	if rec := w.record(); rec.State == store.WorkerStopping && rec.Desired == store.DesiredRunning {
		out.state = store.WorkerFailed // a restart of hive came between giving it up and its end
	}
	w.bringDown(ctx, out)
}

// giveUp ends a worker that cannot become ready. Only its supervisor calls it.
func (w *worker) giveUp(ctx context.Context, f *failure) {
	rec := w.record()
	f.Log = lastLines(rec.Log, logTail)
	w.bringDown(ctx, outcome{state: store.WorkerFailed, reason: f.Message, jobID: w.jobID(), failure: f})
}

// logTail is how many lines of a worker's log a failed job shows.
const logTail = 20

func (w *worker) bringDown(ctx context.Context, out outcome) {
	if w.recordStopping(out) != nil {
		return
	}
	left, err := w.tree.Stop(ctx, w.record().Spec.Stop)
	if ctx.Err() != nil {
		return // the record says stopping: the next recovery goes on with it
	}
	if err != nil {
		w.h.cfg.Log.WithError(err).WithField("worker", w.id()).Warn("stopping a worker was not clean")
	}
	select {
	case <-w.proc.Done():
		exit := w.proc.Exit()
		out.exit = &exit
	default:
		w.proc.Close()
	}
	w.finish(ctx, out, left)
}

// recordStopping says in the file that the worker is being stopped, before
// anything is done to it.
func (w *worker) recordStopping(out outcome) error {
	rec := w.record()
	rec.State, rec.Reason = store.WorkerStopping, out.reason
	if out.state == store.WorkerStopped {
		rec.Desired = store.DesiredStopped
	}
	err := w.h.settle(func(b *batch) error {
		lease, err := b.Lease(rec.Port)
		if err != nil {
			return err
		}
		lease.State = store.LeaseReleasing
		if err := b.PutLease(lease); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		if err := b.beginJob(w.h, out.jobID); err != nil {
			return err
		}
		return b.workerEvent(rec, out.jobID, rec.WorkerID+" is being stopped: "+out.reason)
	})
	if err != nil {
		w.h.logUnlessClosing(err, "record that a worker is being stopped", rec.WorkerID)
		return err
	}
	w.snap.Store(&rec)
	return nil
}

// beginJob writes that a job is running, if it is one of the active jobs.
func (b *batch) beginJob(h *Hive, id string) error {
	h.mu.Lock()
	j := h.jobs[id]
	h.mu.Unlock()
	if j == nil {
		return nil
	}
	rec := j.begin("", b.Now())
	return b.PutJob(rec)
}

// died ends a worker whose main process has exited by itself. What remains of
// its tree is ended too: a dead main process is not a dead worker.
func (w *worker) died(ctx context.Context) {
	rec := w.record()
	exit := w.proc.Exit()
	f := fail(CodeExitedEarly, "%s before it was ready", describeExit(exit))
	if rec.State == store.WorkerReady {
		f = fail(CodeExitedEarly, "%s", describeExit(exit))
	}
	f.Log = lastLines(rec.Log, logTail)
	left, err := w.h.treeOf(rec, nil).Stop(ctx, rec.Spec.Stop)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.h.cfg.Log.WithError(err).WithField("worker", rec.WorkerID).Warn("ending the rest of a worker was not clean")
	}
	w.finish(ctx, outcome{state: store.WorkerFailed, reason: f.Message, exit: &exit, jobID: w.jobID(), failure: f}, left)
}

func describeExit(e store.Exit) string {
	oom := ""
	if e.OOM {
		oom = " (out of memory)"
	}
	switch {
	case e.Signal != "":
		return "killed by " + e.Signal + oom
	case e.Code != nil:
		return "exited with code " + strconv.Itoa(*e.Code) + oom
	}
	return "exited, its code is unknown"
}

// finish records the end of a worker and frees its port, unless somebody can
// still be reached there: then the port is quarantined.
func (w *worker) finish(ctx context.Context, out outcome, left []proc.Member) {
	rec := w.record()
	keep := w.h.whyQuarantine(ctx, rec.Port, left)
	if len(left) > 0 {
		out.state, out.reason = store.WorkerFailed, "could not be stopped wholly: "+keep
		out.failure = fail(CodeStopIncomplete, "%s; port %d is quarantined", keep, rec.Port)
	}
	rec = ended(rec, out)
	logExit(rec)
	end := func(b *batch) error {
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		return b.workerEvent(rec, out.jobID, rec.WorkerID+" "+string(rec.State)+": "+rec.Reason)
	}
	var err error
	if keep == "" {
		closure, committed := w.h.batched(end)
		if err = w.h.alloc.Release(context.Background(), rec.Port, rec.LeaseID, closure); err == nil {
			committed()
		}
	} else {
		err = w.h.settle(func(b *batch) error { return errors.Join(b.quarantine(rec, out.jobID, keep), end(b)) })
	}
	if err != nil {
		w.h.logUnlessClosing(err, "record the end of a worker", rec.WorkerID)
		return
	}
	w.failure = out.failure
	w.snap.Store(&rec)
	w.h.retire(w)
	close(w.ended) // before settled: who waits for that looks at ended next
	w.settle()
}

func ended(rec store.Worker, out outcome) store.Worker {
	now := time.Now().UTC()
	rec.State, rec.Reason, rec.Exit, rec.EndedAt = out.state, out.reason, out.exit, &now
	return rec
}

// quarantine keeps the lease of an ended worker: its holder is gone, and
// somebody may still be reached on the port.
func (b *batch) quarantine(rec store.Worker, jobID, why string) error {
	lease, err := b.Lease(rec.Port)
	if err != nil {
		return err
	}
	lease.State, lease.Identity = store.LeaseQuarantined, nil
	if err := b.PutLease(lease); err != nil {
		return err
	}
	return b.event(store.EventAudit, jobID, rec.WorkerID, fmt.Sprintf("port %d is quarantined: %s", rec.Port, why),
		map[string]any{"port": rec.Port, "lease_id": lease.LeaseID})
}

// whyQuarantine says why a port cannot be given out again; empty if it can.
func (h *Hive) whyQuarantine(ctx context.Context, port uint16, left []proc.Member) string {
	if len(left) > 0 {
		var names []string
		for _, m := range left {
			names = append(names, fmt.Sprintf("%s (pid %d)", m.Program, m.PID))
		}
		return "these processes could not be ended: " + strings.Join(names, ", ")
	}
	snap, err := h.sockets.Port(ctx, port)
	if err != nil {
		return "the socket table cannot be read: " + err.Error()
	}
	return stillHeld(ctx, snap, port)
}

// stillHeld says who has a port; empty if nobody has.
func stillHeld(ctx context.Context, snap *sockets.Snapshot, port uint16) string {
	if socks := snap.Listeners(port); len(socks) > 0 {
		return describeHolders(ctx, socks) + " still has it"
	}
	return ""
}

func logExit(rec store.Worker) {
	what := "unknown exit"
	if rec.Exit != nil {
		what = describeExit(*rec.Exit)
	}
	pid := 0
	if rec.Identity != nil {
		pid = rec.Identity.PID
	}
	logLine(rec.Log, "exited pid %d port %d %s: %s", pid, rec.Port, rec.EndedAt.UTC().Format(time.RFC3339), what)
}
