package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/ports"
	"rbeehive/hive/probe"
	"rbeehive/store"
)

// maxSpawnTries is how many ports a spawn tries when strangers hold them.
const maxSpawnTries = 3

// spawnAndAwait starts a worker and waits for what op asks. When a stranger
// turns out to listen on the port, another port is tried.
func (s *Supervisor) spawnAndAwait(ctx context.Context, j operation.Job, typ *catalog.Type, op operation.Spawn, selfTest bool) (*worker, error) {
	if err := s.registry.claimName(op.Name, j.ID()); err != nil {
		return nil, err
	}
	defer s.registry.releaseName(op.Name, j.ID())
	for try := 1; ; try++ {
		// A new record for each try: the worker of the last one has ended, and is listed as such.
		anyPort := op.Port == 0 && typ.Port == 0 && try < maxSpawnTries
		w, err := s.spawn(ctx, j, typ, s.newRecord(j, typ, op), spawnOptions{selfTest: selfTest, nextPort: anyPort && op.Wait != operation.WaitStarted})
		if err != nil {
			return nil, err
		}
		// From here on the worker can be found, so a stop behind this job need not wait until it is ready.
		j.MarkEffective()
		if op.Wait == operation.WaitStarted {
			return w, nil
		}
		err = s.awaitReady(ctx, j, w)
		var f *errdefs.Failure
		if errors.As(err, &f) && f.Code == errdefs.CodeForeignListener && anyPort {
			continue
		}
		return w, err
	}
}

// awaitReady waits until the worker is ready. A cancelled job stops it.
func (s *Supervisor) awaitReady(ctx context.Context, j operation.Job, w *worker) error {
	if !w.selfTest { // a check goes on when its worker is ready
		defer w.endWhenReady(j)()
	}
	select {
	case <-w.started():
	case <-ctx.Done():
		return s.stopCancelled(ctx, j, w)
	}
	// Ready or ended? finish closes ended first.
	select {
	case <-w.ended:
	default:
		return nil
	}
	if w.failure != nil {
		return w.failure
	}
	return errdefs.Fail(errdefs.CodeCancelled, "the worker was stopped on request before it was ready")
}

// stopCancelled stops the worker of a start that was cancelled, and returns why ctx ended.
func (s *Supervisor) stopCancelled(ctx context.Context, j operation.Job, w *worker) error {
	// The worker runs on, and the next recovery decides what became of the job.
	if s.run.Closing() {
		return errdefs.ErrClosing
	}
	// Not with ctx, which has ended: a cancelled job ends when its worker is gone.
	if err := w.requestStop(s.run.Context(), stopRequest{job: j, reason: "the job that started it was cancelled"}); err != nil {
		return err
	}
	if w.failure != nil {
		return w.failure // it could not be stopped wholly, or had failed before
	}
	return context.Cause(ctx)
}

// spawnOptions are what a spawn needs to know about who asked for it.
type spawnOptions struct {
	selfTest bool // see worker
	nextPort bool // see worker
}

