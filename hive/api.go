package hive

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"rbeehive/alloc"
	"rbeehive/hive/access"
	"rbeehive/hive/audit"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/hardware"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lease"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/routes"
	"rbeehive/hive/services"
	"rbeehive/hive/telemetry"
	"rbeehive/hive/tokens"
	"rbeehive/hive/workertype"
	"rbeehive/store"
)

// This file is what callers ask of the parts of a hive: each method says whose it is.

// Decode is DecodeFor, for a caller who calls hive by its id.
func (h *Hive) Decode(body []byte) (operation.Operation, error) {
	return h.DecodeFor(body, func(string) bool { return false })
}

// DecodeFor reads an operation and checks all that can be known from the body and the
// worker types. called reports whether a hive_id that is not this hive's is another name
// of it. Errors are *errdefs.InputError. It does not block.
func (h *Hive) DecodeFor(body []byte, called func(hiveID string) bool) (operation.Operation, error) {
	return h.executor.decode(body, called)
}

// Submit records a job of hive's own and begins it (jobs.Queue.Submit).
func (h *Hive) Submit(ctx context.Context, op operation.Operation, raw json.RawMessage) (store.Job, error) {
	return h.SubmitFor(ctx, access.Hive(), "", op, raw)
}

// SubmitFor is jobs.Queue.Submit, for what the caller may have. What they may not is an
// *errdefs.InputError of kind errdefs.ErrForbidden.
func (h *Hive) SubmitFor(ctx context.Context, by access.Caller, key string, op operation.Operation, raw json.RawMessage) (store.Job, error) {
	if !h.run.Serving() {
		return store.Job{}, errdefs.ErrRecovering // before it is said who may: nothing is known yet
	}
	op, err := h.Authorize(by, op)
	if err != nil {
		return store.Job{}, err
	}
	return h.jobs.Submit(ctx, by, key, op, raw)
}

// Job is jobs.Queue.Job.
func (h *Hive) Job(id string) (store.Job, error) { return h.jobs.Job(id) }

// WaitJob is jobs.Queue.Wait.
func (h *Hive) WaitJob(ctx context.Context, id string) (store.Job, error) {
	return h.jobs.Wait(ctx, id)
}

// Jobs is jobs.Queue.List.
func (h *Hive) Jobs(f jobs.Filter) (list []store.Job, next string, err error) { return h.jobs.List(f) }

// Cancel is jobs.Queue.Cancel.
func (h *Hive) Cancel(ctx context.Context, by access.Caller, id string) (store.Job, error) {
	return h.jobs.Cancel(ctx, by, id)
}

// JobEvents is jobs.Queue.Events.
func (h *Hive) JobEvents(ctx context.Context, id string, after uint64) (iter.Seq2[store.Event, error], error) {
	return h.jobs.Events(ctx, id, after)
}

// Events is journal.Journal.Events.
func (h *Hive) Events(ctx context.Context, start journal.Start) (events iter.Seq2[store.Event, error], behind uint64, replayed bool, err error) {
	return h.journal.Events(ctx, start)
}

// WorkerEvents is journal.Journal.WorkerEvents.
func (h *Hive) WorkerEvents(id string, after uint64, limit int) ([]store.Event, error) {
	return h.journal.WorkerEvents(id, after, limit)
}

// Workers is supervisor.Supervisor.Workers.
func (h *Hive) Workers() []store.Worker { return h.supervisor.Workers() }

// Worker is supervisor.Supervisor.Worker.
func (h *Hive) Worker(ref string) (store.Worker, error) { return h.supervisor.Worker(ref) }

// RemoveWorker is supervisor.Supervisor.RemoveWorker, for who may use its type. What they may not
// is an *errdefs.InputError of kind errdefs.ErrForbidden.
func (h *Hive) RemoveWorker(ctx context.Context, by access.Caller, ref string) (store.Worker, error) {
	if !by.Rights.May(access.Admin) {
		rec, err := workerFor(h.supervisor, by, operation.Target{Ref: ref}, "", "the removal of a worker")
		if err != nil {
			return rec, err
		}
		ref = rec.WorkerID
	}
	return h.supervisor.RemoveWorker(ctx, ref, by.String())
}

// Routes is which models are served, and by whom.
func (h *Hive) Routes() *routes.Table { return h.routes }

// Wanted is services.Services.Wanted.
func (h *Hive) Wanted() []services.Wanted { return h.upkeep.services.Wanted() }

