package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
)

// Op is the body of a job: an operation with its fields.
type Op map[string]any

// Spawn is the operation that starts a worker of a type.
func Spawn(worker string) Op { return Op{"operation": "worker_spawn", "worker": worker} }

// Stop is the operation that stops a worker.
func Stop(id string) Op { return Op{"operation": "worker_stop", "worker_id": id} }

// jobTimeout is how long a job may take.
const jobTimeout = 2 * time.Minute

// Do carries out an operation and waits until its job has ended, also over a restart
// of hive. A job that has failed is not an error. Errors are Call's as long as hive has
// not accepted the job, then others.
func (i *Instance) Do(ctx context.Context, op Op) (wire.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	var job wire.Job
	if err := i.Call(ctx, http.MethodPost, "/v1/jobs?wait=60s", op, &job); err != nil {
		return job, err
	}
	for job.FinishedAt == nil {
		err := i.Get(ctx, "/v1/jobs/"+job.JobID+"?wait=60s", &job)
		if err != nil && (!errors.Is(err, ErrUnavailable) || !Sleep(ctx, pollInterval)) {
			return job, errors.New("job " + job.JobID + " was accepted and has not ended: " + err.Error())
		}
	}
	return job, nil
}

// Failed is a job that was to succeed and has not.
type Failed struct{ wire.Job }

func (f *Failed) Error() string {
	return fmt.Sprintf("%s is %s: %+v", f.Operation, f.State, f.Job.Error)
}

// Code is the code of a *Refused or a *Failed; empty of any other error.
func Code(err error) string {
	if r, ok := errors.AsType[*Refused](err); ok {
		return r.Code
	}
	if f, ok := errors.AsType[*Failed](err); ok && f.Job.Error != nil {
		return f.Job.Error.Code
	}
	return ""
}

// Succeed is Do of an operation that must succeed, else its error is *Failed. into is
// for the job's result; it may be nil.
func (i *Instance) Succeed(ctx context.Context, op Op, into any) error {
	job, err := i.Do(ctx, op)
	if err != nil {
		return fmt.Errorf("%s: %w", op["operation"], err)
	}
	if job.State != "succeeded" {
		return &Failed{job}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(job.Result, into)
}

// maxSpawns is how many starts a hive carries out at once.
const maxSpawns = 8

// SpawnAll starts workers of these types, and returns them in this order.
func (i *Instance) SpawnAll(ctx context.Context, types []string) ([]wire.Spawned, error) {
	all := make([]wire.Spawned, len(types))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxSpawns)
	for n, typ := range types {
		g.Go(func() error { return i.Succeed(ctx, Spawn(typ), &all[n]) })
	}
	return all, g.Wait()
}

// maxStops is how many stops StopAll asks for at the same time: each has a connection, and
// hive has an end of those.
const maxStops = 64

// StopAll stops every worker, also those that unfinished jobs still start, until no
// worker lives and no job is unfinished. It returns how many stops have succeeded. One
// may find its worker gone; else a stop that fails is an error.
func (i *Instance) StopAll(ctx context.Context, timeout time.Duration) (stopped int, err error) {
	var n atomic.Int64
	err = Eventually(ctx, timeout, func() (string, error) {
		unfinished, err := i.Unfinished(ctx)
		if err != nil {
			return "", err
		}
		live, err := i.Live(ctx)
		if err != nil {
			return "", err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(maxStops)
		for id := range live {
			g.Go(func() error {
				err := i.Succeed(ctx, Stop(id), nil)
				if err == nil {
					n.Add(1)
				}
				if Code(err) == "not_found" {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil || unfinished+len(live) == 0 {
			return "", err
		}
		return fmt.Sprintf("there were still %d unfinished jobs and %d live workers", unfinished, len(live)), nil
	})
	return int(n.Load()), err
}

// Unfinished is how many jobs are queued or running.
func (i *Instance) Unfinished(ctx context.Context) (n int, err error) {
	for _, state := range []string{"queued", "running"} {
		var page wire.Jobs
		if err := i.Get(ctx, "/v1/jobs?state="+state, &page); err != nil {
			return 0, err
		}
		n += len(page.Jobs)
	}
	return n, nil
}

// Info is GET /v1/hive.
func (i *Instance) Info(ctx context.Context) (info wire.Hive, err error) {
	err = i.Get(ctx, "/v1/hive", &info)
	return info, err
}

// Leases is GET /v1/leases.
func (i *Instance) Leases(ctx context.Context) ([]wire.Lease, error) {
	var page wire.Leases
	err := i.Get(ctx, "/v1/leases", &page)
	return page.Leases, err
}

// Workers returns all workers that hive knows, by id.
func (i *Instance) Workers(ctx context.Context) (map[string]wire.Worker, error) {
	var page wire.Workers
	if err := i.Get(ctx, "/v1/workers", &page); err != nil {
		return nil, err
	}
	all := map[string]wire.Worker{}
	for _, w := range page.Workers {
		all[w.WorkerID] = w
	}
	return all, nil
}

// Live returns the workers that have not ended, by id.
func (i *Instance) Live(ctx context.Context) (map[string]wire.Worker, error) {
	live, err := i.Workers(ctx)
	for id, w := range live {
		if slices.Contains([]string{"stopped", "failed"}, w.State) {
			delete(live, id)
		}
	}
	return live, err
}
