package supervisor

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// stopRequest asks a supervisor to stop its worker.
type stopRequest struct {
	job     operation.Job // by which that was asked for; nil: hive does it
	endsJob bool          // the end of the worker is all that the job is for
	jobID   string        // without job: of one of the last run of hive
	reason  string
	restart *restartRequest // it is to be started again then; nil: it is not
	all     bool            // hive ends and stops them all: nobody has asked for this one to stay stopped
}

// outcome is how a worker's process ended, and what is to follow.
type outcome struct {
	then    lifecycle.Then
	reason  string
	exit    *store.Exit
	job     operation.Job    // by which the end was asked for; nil: by none
	endsJob bool             // see stopRequest
	jobID   string           // of the job whose events tell of it; empty: of none
	failure *errdefs.Failure // nil if it ended on request
	held    bool             // only because somebody else has its port: that is no failure of its own
	live    bool             // its liveness demands a new start, whatever its policy
	givenUp bool             // hive has ended it: its exit says nothing about its work
	restart *restartRequest  // with lifecycle.Start
	all     bool             // see stopRequest
}

// asked returns the outcome of a request.
func asked(req stopRequest) outcome {
	out := outcome{reason: req.reason, job: req.job, endsJob: req.endsJob, jobID: req.jobID, all: req.all, restart: req.restart}
	if req.job != nil {
		out.jobID = req.job.ID()
	}
	return out
}

// recordJob writes that the job which asked for the end is running.
func (o outcome) recordJob(b *journal.Batch) error {
	if o.job == nil {
		return nil
	}
	return o.job.RecordRunning(b)
}

// requestStop has a supervisor stop the worker and waits until it has ended.
func (w *worker) requestStop(ctx context.Context, req stopRequest) error {
	if _, err := w.deliver(ctx, req); err != nil {
		return err
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	// The end can no longer be recorded, so ended is never closed.
	case <-w.s.journal.Broken():
		return w.s.journal.Err()
	case <-w.s.run.Context().Done():
		return errdefs.ErrClosing
	}
}

// deliver gives a supervisor a request. taken is false if the worker has ended before
// its supervisor took it.
func (w *worker) deliver(ctx context.Context, req stopRequest) (taken bool, err error) {
	w.mu.Lock()
	w.callers++ // before ensureSupervisor: a supervisor that is there does not become idle now
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.callers--
		w.mu.Unlock()
		// It may have stayed for this caller alone.
		w.wake()
	}()
	w.ensureSupervisor(0)
	select {
	case w.stops <- req:
		return true, nil
	case <-w.ended:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-w.s.journal.Broken():
		return false, w.s.journal.Err()
	case <-w.s.run.Context().Done():
		return false, errdefs.ErrClosing
	}
}

// stop ends the worker on request, or ends its process to start another. Only its
// supervisor calls it. It reports whether the supervisor goes on.
func (w *worker) stop(ctx context.Context, req stopRequest) bool {
	out := asked(req)
	out.then = lifecycle.Stop
	rec := w.record()
	switch {
	case req.restart != nil:
		out.then = lifecycle.Start
	case rec.State == store.WorkerStopping && rec.Desired == store.DesiredRunning:
		out.then = lifecycle.Retry // a restart of hive came between giving it up and its end
	}
	return w.terminate(ctx, out)
}

// giveUp ends the process of a worker that cannot become ready, or does not serve
// any more. Only its supervisor calls it. It reports whether the supervisor goes on.
func (w *worker) giveUp(ctx context.Context, f *errdefs.Failure) bool {
	rec := w.record()
	// Before it is ended: what it then says is about the signal, not about what went wrong.
	f.Log = w.s.logs.LastLines(ctx, rec.WorkerID, rec.Log, logs.Started, launch.LogTail)
	w.reason = ReasonNotReady
	return w.terminate(ctx, outcome{
		then: lifecycle.Retry, reason: f.Message, jobID: rec.JobID, failure: f, held: f.Code == errdefs.CodeForeignListener,
	})
}

