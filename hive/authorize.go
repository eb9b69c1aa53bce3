package hive

import (
	"fmt"
	"strings"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// Authorize decides whether a caller may have an operation carried out, and returns
// the operation that is to be: who may use some worker types only has a worker's name
// resolved now, so that it cannot mean a worker of another type later, and may not have
// files of the machine read as models. It blocks as CheckModel does. Errors are an
// *errdefs.InputError of kind errdefs.ErrForbidden.
func (h *Hive) Authorize(by access.Caller, op operation.Operation) (operation.Operation, error) {
	if by.Rights.May(access.Admin) {
		return op, nil
	}
	row := operation.Of(op)
	switch row.Right {
	case operation.RightRead:
		if by.Rights.May(access.Read) {
			return op, nil
		}
	case operation.RightType:
		s, _ := op.(operation.Spawn)
		if by.Rights.MayUse(s.Worker) {
			return op, h.CheckModel(op, false)
		}
		return nil, notAllowed(by, op.Tag(), "worker", fmt.Sprintf("workers of type %s", plain.Short(s.Worker)))
	case operation.RightWorker:
		rec, err := workerFor(h.supervisor, by, row.Target(op), row.Fields[0], op.Tag())
		if err != nil {
			return nil, err
		}
		if row.Pin != nil {
			// A worker of another type could have the name by the time the job has its turn.
			op = row.Pin(op, rec.WorkerID)
		}
		return op, nil
	}
	return nil, notAllowed(by, op.Tag(), "", "it")
}

// workerFor finds the worker that a caller who is no admin wants something done with. One
// that is not there is refused in the same words as one that is not theirs: what is not
// theirs is not theirs to know.
func workerFor(workers *supervisor.Supervisor, by access.Caller, t operation.Target, field, wanted string) (store.Worker, error) {
	rec, ok := target(workers, t)
	if !ok || !by.Rights.MayUse(rec.Type) {
		return rec, notAllowed(by, wanted, field, "workers of that type, or there is none")
	}
	return rec, nil
}

// target finds the worker that is meant, living or ended, but by PID only a living one.
func target(workers *supervisor.Supervisor, t operation.Target) (store.Worker, bool) {
	if t.PID != 0 {
		return workers.LiveByPID(t.PID)
	}
	rec, err := workers.Worker(t.Ref)
	return rec, err == nil
}

func notAllowed(by access.Caller, wanted, field, what string) error {
	may := "may only look"
	if len(by.Rights.Types) > 0 {
		may = "may use the worker types " + strings.Join(by.Rights.Types, ", ")
	}
	return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: field, Detail: fmt.Sprintf(
		"%s %s, and %s needs more: %s; an admin can allow it (access.admin or the entry's allow in hive.yaml, or another token)", by, may, wanted, what)}
}