// IsWorkersCgroup is supervisor.Supervisor.IsWorkersCgroup.
func (h *Hive) IsWorkersCgroup(id uint64) bool { return h.supervisor.IsWorkersCgroup(id) }

// OpenLog opens the log of a worker, given by id or name, where its last lines
// begin; with lines below 0 at the beginning of all that is kept (logs.Dir.Open).
// Errors: errdefs.ErrNotFound if there is no such worker, or its log has been removed; ctx's.
// The caller closes it.
func (h *Hive) OpenLog(ctx context.Context, ref string, lines int) (*logs.Reader, error) {
	rec, err := h.Worker(ref)
	if err != nil {
		return nil, err
	}
	r, err := h.launcher.Logs.Open(ctx, rec.WorkerID, rec.Log, lines)
	if errors.Is(err, logs.ErrGone) {
		err = fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", rec.WorkerID, err)
	}
	return r, nil
}

// Types is workertype.Types.List.
func (h *Hive) Types(ctx context.Context, versions bool) []workertype.View {
	return h.types.List(ctx, versions)
}

// TypeInfo is workertype.Types.Info.
func (h *Hive) TypeInfo(ctx context.Context, s operation.Spawn, version bool) (workertype.View, error) {
	return h.types.Info(ctx, s, version)
}

// CheckModel is workertype.Types.CheckModel.
func (h *Hive) CheckModel(op operation.Operation, trusted bool) error {
	return h.types.CheckModel(op, trusted)
}

// Leases is lease.Manager.List.
func (h *Hive) Leases() ([]store.Lease, error) { return h.leases.List() }

// LeasesOf is lease.Manager.HeldBy.
func (h *Hive) LeasesOf(pid int) ([]store.Lease, error) { return h.leases.HeldBy(pid) }

// Lease is lease.Manager.Lease.
func (h *Hive) Lease(port uint16) (store.Lease, error) { return h.leases.Lease(port) }

// AcquireLease is lease.Manager.Acquire.
func (h *Hive) AcquireLease(ctx context.Context, by access.Caller, req lease.Request) (store.Lease, error) {
	return h.leases.Acquire(ctx, by, req)
}

// RenewLease is lease.Manager.Renew.
func (h *Hive) RenewLease(ctx context.Context, by access.Caller, port uint16, r lease.Renewal) (store.Lease, error) {
	return h.leases.Renew(ctx, by, port, r)
}

// ReleaseLease is lease.Manager.Release.
func (h *Hive) ReleaseLease(by access.Caller, port uint16, leaseID string) (freed bool, err error) {
	return h.leases.Release(by, port, leaseID)
}

// Ports looks at the whole port range. It blocks for the read of the socket table.
func (h *Hive) Ports(ctx context.Context) (alloc.Survey, error) { return h.alloc.Survey(ctx) }

// Audit is audit.Auditor.Audit.
func (h *Hive) Audit(ctx context.Context) (audit.Report, error) { return h.auditor.Audit(ctx) }

// Repair is audit.Auditor.Repair.
func (h *Hive) Repair(ctx context.Context) (audit.Report, error) { return h.auditor.Repair(ctx) }

// LastAudit is audit.Auditor.Last.
func (h *Hive) LastAudit() audit.Report { return h.auditor.Last() }

// Heartbeats is telemetry.Telemetry.Heartbeats.
func (h *Hive) Heartbeats(ctx context.Context) iter.Seq[*telemetry.Heartbeat] {
	return h.telemetry.Heartbeats(ctx)
}

// Devices returns what this machine has to run models on: GPUs, then the CPU. The
// first call waits for a look at them, a few seconds at most; later ones answer with
// what is known. Errors: ctx's, and errdefs.ErrClosed.
func (h *Hive) Devices(ctx context.Context) ([]hardware.Device, error) {
	devices, err := h.telemetry.Devices(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, errdefs.ErrClosed
	}
	return devices, err
}

// TokenRights is tokens.Set.Rights.
func (h *Hive) TokenRights(sum [sha256.Size]byte) (name string, r access.Rights, ok bool) {
	return h.tokens.Rights(sum)
}

// Tokens are the tokens of this hive.
func (h *Hive) Tokens() *tokens.Set { return h.tokens }

// ExpiresAt is lease.Manager.ExpiresAt.
func (h *Hive) ExpiresAt(leaseID string) *time.Time { return h.leases.ExpiresAt(leaseID) }
