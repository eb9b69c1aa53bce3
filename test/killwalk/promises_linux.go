package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// promises is what hive has acknowledged, and what is therefore to be so after every kill.
// What was asked for and not acknowledged may have happened or not.
type promises struct {
	jobs    []*submitted
	workers map[string]*worker // by id
	leases  map[uint16]*lease  // by port
	key     string             // the Idempotency-Key that was used
	asked   harness.Op         // with that key
	keyed   string             // the job it made
	killed  map[string]int     // by worker's id, the process that the script killed
}

// submitted is a job that was acknowledged.
type submitted struct {
	id  string
	op  harness.Op
	end *wire.Job // as it was told; nil: its end was not acknowledged
}

// worker is a worker that hive has said it started.
type worker struct {
	typ   string
	state string // running, stopped, or unknown: a stop was not acknowledged
	// pid is its process as long as nobody has asked for another one; 0 from then on.
	pid int
}

// lease is a lease that was acknowledged.
type lease struct {
	id    string
	ports []uint16
	held  string // yes, no or unknown
}

func newPromises() *promises {
	return &promises{workers: map[string]*worker{}, leases: map[uint16]*lease{}, killed: map[string]int{}}
}

// submit sends an operation and enters what is acknowledged.
func (p *promises) submit(ctx context.Context, hive *harness.Instance, op harness.Op, header ...string) (*submitted, error) {
	var answer wire.Submitted
	if err := hive.Call(ctx, http.MethodPost, "/v1/jobs", op, &answer, header...); err != nil {
		return nil, err
	}
	s := &submitted{id: answer.JobID, op: op}
	p.jobs = append(p.jobs, s)
	return s, nil
}

// await waits for the end of a job and enters what it says of workers.
func (p *promises) await(ctx context.Context, hive *harness.Instance, s *submitted) error {
	var job wire.Job
	for job.FinishedAt == nil {
		if err := hive.Get(ctx, "/v1/jobs/"+s.id+"?wait=30s", &job); err != nil {
			return err
		}
	}
	s.end = &job
	return p.enter(s)
}

// enter takes over what the end of a job says of workers.
func (p *promises) enter(s *submitted) error {
	id, _ := s.op["worker_id"].(string)
	switch s.op["operation"] {
	case "worker_spawn":
		if s.end.State != "succeeded" {
			return nil
		}
		var spawned wire.Spawned
		if err := json.Unmarshal(s.end.Result, &spawned); err != nil {
			return err
		}
		if p.workers[spawned.WorkerID] == nil {
			w := &worker{typ: s.op["worker"].(string), state: "running"}
			if spawned.PID != nil {
				w.pid = *spawned.PID
			}
			p.workers[spawned.WorkerID] = w
		}
	case "worker_stop":
		if s.end.State == "succeeded" {
			p.workers[id].state = "stopped"
		}
	}
	return nil
}

// do is submit and await of an operation that has to succeed: nothing is killed before
// hive is.
func (p *promises) do(ctx context.Context, hive *harness.Instance, op harness.Op, header ...string) (*submitted, error) {
	// From now on it may be so.
	if w := p.workers[fmt.Sprint(op["worker_id"])]; w != nil {
		w.pid = 0
		if op["operation"] == "worker_stop" {
			w.state = "unknown"
		}
	}
	s, err := p.submit(ctx, hive, op, header...)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, hive, s); err != nil {
		return nil, err
	}
	if s.end.State != "succeeded" {
		return nil, &harness.Failed{Job: *s.end}
	}
	return s, nil
}

// acquire leases a port and enters it.
func (p *promises) acquire(ctx context.Context, hive *harness.Instance, body wire.AcquireLease) (uint16, error) {
	var got wire.Lease
	if err := hive.Call(ctx, http.MethodPost, "/v1/leases", body, &got); err != nil {
		return 0, err
	}
	p.leases[got.Port] = &lease{got.LeaseID, got.Ports, "yes"}
	return got.Port, nil
}

// release gives a lease back.
func (p *promises) release(ctx context.Context, hive *harness.Instance, port uint16) error {
	e := p.leases[port]
	e.held = "unknown"
	if err := hive.Call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", port, e.id), nil, nil); err != nil {
		return err
	}
	e.held = "no"
	return nil
}

// spawnedBy is the worker that a job which has succeeded has started.
func spawnedBy(s *submitted) (string, error) {
	var spawned wire.Spawned
	err := json.Unmarshal(s.end.Result, &spawned)
	return spawned.WorkerID, err
}

// refused says that hive has not been killed: a script that goes wrong proves nothing.
func refused(err error) bool {
	return err != nil && !errors.Is(err, harness.ErrUnavailable) && !errors.Is(err, context.Canceled)
}

// ended reports whether a worker's state is an end.
func ended(w wire.Worker) bool { return slices.Contains([]string{"stopped", "failed"}, w.State) }
