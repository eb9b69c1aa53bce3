package hive

import (
	"context"
	"fmt"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/hive/workertype"
	"rbeehive/store/plain"
)

// executor carries out operations: each part of hive those that are its own. The table of
// package operation says which method is whose.
type executor struct {
	*supervisor.Supervisor
	*workertype.Types
	modelOperations

	hiveID string
}

// It is both: what the queue calls, and what the table calls.
var (
	_ jobs.Executor      = (*executor)(nil)
	_ operation.Executor = (*executor)(nil)
)

func newExecutor(h *Hive) *executor {
	return &executor{
		Supervisor: h.supervisor, Types: h.types, hiveID: h.cfg.HiveID,
		modelOperations: modelOperations{library: h.launcher.Models, live: h.supervisor.Live, journal: h.journal},
	}
}

// Decode implements jobs.Executor: the request was for this hive when it was accepted,
// whatever hive_id is now.
func (e *executor) Decode(body []byte) (operation.Operation, error) {
	return e.decode(body, func(string) bool { return true })
}

// decode reads a request. What cannot be known from it alone, whether this is the right
// hive and the worker type takes this, is checked too.
func (e *executor) decode(body []byte, called func(hiveID string) bool) (operation.Operation, error) {
	op, hiveID, err := operation.Decode(body)
	if err != nil {
		return nil, err
	}
	if hiveID != "" && hiveID != "localhost" && hiveID != e.hiveID && !called(hiveID) {
		return nil, errdefs.BadField("hive_id", fmt.Sprintf("is %q, but this hive is %q (leave it out, or say localhost)", plain.Short(hiveID), e.hiveID))
	}
	// Also for a recorded job that is begun after a restart: its type may have changed.
	if s, ok := op.(operation.Spawn); ok {
		if op, err = e.CheckSpawn(s); err != nil {
			return nil, err
		}
	}
	return op, nil
}

// Execute implements jobs.Executor.
func (e *executor) Execute(ctx context.Context, j *jobs.Job) (any, error) {
	op := j.Operation()
	// An event may have named a worker that is not in the tables yet.
	if err := e.AwaitPending(ctx, operation.TargetOf(op)); err != nil {
		return nil, err
	}
	return operation.Of(op).Run(ctx, e, j, op)
}

// Answer implements jobs.Executor.
func (e *executor) Answer(ctx context.Context, op operation.Operation) (any, error) {
	return operation.Of(op).Answer(ctx, e, op)
}

// ProcessList carries out worker_process_list; the result is a list of operation.Process.
func (e *executor) ProcessList(context.Context, operation.ProcessList) (any, error) {
	// Not nil: rbee's page expects an array.
	processes := []operation.Process{}
	for _, w := range e.Live() {
		processes = append(processes, operation.ProcessOf(w))
	}
	return processes, nil
}

// ProcessGet carries out worker_process_get; the result is an operation.Process.
func (e *executor) ProcessGet(_ context.Context, op operation.ProcessGet) (any, error) {
	w, ok := e.LiveByPID(op.PID)
	if !ok {
		return nil, errdefs.Fail(errdefs.CodeNotFound, "no worker of this hive has PID %d", op.PID)
	}
	return operation.ProcessOf(w), nil
}
