package httpapi

import (
	"encoding/json"
	"time"

	"rbeehive/hive/access"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/services"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// Records become wire shapes here, worker types in types_shapes.go, and what hive finds
// out in hive_shapes.go; nowhere else.

// orNull turns a value into the API's form of "absent".
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func orNullTime(t *time.Time) *wire.Time {
	if t == nil || t.IsZero() {
		return nil
	}
	w := wire.Time(*t)
	return &w
}

// orNullJSON keeps an empty message from breaking the encoder.
func orNullJSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	return raw
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func jobShape(j store.Job) wire.Job {
	return wire.Job{
		JobID:       j.JobID,
		RequestedBy: requesterShape(j.RequestedBy),
		Operation:   j.Operation,
		State:       string(j.State),
		Request:     orNullJSON(j.Request),
		Result:      orNullJSON(j.Result),
		Error:       jobErrorShape(j.Error),
		CreatedAt:   wire.Time(j.CreatedAt),
		StartedAt:   orNullTime(j.StartedAt),
		FinishedAt:  orNullTime(j.FinishedAt),
	}
}

func requesterShape(r *store.Requester) *wire.Requester {
	if r == nil {
		return nil
	}
	return &wire.Requester{
		Name: access.Name(r), Hive: r.Hive, Token: orNull(r.Token), UID: r.UID, User: orNull(r.User), PID: orNull(r.PID),
	}
}

func jobErrorShape(e *store.JobError) *wire.JobError {
	if e == nil {
		return nil
	}
	return &wire.JobError{Code: e.Code, Message: e.Message, Log: orEmpty(e.Log)}
}

func submittedShape(j store.Job) wire.Submitted {
	return wire.Submitted{
		JobID:     j.JobID,
		SSEURL:    "/v1/jobs/" + j.JobID + "/stream",
		State:     string(j.State),
		Operation: j.Operation,
	}
}

func eventShape(e store.Event) wire.Event {
	return wire.Event{
		Seq:      e.Seq,
		JobSeq:   orNull(e.JobSeq),
		At:       wire.Time(e.At),
		Type:     string(e.Type),
		JobID:    orNull(e.JobID),
		WorkerID: orNull(e.WorkerID),
		Message:  e.Message,
		Data:     orNullJSON(e.Data),
	}
}

// workerPID is the PID, nil once the worker is dead: the number may be somebody
// else's by then.
func workerPID(w store.Worker) *int {
	if w.State.Ended() || w.Identity == nil {
		return nil
	}
	return orNull(w.Identity.PID)
}

func workerLease(w store.Worker) *string {
	if w.State.Ended() {
		return nil
	}
	return orNull(w.LeaseID)
}

func workerShape(w store.Worker) wire.Worker {
	return wire.Worker{
		WorkerID:  w.WorkerID,
		Name:      orNull(w.Name),
		Type:      w.Type,
		Model:     orNull(w.Spec.Model),
		Device:    orNull(w.Spec.Device),
		Port:      w.Port,
		Ports:     orEmpty(w.Ports),
		PID:       workerPID(w),
		URL:       endpoint.URL(w),
		State:     lifecycle.PublicState(w.State),
		Reason:    orNull(w.Reason),
		Stale:     w.Stale,
		Desired:   string(w.Desired),
		Restarts:  w.Restarts,
		Exit:      exitShape(w.Exit),
		LeaseID:   workerLease(w),
		Log:       w.Log,
		StartedAt: wire.Time(w.StartedAt),
		ReadyAt:   orNullTime(w.ReadyAt),
	}
}

func wantedShape(v services.Wanted) wire.Wanted {
	return wire.Wanted{
		Name: v.Name, State: string(v.State), Reason: orNull(v.Reason), Failed: v.Failed,
		NextTry: orNullTime(&v.NextTry), JobID: orNull(v.JobID), Since: wire.Time(v.Since),
	}
}

// spawnedShape is the result of a worker_spawn whose worker is not ready yet.
func spawnedShape(w store.Worker) wire.Spawned {
	return wire.Spawned{
		WorkerID: w.WorkerID,
		Name:     orNull(w.Name),
		Port:     w.Port,
		Ports:    orEmpty(w.Ports),
		PID:      workerPID(w),
		URL:      endpoint.URL(w),
		LeaseID:  workerLease(w),
		Status:   "starting",
	}
}

func exitShape(e *store.Exit) *wire.Exit {
	if e == nil {
		return nil
	}
	return &wire.Exit{Code: e.Code, Signal: orNull(e.Signal), OOM: e.OOM, At: wire.Time(e.At)}
}

// leaseShape needs to know when a ttl lease runs out, which the record does not say.
func leaseShape(l store.Lease, expires *time.Time) wire.Lease {
	shape := wire.Lease{
		Port:        l.Port,
		Ports:       l.All(),
		LeaseID:     l.LeaseID,
		Kind:        string(l.Kind),
		WorkerID:    orNull(l.WorkerID),
		Owner:       orNull(l.Owner),
		RequestedBy: requesterShape(l.Requester),
		State:       string(l.State),
		Reason:      orNull(l.Reason),
		TTLMS:       orNull(l.TTL.Milliseconds()),
		AcquiredAt:  wire.Time(l.AcquiredAt),
		ExpiresAt:   orNullTime(expires),
	}
	if l.Identity != nil {
		shape.PID = orNull(l.Identity.PID)
	}
	return shape
}

func tokenShape(t store.Token) wire.Token {
	return wire.Token{
		Name: t.Name, Level: t.Level, Types: orEmpty(t.Types), CreatedAt: wire.Time(t.CreatedAt), CreatedBy: requesterShape(t.CreatedBy),
		ExpiresAt: orNullTime(t.ExpiresAt), Expired: t.ExpiresAt != nil && !time.Now().Before(*t.ExpiresAt),
	}
}
