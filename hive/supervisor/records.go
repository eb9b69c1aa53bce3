package supervisor

import (
	"errors"
	"fmt"
	"time"

	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// workerEvent appends the event of a worker's new state.
func workerEvent(b *journal.Batch, rec store.Worker, jobID, message string) error {
	return b.Event(store.EventState, jobID, rec.WorkerID, message, map[string]any{
		"worker": lifecycle.PublicState(rec.State), "worker_id": rec.WorkerID, "reason": operation.OrNull(rec.Reason),
	})
}

// setLeaseState changes the state of a worker's lease, if it has one. why is for a
// person, where the state needs one.
func setLeaseState(b *journal.Batch, rec store.Worker, state store.LeaseState, why string) error {
	lease, err := b.Lease(rec.Port)
	// A salvaged file may lack it. The worker must be able to end all the same.
	if errors.Is(err, store.ErrNotFound) || (err == nil && lease.LeaseID != rec.LeaseID) {
		return nil
	}
	if err != nil {
		return err
	}
	lease.State, lease.Reason = state, why
	if state == store.LeaseQuarantined {
		// Its process is gone; what is left is known by the other proofs.
		lease.Identity = nil
	}
	return b.PutLease(lease)
}

// setLeaseHolder makes the worker's lease name its present process, or none.
func setLeaseHolder(b *journal.Batch, rec store.Worker) error {
	lease, err := b.Lease(rec.Port)
	if errors.Is(err, store.ErrNotFound) || (err == nil && lease.LeaseID != rec.LeaseID) {
		// The port may be another's by now, so nothing may be recorded as running on it.
		return fmt.Errorf("worker %s has no lease of port %d any more", rec.WorkerID, rec.Port)
	}
	if err != nil {
		return err
	}
	lease.State, lease.Reason, lease.Identity, lease.Cgroup, lease.StampUID = store.LeaseHeld, "", rec.Identity, rec.Cgroup, rec.StampUID
	return b.PutLease(lease)
}

// quarantineLease keeps the lease of an ended worker: its holder is gone, and
// somebody may still be reached on the port.
func quarantineLease(b *journal.Batch, rec store.Worker, jobID, why string) error {
	if err := setLeaseState(b, rec, store.LeaseQuarantined, why); err != nil {
		return err
	}
	return b.Event(store.EventAudit, jobID, rec.WorkerID, fmt.Sprintf("port %d is quarantined: %s", rec.Port, why),
		map[string]any{"port": rec.Port, "lease_id": rec.LeaseID})
}

// logExit says in a worker's log how it has ended.
func logExit(rec store.Worker) {
	what := "unknown exit"
	if rec.Exit != nil {
		what = launch.DescribeExit(*rec.Exit)
	}
	// In backoff it has no process.
	pid := 0
	if rec.Identity != nil {
		pid = rec.Identity.PID
	}
	logs.Printf(rec.Log, "exited pid %d port %d %s: %s", pid, rec.Port, rec.EndedAt.UTC().Format(time.RFC3339), what)
}