// terminate ends the worker's process and all that it has started, and goes on with what
// is to follow. It reports whether the supervisor goes on.
func (w *worker) terminate(ctx context.Context, out outcome) bool {
	// Recorded first: a hive that is killed in between goes on with the stop when it starts again, and does
	// not take the half-stopped worker for one that has crashed.
	if !w.recordStopping(out) {
		return false
	}
	p := w.process()
	out.givenUp = out.then == lifecycle.Retry
	w.stopCommand(ctx, p)
	rest := w.endTree(ctx, w.tree())
	if ctx.Err() != nil {
		return false // the record says stopping: the next recovery goes on with it
	}
	// By its pidfd, whatever the scans have seen.
	select {
	case <-p.Done():
		exit := p.Exit()
		out.exit = &exit
	default:
		if len(rest.members) == 0 { // none was seen, and yet the main process has not ended
			rest.members = []proc.Member{{PID: p.PID(), Program: filepath.Base(w.record().Spec.Argv[0])}}
		}
		// Nobody else would: the worker's record ends here.
		p.Close()
	}
	return w.afterExit(ctx, out, rest)
}

// leftovers is what a stop could not end. With err it is not known what is left.
type leftovers struct {
	members []proc.Member
	err     error
	killed  bool // SIGKILL was needed
	asked   bool // the main process was alive, and asked to end
}

// sayKilled adds to the reason of an end that SIGKILL was needed for it: a program that is
// always killed loses what it was at, and its stop takes the whole grace each time.
func (r leftovers) sayKilled(out *outcome, how store.Stop) {
	if !r.killed {
		return
	}
	who := "what it had started was killed"
	// An exit that is not known is that of a process which was adopted: most likely this one's.
	if exit := out.exit; r.asked && (exit == nil || exit.Code == nil && (exit.Signal == "" || exit.Signal == "SIGKILL")) {
		who = "killed"
	}
	grace := how.Grace * time.Duration(len(how.Signals))
	if len(how.Command) > 0 {
		grace += how.Grace
	}
	out.reason = fmt.Sprintf("%s; %s with SIGKILL after a grace of %s", out.reason, who, grace)
}

// endTree ends a worker's processes, or what its main process has left behind.
func (w *worker) endTree(ctx context.Context, t *proc.Tree) leftovers {
	e, err := t.End(ctx, w.record().Spec.Stop)
	return leftovers{members: e.Left, err: err, killed: e.Killed, asked: t.Main != nil}
}

// recordStopping says in the file that the worker is being stopped, before
// anything is done to it. It reports whether it did; if not, the hive is closing.
func (w *worker) recordStopping(out outcome) bool {
	rec := w.record()
	lifecycle.Transition(&rec, lifecycle.Ending, out.then) // whatever has a supervisor and a process can be ended
	rec.Reason, rec.RestartJob = out.reason, ""
	if out.restart != nil {
		rec.RestartJob = out.jobID
	}
	if out.then == lifecycle.Stop && !out.all {
		rec.Desired = store.DesiredStopped
	}
	return w.commit(rec, func(b *journal.Batch) error {
		if err := setLeaseState(b, rec, store.LeaseReleasing, ""); err != nil {
			return err
		}
		if err := out.recordJob(b); err != nil {
			return err
		}
		return workerEvent(b, rec, out.jobID, rec.WorkerID+" is being stopped: "+out.reason)
	})
}

// stopCommand runs the worker's own command to stop it, and gives it and the main
// process the grace of its stop. What is left then is ended as ever.
func (w *worker) stopCommand(ctx context.Context, p *proc.Process) {
	rec := w.record()
	if len(rec.Spec.Stop.Command) == 0 || p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rec.Spec.Stop.Grace)
	defer cancel()
	env, err := w.stopEnvironment(ctx, rec)
	if err == nil {
		err = w.s.launcher.Command(ctx, "stop.command", rec.Spec.Stop.Command, rec, env)
	}
	// The worker must end, whatever the command does.
	if err != nil {
		logs.Printf(rec.Log, "%v", err)
		w.s.log.WithError(err).WithField("worker", rec.WorkerID).Warn("the stop command failed; the worker is ended by signals")
		return
	}
	// The command may return before the worker has ended.
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
}

// stopEnvironment is the environment of a worker's stop command: that of its type,
// as far as it can be had now.
func (w *worker) stopEnvironment(ctx context.Context, rec store.Worker) ([]string, error) {
	typ := w.os.Load().startedType // its command is of then
	if typ == nil {
		typ, _ = w.s.catalog().Type(rec.Type)
	}
	if typ != nil {
		// A missing env_file, say, must not keep a worker from being stopped.
		if env, err := launch.Environment(ctx, typ, rec.Spec.User, rec.Spec.Device); err == nil {
			return env, nil
		}
	}
	return launch.Environ(rec.Spec.User, nil)
}
