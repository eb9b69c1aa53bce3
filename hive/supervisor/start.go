package supervisor

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/ports"
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
		return rec, nil, launch.StartFailed("start "+rec.Spec.Argv[0], rec, err)
	}
	id, uid := gated.Identity(), gated.UID()
	rec.Identity, rec.Cgroup, rec.StampUID = &id, gated.Cgroup(), &uid
	// Before the gate opens, so that it comes before the program's own output.
	logs.Printf(rec.Log, "%s pid %d port %d %s", st.note, id.PID, rec.Port, rec.StartedAt.Format(time.RFC3339))
	if err := st.record(rec); err != nil {
		gated.Abort() // nobody knows it, so it must not run
		return rec, nil, err
	}
	p, err := launch.Open(gated)
	if err != nil {
		return rec, nil, &notOpened{err}
	}
	s.metrics.Spawned(operation.WaitStarted, st.begun)
	return rec, p, nil
}

// connectionTimeout is how long a spawn of a worker that is not to be started again waits
// for a port that a connection has, if its type does not say how long it may take.
const connectionTimeout = drainTimeout

// reserve takes a slot for a start and reserves its ports. A fixed port, or the one that a
// worker has had, can be the local one of somebody's connection: the kernel gives it to
// any that asks for none. That is waited for, without a slot: as long as the job lives for
// a worker whose policy wants it to run, else for ready.timeout or connectionTimeout.
func (s *Supervisor) reserve(ctx context.Context, j operation.Job, typ *catalog.Type, rec *store.Worker) (reserved, error) {
	limit := cmp.Or(typ.Ready.Timeout, connectionTimeout)
	ticker := time.NewTicker(drainPollInterval)
	defer ticker.Stop()
	defer s.registry.wait(j.ID(), "")
	for begun, told := time.Now(), false; ; told = true {
		r, err := s.tryReserve(ctx, j, typ, rec)
		over := typ.Restart.Policy == store.RestartNever && time.Since(begun) >= limit
		switch {
		case err == nil:
			return r, nil
		case over || !ports.HeldByConnection(err):
			return reserved{}, ports.Failure(ctx, err)
		case !told:
			s.tellWaiting(ctx, j, ports.Failure(ctx, err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return reserved{}, ports.Failure(ctx, ctx.Err())
		}
	}
}

// tellWaiting says to who follows a job, and to who asks, what it waits for.
func (s *Supervisor) tellWaiting(ctx context.Context, j operation.Job, why error) {
	message := why.Error()
	if f, ok := errors.AsType[*errdefs.Failure](why); ok {
		message = f.Message
	}
	s.registry.wait(j.ID(), message)
	if j.Accept() != nil {
		return // it is refused: nobody will ask
	}
	err := s.journal.Commit(ctx, func(b *journal.Batch) error {
		return b.Event(store.EventProgress, j.ID(), "", "waiting: "+message, nil)
	})
	s.journal.LogUnlessClosing(err, "record what a job waits for", j.ID())
}

// reserved is what a start has before its process is made.
type reserved struct {
	ports    *alloc.Reservation
	prepared launch.Prepared
	release  func() // of the slot
}

// tryReserve takes a slot and reserves the ports; after an error it has neither.
func (s *Supervisor) tryReserve(ctx context.Context, j operation.Job, typ *catalog.Type, rec *store.Worker) (r reserved, err error) {
	if r.release, err = s.acquireStart(ctx, j.Accept); err != nil {
		return r, err
	}
	// The common mistakes cost no process and no commit.
	if r.prepared, err = s.launcher.Prepare(ctx, typ, rec); err == nil {
		if r.ports, err = s.ports.Reserve(ctx, typ, rec); err == nil {
			rec.Log = s.logs.Path(rec.WorkerID)
			return r, nil
		}
	}
	r.release()
	return r, err
}

// acquireStart takes one of the slots for starts, or returns why ctx ended. If none is free
// it calls full first, and returns its error.
func (s *Supervisor) acquireStart(ctx context.Context, full func() error) (release func(), err error) {
	if !s.limits.starts.TryAcquire(1) {
		if err := full(); err != nil {
			return nil, err
		}
		if s.limits.starts.Acquire(ctx, 1) != nil {
			return nil, context.Cause(ctx)
		}
	}
	moved := func() { now := time.Now(); s.limits.startsMoved.Store(&now) }
	moved()
	release = func() { moved(); s.limits.starts.Release(1) }
	if ctx.Err() != nil { // Acquire may not have looked
		release()
		return nil, context.Cause(ctx)
	}
	return release, nil
}

// typeOf returns the type of a worker as it is configured now.
func (s *Supervisor) typeOf(name string) (*catalog.Type, error) {
	return launch.TypeIn(s.catalog(), name)
}

// removeLog removes the log of a worker whose first start was abandoned.
func removeLog(rec store.Worker) {
	if rec.Restarts == 0 {
		// A worker that is started again has said something in it before.
		_ = os.Remove(rec.Log) // it may not have been made
	}
}
