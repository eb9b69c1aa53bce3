package hive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
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
		// A stop that goes on after a restart finds its worker ended as it was asked to.
		if id := j.record().WorkerID; id != "" {
			if rec, err := h.Worker(id); err == nil && rec.State == store.WorkerStopped {
				return stopResult(rec), nil
			}
		}
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
	return stopResult(rec), nil
}

// stopResult is the result of worker_stop and worker_process_delete.
func stopResult(rec store.Worker) map[string]any {
	return map[string]any{"worker_id": rec.WorkerID, "name": orNull(rec.Name), "port": rec.Port, "status": "stopped"}
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
	case <-w.h.broken:
		return w.h.fault
	case <-w.h.ctx.Done():
		return errClosing
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.h.broken:
		return w.h.fault
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
	f.Log = w.h.logs.lastLines(rec, logTail)
	w.bringDown(ctx, outcome{state: store.WorkerFailed, reason: f.Message, jobID: rec.JobID, failure: f})
}

// logTail is how many lines of a worker's log a failed job shows.
const logTail = 20

func (w *worker) bringDown(ctx context.Context, out outcome) {
	if !w.recordStopping(out) {
		return
	}
	rest := w.endTree(ctx, w.tree)
	if ctx.Err() != nil {
		return // the record says stopping: the next recovery goes on with it
	}
	select {
	case <-w.proc.Done():
		exit := w.proc.Exit()
		out.exit = &exit
	default:
		if len(rest.members) == 0 {
			rest.members = []proc.Member{{PID: w.proc.PID(), Program: filepath.Base(w.record().Spec.Argv[0])}}
		}
		w.proc.Close()
	}
	w.finish(out, rest)
}

// remains is what a stop could not end. With err it is not known what remains.
type remains struct {
	members []proc.Member
	err     error
}

// endTree ends a worker's processes, or what its main process has left behind.
func (w *worker) endTree(ctx context.Context, t *proc.Tree) remains {
	left, err := t.Stop(ctx, w.record().Spec.Stop)
	return remains{left, err}
}

// recordStopping says in the file that the worker is being stopped, before
// anything is done to it. It reports whether it did; if not, the hive is closing.
func (w *worker) recordStopping(out outcome) bool {
	rec := w.record()
	rec.State, rec.Reason = store.WorkerStopping, out.reason
	if out.state == store.WorkerStopped {
		rec.Desired = store.DesiredStopped
	}
	err := w.h.settle(func(b *batch) error {
		if err := b.setLease(rec, store.LeaseReleasing); err != nil {
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
	if err == nil {
		w.snap.Store(&rec)
	}
	return err == nil
}

// setLease changes the state of a worker's lease, if it has one.
func (b *batch) setLease(rec store.Worker, state store.LeaseState) error {
	lease, err := b.Lease(rec.Port)
	if errors.Is(err, store.ErrNotFound) || (err == nil && lease.LeaseID != rec.LeaseID) {
		return nil
	}
	if err != nil {
		return err
	}
	lease.State = state
	if state == store.LeaseQuarantined {
		lease.Identity = nil
	}
	return b.PutLease(lease)
}

// beginJob writes that a job is running, if it is one of the active jobs.
func (b *batch) beginJob(h *Hive, id string) error {
	h.mu.Lock()
	j := h.jobs[id]
	h.mu.Unlock()
	if j == nil {
		return nil
	}
	if recorded, err := b.Job(id); err != nil || recorded.State.Ended() {
		return err // cancelled meanwhile
	}
	return b.PutJob(j.begin("", b.Now()))
}

// died ends a worker whose main process has exited by itself. What remains of
// its tree is ended too: a dead main process is not a dead worker.
func (w *worker) died(ctx context.Context) {
	rec := w.record()
	exit := w.proc.Exit()
	f := fail(CodeExitedEarly, "%s before it was ready", describeExit(exit))
	if rec.ReadyAt != nil {
		f = fail(CodeExitedEarly, "%s", describeExit(exit))
	}
	f.Log = w.h.logs.lastLines(rec, logTail)
	rest := w.endRest(ctx)
	if ctx.Err() != nil {
		return
	}
	out := outcome{state: store.WorkerFailed, reason: f.Message, exit: &exit, jobID: rec.JobID, failure: f}
	if rec.Desired == store.DesiredStopped { // a restart of hive came in between
		out.state, out.reason, out.failure = store.WorkerStopped, "stopped on request", nil
	}
	w.finish(out, rest)
}

// endRest ends what a dead main process has left behind. Of a worker that may be
// somebody else's it only looks.
func (w *worker) endRest(ctx context.Context) remains {
	t := w.h.treeOf(w.record(), nil)
	if w.inherited {
		left, err := t.Members(ctx)
		return remains{left, err}
	}
	return w.endTree(ctx, t)
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
func (w *worker) finish(out outcome, rest remains) {
	rec := w.record()
	keep := w.h.whyQuarantine(rec.Port, rest)
	if len(rest.members) > 0 || rest.err != nil {
		out.state, out.reason = store.WorkerFailed, "could not be stopped wholly: "+keep
		out.failure = fail(CodeStopIncomplete, "%s; port %d is quarantined", keep, rec.Port)
	}
	rec = ended(rec, out)
	logExit(rec)
	if w.recordEnd(rec, out.jobID, keep) != nil {
		return // the hive is closing: the next recovery judges the worker
	}
	w.failure = out.failure
	w.snap.Store(&rec)
	w.h.retire(w)
	close(w.ended) // before settled: who waits for that looks at ended next
	w.settle()
}

func (w *worker) recordEnd(rec store.Worker, jobID, keep string) error {
	end := func(b *batch) error {
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		return b.workerEvent(rec, jobID, rec.WorkerID+" "+string(rec.State)+": "+rec.Reason)
	}
	if keep != "" {
		return w.h.settle(func(b *batch) error { return errors.Join(b.quarantine(rec, jobID, keep), end(b)) })
	}
	return w.h.persist(func(closure func(*store.Tx) error) error {
		return w.h.alloc.Release(context.Background(), rec.Port, rec.LeaseID, closure)
	}, end)
}

func ended(rec store.Worker, out outcome) store.Worker {
	now := time.Now().UTC()
	rec.State, rec.Reason, rec.Exit, rec.EndedAt = out.state, out.reason, out.exit, &now
	return rec
}

// quarantine keeps the lease of an ended worker: its holder is gone, and
// somebody may still be reached on the port.
func (b *batch) quarantine(rec store.Worker, jobID, why string) error {
	if err := b.setLease(rec, store.LeaseQuarantined); err != nil {
		return err
	}
	return b.event(store.EventAudit, jobID, rec.WorkerID, fmt.Sprintf("port %d is quarantined: %s", rec.Port, why),
		map[string]any{"port": rec.Port, "lease_id": rec.LeaseID})
}

// lookLimit bounds the reads of the socket table that a decision needs. They
// are not given up when a caller goes: the decision is then still to be taken.
const lookLimit = 5 * time.Second

// whyQuarantine says why a port cannot be given out again; empty if it can.
func (h *Hive) whyQuarantine(port uint16, rest remains) string {
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
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
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
