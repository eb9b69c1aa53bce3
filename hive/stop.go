package hive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// outcome is how a worker's process ended, and what is to follow.
type outcome struct {
	then    after
	reason  string
	exit    *store.Exit
	jobID   string
	failure *failure        // nil if it ended on request
	live    bool            // its liveness demands a new start, whatever its policy
	restart *restartRequest // with thenStart
	all     bool            // see stopRequest
}

// runStop carries out worker_stop and worker_process_delete.
func (h *Hive) runStop(ctx context.Context, j *job, find func() *worker, missing string) (any, error) {
	w, err := h.awaitWorker(ctx, j, find)
	if err != nil {
		return nil, err
	}
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
	if rec.State == store.WorkerUnverified {
		return nil, fail(CodeStopIncomplete, "it cannot be verified that pid %d is still worker %s (%s), so it is not touched", rec.Identity.PID, rec.WorkerID, rec.Reason)
	}
	if err := j.finalize(ctx); err != nil {
		return nil, err
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

// requestStop has a supervisor stop the worker and waits until it has ended.
func (w *worker) requestStop(ctx context.Context, req stopRequest) error {
	if _, err := w.hand(ctx, req); err != nil {
		return err
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

// hand gives a supervisor a request. taken is false if the worker has ended before
// its supervisor took it.
func (w *worker) hand(ctx context.Context, req stopRequest) (taken bool, err error) {
	w.mu.Lock()
	w.callers++ // before attend: a supervisor that is there does not rest now
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.callers--
		w.mu.Unlock()
		w.nudge()
	}()
	w.attend(0)
	select {
	case w.stops <- req:
		return true, nil
	case <-w.ended:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-w.h.broken:
		return false, w.h.fault
	case <-w.h.ctx.Done():
		return false, errClosing
	}
}

// stop ends the worker on request, or ends its process to start another. Only its
// supervisor calls it. It reports whether there is more to attend to.
func (w *worker) stop(ctx context.Context, req stopRequest) bool {
	out := outcome{then: thenStop, reason: req.reason, jobID: req.jobID, all: req.all}
	rec := w.record()
	switch {
	case req.restart != nil:
		out.then, out.restart = thenStart, req.restart
	case rec.State == store.WorkerStopping && rec.Desired == store.DesiredRunning:
		out.then = thenRetry // a restart of hive came between giving it up and its end
	}
	return w.bringDown(ctx, out)
}

// giveUp ends the process of a worker that cannot become ready, or does not serve
// any more. Only its supervisor calls it. It reports whether there is more to
// attend to.
func (w *worker) giveUp(ctx context.Context, f *failure) bool {
	rec := w.record()
	f.Log = w.h.logs.LastLines(ctx, rec.WorkerID, rec.Log, logTail)
	w.reason = becauseNotReady
	return w.bringDown(ctx, outcome{then: thenRetry, reason: f.Message, jobID: rec.JobID, failure: f})
}

// logTail is how many lines of a worker's log a failed job shows.
const logTail = 20

func (w *worker) bringDown(ctx context.Context, out outcome) bool {
	if !w.recordStopping(out) {
		return false
	}
	p := w.process()
	w.stopCommand(ctx, p)
	rest := w.endTree(ctx, w.tree())
	if ctx.Err() != nil {
		return false // the record says stopping: the next recovery goes on with it
	}
	select {
	case <-p.Done():
		exit := p.Exit()
		out.exit = &exit
	default:
		if len(rest.members) == 0 {
			rest.members = []proc.Member{{PID: p.PID(), Program: filepath.Base(w.record().Spec.Argv[0])}}
		}
		p.Close()
	}
	return w.conclude(ctx, out, rest)
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
	ev := evGiveUp
	if out.failure == nil {
		ev = evStop
	}
	m, ok := decide(rec.State, ev, out.then)
	if !ok {
		m.to = store.WorkerStopping // it is being ended, whatever it was
	}
	rec.State, rec.Reason = m.to, out.reason
	if out.then == thenStop && !out.all {
		rec.Desired = store.DesiredStopped
	}
	err := w.h.settle(func(b *batch) error {
		if err := b.setLease(rec, store.LeaseReleasing, ""); err != nil {
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

// setLease changes the state of a worker's lease, if it has one. why is for a
// person, where the state needs one.
func (b *batch) setLease(rec store.Worker, state store.LeaseState, why string) error {
	lease, err := b.Lease(rec.Port)
	if errors.Is(err, store.ErrNotFound) || (err == nil && lease.LeaseID != rec.LeaseID) {
		return nil
	}
	if err != nil {
		return err
	}
	lease.State, lease.Reason = state, why
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

// died follows the exit of a main process by itself. What remains of its tree is
// ended too: a dead main process is not a dead worker. It reports whether there is
// more to attend to.
func (w *worker) died(ctx context.Context) bool {
	rec := w.record()
	exit := w.process().Exit()
	f := fail(CodeExitedEarly, "%s before it was ready", describeExit(exit))
	if rec.ReadyAt != nil {
		f = fail(CodeExitedEarly, "%s", describeExit(exit))
	}
	f.Log = w.h.logs.LastLines(ctx, rec.WorkerID, rec.Log, logTail)
	rest := w.endRest(ctx)
	if ctx.Err() != nil {
		return false
	}
	if rec.ReadyAt == nil && len(rest.members) == 0 && rest.err == nil {
		w.blamePort(ctx, f)
	}
	w.reason = becauseExited
	out := outcome{then: thenRetry, reason: f.Message, exit: &exit, jobID: rec.JobID, failure: f}
	if rec.Desired == store.DesiredStopped { // a restart of hive came in between
		out = outcome{then: thenStop, reason: "stopped on request", exit: &exit, jobID: rec.JobID}
	}
	return w.conclude(ctx, out, rest)
}

// blamePort finds out whether a worker ended because somebody else has its port,
// and makes that its failure: another port may do. Programs show it by any exit
// code, 0 among them; so whoever has the port now counts, and what the log says.
func (w *worker) blamePort(ctx context.Context, f *failure) {
	rec := w.record()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	for _, port := range rec.Ports {
		snap, err := w.h.sockets.Port(ctx, port)
		if err != nil || rec.Spec.Ready.AnyListener {
			break
		}
		if socks, _ := atOwn(snap.Listeners(port), rec.Spec.Host); len(socks) > 0 {
			holder := describeHolders(ctx, socks)
			w.h.alloc.Avoid(port, holder)
			f.Code, f.Message = CodeForeignListener, fmt.Sprintf("%s: port %d is held by %s", f.Message, port, holder)
			return
		}
	}
	if slices.ContainsFunc(f.Log, saysInUse) {
		w.h.alloc.Avoid(rec.Port, "somebody who had it when "+rec.WorkerID+" wanted it")
		f.Code, f.Message = CodeForeignListener, fmt.Sprintf("%s: its log says that its port %d was in use", f.Message, rec.Port)
	}
}

// saysInUse recognises how programs say EADDRINUSE: strerror(3) of glibc and musl,
// the names of Node and Python, and llama-server's own words.
func saysInUse(line string) bool {
	line = strings.ToLower(line)
	return slices.ContainsFunc([]string{"address already in use", "address in use", "eaddrinuse", "errno 98", "couldn't bind http server socket"},
		func(words string) bool { return strings.Contains(line, words) })
}

// endRest ends what a dead main process has left behind. Of a worker that may be
// somebody else's it only looks.
func (w *worker) endRest(ctx context.Context) remains {
	t := w.h.treeOf(w.record(), nil)
	if w.inherited.Load() {
		left, err := t.Members(ctx)
		return remains{left, err}
	}
	return w.endTree(ctx, t)
}

// conclude decides what follows the end of a worker's process, and does it. It
// reports whether there is more to attend to.
func (w *worker) conclude(ctx context.Context, out outcome, rest remains) bool {
	rec := w.record()
	if len(rest.members) > 0 || rest.err != nil {
		w.finish(out, rest)
		return false
	}
	if out.then == thenRetry {
		out.then = thenFail
		now := time.Now()
		policy := rec.Spec.Restart
		if out.live && policy.Policy == store.RestartNever {
			policy.Policy = store.RestartOnFailure
		}
		if _, ok := w.h.types().Type(rec.Type); !ok || w.moves(out) || w.inherited.Load() { // a wait would not bring its type back
			policy.Policy = store.RestartNever
		}
		wait, again := retry(policy, rec.Failures, rec.ReadyAt != nil, out.exit, now, rand.Float64()) //nolint:gosec // a moment, no secret
		if again && w.h.spawnable() {
			return w.backOff(out, now, wait)
		}
		if n := len(recent(rec.Failures, rec.Spec.Restart.Window, now)); n > 0 && out.failure != nil {
			out.reason = fmt.Sprintf("%s; given up after %d new starts within %s (restart.max)", out.reason, n, rec.Spec.Restart.Window)
			out.failure.Message = out.reason
		}
	}
	if out.then == thenStart {
		return w.startOver(ctx, out)
	}
	w.finish(out, rest)
	return false
}

// moves reports whether a spawn is to try its next port instead of waiting for this
// one: a stranger has it, and nobody asked for this port and no other.
func (w *worker) moves(out outcome) bool {
	rec := w.record()
	return out.failure != nil && out.failure.Code == CodeForeignListener && rec.Restarts == 0 && rec.ReadyAt == nil && rec.Asked.Port == 0
}

// finish records the end of a worker and frees its ports, unless somebody can
// still be reached there: then they are quarantined.
func (w *worker) finish(out outcome, rest remains) {
	rec := w.record()
	keep := w.h.whyQuarantine(rec.Ports, rest)
	if len(rest.members) > 0 || rest.err != nil {
		out.then, out.reason = thenFail, "could not be stopped wholly: "+keep
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
		if err := b.beginJob(w.h, jobID); err != nil { // of a request to a worker without a process
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

// ended is the record of a worker that is not started again.
func ended(rec store.Worker, out outcome) store.Worker {
	now := time.Now().UTC()
	if out.then == thenRetry {
		out.then = thenFail
	}
	m, ok := decide(rec.State, evGone, out.then)
	if !ok {
		m = decideEnd(out.then)
	}
	rec.State, rec.Reason, rec.EndedAt, rec.NextTry = m.to, out.reason, &now, nil
	rec.Stale, rec.Changed = false, nil // of a process that is gone
	if out.exit != nil {
		rec.Exit = out.exit
	}
	return rec
}

// quarantine keeps the lease of an ended worker: its holder is gone, and
// somebody may still be reached on the port.
func (b *batch) quarantine(rec store.Worker, jobID, why string) error {
	if err := b.setLease(rec, store.LeaseQuarantined, why); err != nil {
		return err
	}
	return b.event(store.EventAudit, jobID, rec.WorkerID, fmt.Sprintf("port %d is quarantined: %s", rec.Port, why),
		map[string]any{"port": rec.Port, "lease_id": rec.LeaseID})
}

// lookLimit bounds the reads of the socket table that a decision needs. They
// are not given up when a caller goes: the decision is then still to be taken.
const lookLimit = 5 * time.Second

// whyQuarantine says why ports cannot be given out again; empty if they can.
func (h *Hive) whyQuarantine(ports []uint16, rest remains) string {
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
	for _, port := range ports {
		snap, err := h.sockets.Port(ctx, port)
		if err != nil {
			return "the socket table cannot be read: " + err.Error()
		}
		if len(snap.Listeners(port)) > 0 {
			return stillHeld(ctx, snap, ports)
		}
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
	logs.Printf(rec.Log, "exited pid %d port %d %s: %s", pid, rec.Port, rec.EndedAt.UTC().Format(time.RFC3339), what)
}
