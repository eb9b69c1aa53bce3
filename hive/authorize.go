package hive

import (
	"fmt"
	"strings"

	"rbeehive/hive/access"
	"rbeehive/store"
)

// Authorize decides whether a caller may have an operation carried out, and returns
// the operation that is to be: who may use some worker types only has a worker's name
// resolved now, so that it cannot mean a worker of another type later, and may not have
// files of the machine read as models. It blocks as CheckModel does. Errors are an *InputError of kind ErrForbidden.
func (h *Hive) Authorize(by access.Caller, op Operation) (Operation, error) {
	if by.Rights.May(access.Admin) {
		return op, nil
	}
	switch o := op.(type) {
	case ProcessList, ProcessGet, CatalogList, CatalogGet, InstalledList, InstalledGet, ModelList, ModelGet, Unsupported:
		if by.Rights.May(access.Read) {
			return op, nil
		}
	case Spawn:
		if by.Rights.MayUse(o.Worker) {
			return op, h.CheckModel(op, false)
		}
		return nil, h.notAllowed(by, op, "worker", fmt.Sprintf("workers of type %s", clip(o.Worker)))
	case StopWorker:
		rec, err := h.usable(by, op, "worker_id", func() (store.Worker, bool) { return h.lookUp(o.WorkerID) })
		o.WorkerID = rec.WorkerID
		return o, err
	case RestartWorker:
		rec, err := h.usable(by, op, "worker_id", func() (store.Worker, bool) { return h.lookUp(o.WorkerID) })
		o.WorkerID = rec.WorkerID
		return o, err
	case ProcessDelete:
		_, err := h.usable(by, op, "pid", func() (store.Worker, bool) {
			w := h.workerByPID(o.PID)
			if w == nil {
				return store.Worker{}, false
			}
			return w.record(), true
		})
		return o, err
	}
	return nil, h.notAllowed(by, op, "", "it")
}

// usable finds the worker that an operation is about, of a type that the caller may
// use. One that is not there is refused in the same words: what is not theirs is not
// theirs to know.
func (h *Hive) usable(by access.Caller, op Operation, field string, find func() (store.Worker, bool)) (store.Worker, error) {
	if rec, ok := find(); ok && by.Rights.MayUse(rec.Type) {
		return rec, nil
	}
	return store.Worker{}, h.notAllowed(by, op, field, "workers of that type, or there is none")
}

// lookUp finds a worker, living or dead, by id or name.
func (h *Hive) lookUp(ref string) (store.Worker, bool) {
	rec, err := h.Worker(ref)
	return rec, err == nil
}

func (h *Hive) notAllowed(by access.Caller, op Operation, field, what string) error {
	may := "may only look"
	if len(by.Rights.Types) > 0 {
		may = "may use the worker types " + strings.Join(by.Rights.Types, ", ")
	}
	return &InputError{Kind: ErrForbidden, Field: field, Detail: fmt.Sprintf(
		"%s %s, and %s needs more: %s; an admin can allow it (access.admin or the entry's allow in hive.yaml, or another token)", by, may, op.Tag(), what)}
}

// ownLease refuses a lease that somebody else has acquired. Its id is no secret.
func ownLease(by access.Caller, l store.Lease) error {
	if by.Rights.May(access.Admin) || by.Same(l.Requester) {
		return nil
	}
	return &InputError{Kind: ErrForbidden, Detail: fmt.Sprintf(
		"the lease of port %d was acquired by %s, and only they and admins may renew or release it; the caller is %s", l.Port, access.Name(l.Requester), by)}
}