// spawn starts one worker. A rec with an id is of a worker that has ended and is started
// again, on its ports.
func (s *Supervisor) spawn(ctx context.Context, j operation.Job, typ *catalog.Type, rec store.Worker, o spawnOptions) (*worker, error) {
	begun := time.Now()
	// Else the model could be deleted between Prepare and the moment when the worker is live.
	defer s.launcher.HoldModel(typ, rec)()
	r, err := s.reserve(ctx, j, typ, &rec)
	if err != nil {
		return nil, err
	}
	defer r.release()
	abandon := func() {
		r.ports.Abandon()
		removeLog(rec)
	}
	prepared, err := s.launcher.Complete(ctx, r.prepared, typ, &rec)
	if err == nil {
		err = s.launcher.BeforeStart(ctx, typ, rec, prepared.Env)
	}
	if err != nil {
		abandon()
		return nil, err
	}
	// From here on the log is there and its record is not; it must not be taken for a
	// leftover meanwhile.
	defer s.logs.Claim(rec.WorkerID)()
	found := func() {} // ends the time in which the worker is recorded and not among the live ones
	defer func() { found() }()
	recorded, p, err := s.startProcess(start{rec: rec, env: prepared.Env, begun: begun, note: logs.Started, record: func(rec store.Worker) error {
		found = s.registry.addPending(rec)
		return s.recordSpawn(ctx, j, r.ports, rec)
	}})
	failed, known := errors.AsType[*notOpened](err)
	switch {
	case known:
		// It is recorded with a lease, and no program runs: it ends like any other worker.
		w := s.newWorker(recorded, nil, typ)
		f := errdefs.Fail(errdefs.CodeExecFailed, "%v", failed)
		w.finish(outcome{then: lifecycle.Fail, reason: f.Message, jobID: rec.JobID, failure: f}, leftovers{})
		return nil, f
	case err != nil:
		// Nothing was recorded, but the job in memory names the worker already.
		j.Forget(rec.WorkerID)
		abandon()
		return nil, err
	}
	// Not worth a commit of its own: if hive is killed before the next one, recovery finds a spawning worker
	// and sees by its process whether the gate was opened.
	lifecycle.Transition(&recorded, lifecycle.Opened, lifecycle.Fail)
	w := s.newWorker(recorded, p, typ)
	w.startedAt, w.selfTest, w.nextPort = begun, o.selfTest, o.nextPort
	s.registry.add(w)
	// After add, or it would be in no table for a moment. In both, it is found among the live ones.
	s.registry.forget(recorded.WorkerID) // among the ended, where it may have been
	w.follow(probe.FirstInterval)
	return w, nil
}

// newRecord is the record of a worker that has no port yet.
func (s *Supervisor) newRecord(j operation.Job, typ *catalog.Type, op operation.Spawn) store.Worker {
	// Any port: the command is rendered once before one is reserved.
	rec := store.Worker{
		Name: op.Name, Type: typ.Name, Port: s.anyPort,
		LeaseID: uuid.Must(uuid.NewV7()).String(),
		Asked:   store.Asked{Model: op.Model, Device: op.Device, Params: op.Params, Port: cmp.Or(op.Port, typ.Port)},
		Desired: store.DesiredRunning, JobID: j.ID(), StartedAt: time.Now().UTC(),
	}
	lifecycle.Transition(&rec, lifecycle.Created, lifecycle.Fail)
	return rec
}

// recordSpawn is the one transaction of a spawn: lease, PID mapping, worker,
// job and events become durable together, while the process waits at its gate.
func (s *Supervisor) recordSpawn(ctx context.Context, j operation.Job, res *alloc.Reservation, rec store.Worker) error {
	return s.journal.Commit(ctx, func(b *journal.Batch) error {
		// The lease holds what the processes are known by, since it can outlive the record (TreeOfLease).
		lease := store.Lease{
			Port: rec.Port, LeaseID: rec.LeaseID, Kind: store.LeaseWorker, WorkerID: rec.WorkerID, Owner: rec.Name,
			Identity: rec.Identity, Cgroup: rec.Cgroup, StampUID: rec.StampUID, State: store.LeaseHeld, AcquiredAt: b.Now(),
		}
		if err := res.Record(b.Tx, lease); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		j.Begin(rec.WorkerID, b.Now())
		if err := j.RecordRunning(b); err != nil {
			return err
		}
		if err := b.Event(store.EventPort, rec.JobID, rec.WorkerID, ports.Taken(res, rec), map[string]any{
			"port": rec.Port, "ports": rec.Ports, "lease_id": rec.LeaseID, "skipped": ports.Of(res.Skipped),
		}); err != nil {
			return err
		}
		return b.Event(store.EventProcess, rec.JobID, rec.WorkerID, fmt.Sprintf("%s started as pid %d", rec.WorkerID, rec.Identity.PID),
			map[string]any{"pid": rec.Identity.PID, "worker_id": rec.WorkerID, "log": rec.Log})
	})
}
