package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// start is one start of a worker, the first or another. It is the only way in which a
// worker's program comes to run.
type start struct {
	rec   store.Worker // prepared: with its spec, ports, log and start time
	env   []string
	begun time.Time
	note  string // what the worker's log says of it, as in "started"
	// record writes the worker with its process, its lease and its events in one
	// transaction, and shows it. After an error nothing of it may be in the file.
	record func(store.Worker) error
}

// notOpened is the error of a start that is recorded and whose program could not be
// executed: the record must not stay as it is.
type notOpened struct{ err error }

func (e *notOpened) Error() string { return e.err.Error() }

// startProcess carries out a start. The crash safety of hive rests on the order of its
// three steps:
//
//  1. A process is made that waits at its gate. Killed now, hive takes its end of the
//     gate with it, and the process exits without having run anything.
//  2. One transaction records it. Killed behind this, the next hive finds it by its
//     identity: at its gate, gone, or running.
//  3. The gate is opened, and the program is executed.
//
// It returns the record as it was written, besides its state, and blocks for the commit
// and until the program was executed. Errors: an *errdefs.Failure, that of record, and
// *notOpened when the worker is recorded already.
func (s *Supervisor) startProcess(st start) (store.Worker, *proc.Process, error) {
	rec := st.rec
	gated, err := proc.Start(s.launcher.ProcSpec(rec, st.env))
	if err != nil {
		return rec, nil, errdefs.Fail(errdefs.CodeExecFailed, "start %s: %v", rec.Spec.Argv[0], err)
	}
	id, uid := gated.Identity(), gated.UID()
	rec.Identity, rec.Cgroup, rec.StampUID = &id, gated.Cgroup(), &uid
	// Before the gate opens, so that it comes before the program's own output.
	logs.Printf(rec.Log, "%s pid %d port %d %s", st.note, id.PID, rec.Port, rec.StartedAt.Format(time.RFC3339))
	if err := st.record(rec); err != nil {
		gated.Abort() // nobody knows it, so it must not run
		return rec, nil, err
	}
	p, err := openGate(gated)
	if err != nil {
		return rec, nil, &notOpened{err}
	}
	s.metrics.Spawned(operation.WaitStarted, st.begun)
	return rec, p, nil
}

// openTimeout is how long it may take to enter a working directory and to execute a
// program: on a file system that hangs, or that the user of the worker has made hang.
const openTimeout = 30 * time.Second

// openGate lets a program run. Not with a job's context: between the byte and the execve
// nobody could say whether the program runs. When the time is over it is ended,
// whatever it is.
func openGate(gated *proc.Gated) (*proc.Process, error) {
	p, err := openWithin(gated, openTimeout)
	if errors.Is(err, context.DeadlineExceeded) { // hive itself may have been frozen meanwhile
		p, err = openWithin(gated, time.Second)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		gated.Abort()
		return nil, fmt.Errorf("not executed within %s", openTimeout)
	}
	return p, err
}

func openWithin(gated *proc.Gated, d time.Duration) (*proc.Process, error) {
	// Not with hive's context: a hive that took its own closing for a failed execve would record the
	// end of a program that runs, and leave it behind.
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return gated.Open(ctx)
}

// acquireStart takes one of the slots for starts, or returns why ctx ended.
func (s *Supervisor) acquireStart(ctx context.Context) (release func(), err error) {
	if s.limits.starts.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	release = func() { s.limits.starts.Release(1) }
	if ctx.Err() != nil { // Acquire may not have looked
		release()
		return nil, context.Cause(ctx)
	}
	return release, nil
}

// typeOf returns the type of a worker as it is configured now.
func (s *Supervisor) typeOf(name string) (*catalog.Type, error) { return typeIn(s.catalog(), name) }

func typeIn(types *catalog.Catalog, name string) (*catalog.Type, error) {
	typ, ok := types.Type(name)
	if !ok {
		return nil, errdefs.Fail(errdefs.CodeProgramNotFound, "worker type %q is no longer configured", name)
	}
	return typ, nil
}

// removeLog removes the log of a worker whose first start was abandoned.
func removeLog(rec store.Worker) {
	if rec.Restarts == 0 {
		// A worker that is started again has said something in it before.
		_ = os.Remove(rec.Log) // it may not have been made
	}
}
