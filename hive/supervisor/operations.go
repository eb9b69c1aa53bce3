package supervisor

import (
	"context"
	"fmt"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// This file is the operations on one worker as jobs carry them out; hive_check is in check.go.

// Spawn carries out worker_spawn; the result is operation.Spawned. A job that has made its
// worker already, before hive was restarted, only waits for that.
func (s *Supervisor) Spawn(ctx context.Context, j operation.Job, op operation.Spawn) (any, error) {
	if id := j.Record().WorkerID; id != "" {
		return s.awaitAgain(ctx, j, s.registry.find(id))
	}
	typ, err := s.typeOf(op.Worker)
	if err != nil {
		return nil, err
	}
	w, err := s.spawnAndAwait(ctx, j, typ, op, false)
	if err != nil {
		return nil, err
	}
	return operation.SpawnedOf(w.record()), nil
}

// StopWorker carries out worker_stop; the result is operation.Stopped.
func (s *Supervisor) StopWorker(ctx context.Context, j operation.Job, op operation.StopWorker) (any, error) {
	find := func() *worker { return s.registry.find(op.WorkerID) }
	return s.stopFound(ctx, j, find, fmt.Sprintf("no live worker %q", plain.Short(op.WorkerID)))
}

// ProcessDelete carries out worker_process_delete; the result is operation.Stopped.
func (s *Supervisor) ProcessDelete(ctx context.Context, j operation.Job, op operation.ProcessDelete) (any, error) {
	find := func() *worker { return s.registry.byPID(op.PID) }
	return s.stopFound(ctx, j, find, fmt.Sprintf("no worker of this hive has PID %d", op.PID))
}

func (s *Supervisor) stopFound(ctx context.Context, j operation.Job, find func() *worker, missing string) (any, error) {
	var w *worker
	if err := j.AwaitTarget(ctx, func() bool { w = find(); return w != nil }); err != nil {
		return nil, err
	}
	if w == nil {
		// A stop that goes on after a restart finds its worker ended as it was asked to.
		if id := j.Record().WorkerID; id != "" {
			if rec, err := s.Worker(id); err == nil && rec.State == store.WorkerStopped {
				return operation.StoppedOf(rec), nil
			}
		}
		return nil, errdefs.Fail(errdefs.CodeNotFound, "%s", missing)
	}
	rec := w.record()
	if rec.State == store.WorkerUnverified {
		return nil, errdefs.Fail(errdefs.CodeStopIncomplete, "it cannot be verified that pid %d is still worker %s (%s), so it is not touched", rec.Identity.PID, rec.WorkerID, rec.Reason)
	}
	// No cancel from here on: a stop that has begun cannot be taken back.
	if err := j.Finalize(ctx); err != nil {
		return nil, err
	}
	j.Begin(rec.WorkerID, time.Now().UTC())
	if err := w.requestStop(ctx, stopRequest{job: j, endsJob: true, reason: "stopped on request"}); err != nil {
		return nil, err
	}
	// Any other failure came before the stop: the worker has ended, as was asked.
	if w.failure != nil && w.failure.Code == errdefs.CodeStopIncomplete {
		return nil, w.failure
	}
	return operation.StoppedOf(rec), nil
}

// RestartWorker carries out worker_restart; the result is operation.Spawned.
func (s *Supervisor) RestartWorker(ctx context.Context, j operation.Job, op operation.RestartWorker) (any, error) {
	w := s.registry.find(op.WorkerID)
	switch {
	// Before hive was restarted it had got as far as the start.
	case w != nil && w.record().JobID == j.ID():
		return s.awaitAgain(ctx, j, w)
	case !op.IfStale:
	case w == nil:
		return nil, errdefs.Fail(errdefs.CodeNotFound, "no live worker %q", plain.Short(op.WorkerID))
	// It has been restarted since the reload.
	case !w.record().Stale:
		return operation.SpawnedOf(w.record()), nil
	}
	begun := false
	if w != nil { // it may end before it is asked
		var err error
		if begun, err = w.requestRestart(ctx, j, op.IfStale); err != nil {
			return nil, err
		}
	}
	if !begun {
		rec, err := s.Worker(op.WorkerID)
		// A reload restarts what runs, and does not bring back what has ended.
		if err != nil || op.IfStale {
			return nil, errdefs.Fail(errdefs.CodeNotFound, "no worker %q", plain.Short(op.WorkerID))
		}
		if w, err = s.restartEnded(ctx, j, rec); err != nil {
			return nil, err
		}
		j.MarkEffective()
	}
	if err := s.awaitReady(ctx, j, w); err != nil {
		return nil, err
	}
	return operation.SpawnedOf(w.record()), nil
}

// awaitAgain goes on with a job that waits for its worker to be ready; w is nil if that has
// ended.
func (s *Supervisor) awaitAgain(ctx context.Context, j operation.Job, w *worker) (any, error) {
	if w == nil {
		id, reason := j.Record().WorkerID, "its record is gone"
		if rec, err := s.Worker(id); err == nil {
			reason = rec.Reason
		}
		return nil, errdefs.Fail(errdefs.CodeInterrupted, "hive was restarted while the job ran, and worker %s has ended since: %s", id, reason)
	}
	j.MarkEffective()
	for {
		if err := s.awaitReady(ctx, j, w); err != nil {
			return nil, err
		}
		// Of a restart it may be the old process that has been probed, while it ends.
		if w.record().State != store.WorkerStopping {
			return operation.SpawnedOf(w.record()), nil
		}
		select {
		case <-w.ended:
		case <-time.After(endingPollInterval):
		}
	}
}

// endingPollInterval is how often a restart looks whether the old process has ended.
const endingPollInterval = 20 * time.Millisecond
