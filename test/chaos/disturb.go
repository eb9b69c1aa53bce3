package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// expectation is what is to become of one worker.
type expectation struct {
	typ   string
	state string // in the end: ready, stopped or failed
	// killed: a worker that is not restarted was killed before it was asked to stop.
	// Whichever hive noticed first: failed is as right as stopped then.
	killed bool
	reply  string // hive's, to the last request
}

// disturb does one thing at random. Requests to one worker are made one at a time, so
// that what the last one asked for is known.
func (r *run) disturb(ctx context.Context) error {
	switch n := r.rand.IntN(100); {
	case n < 45:
		return r.killWorkers(ctx)
	case n < 65:
		return r.request(ctx, "worker_restart", "ready")
	case n < 80:
		return r.request(ctx, "worker_stop", "stopped")
	case n < 92: // nothing has changed in the configuration, so nothing may happen to any worker
		r.tally.Add("reloads", 1)
		return r.hive.Call(ctx, http.MethodPost, "/v1/reload", nil, nil)
	default:
		r.tally.Add("hives killed", 1)
		return r.hive.Restart(ctx)
	}
}

// some returns up to n workers at random.
func (r *run) some(n int) []string {
	ids := slices.Sorted(maps.Keys(r.want))
	r.rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(n, len(ids))]
}

// killWorkers ends the processes of some workers. One that is not restarted has
// failed then, unless it was stopped before.
func (r *run) killWorkers(ctx context.Context) error {
	live, err := r.hive.Live(ctx)
	if err != nil {
		return err
	}
	for _, id := range r.some(1 + r.rand.IntN(8)) {
		w, ok := live[id]
		if !ok || w.PID == nil || !harness.IsWorker(*w.PID, id) {
			continue
		}
		if syscall.Kill(*w.PID, syscall.SIGKILL) == nil {
			r.tally.Add("kills", 1)
			if r.want[id].typ == once {
				r.want[id].state = "failed"
			}
		}
	}
	return nil
}

// request asks something of some workers at once, and waits for the replies. A worker
// that is stopped already is not found, and one whose port another worker has by now
// cannot be restarted: where it is at the end is what counts.
func (r *run) request(ctx context.Context, operation, state string) error {
	var requests sync.WaitGroup
	for _, id := range r.some(1 + r.rand.IntN(6)) {
		e := r.want[id]
		e.killed = operation == "worker_stop" && (e.state == "failed" || e.killed)
		e.state = state
		r.tally.Add(operation, 1)
		requests.Go(func() {
			err := r.hive.Succeed(ctx, harness.Op{"operation": operation, "worker_id": id}, nil)
			e.reply = fmt.Sprintf("%s: %v", operation, err)
		})
	}
	requests.Wait()
	return ctx.Err()
}

// unmet describes the workers that are not where they should be.
func (r *run) unmet(ctx context.Context) (string, error) {
	all, err := r.hive.Workers(ctx)
	if err != nil {
		return "", err
	}
	var wrong []string
	for id, e := range r.want {
		w, ok := all[id]
		switch {
		case ok && w.State == e.state:
		case ok && e.killed && w.State == "failed":
		case ok && e.state == "ready" && w.State == "failed" && portIsTaken(w, all):
			// It was to be started again, and its port had gone to another worker.
		case !ok && e.state != "ready":
			// Only the last 50 ended workers are kept for certain.
		default:
			wrong = append(wrong, fmt.Sprintf("%s is %q (%s), should be %s; %s", id, w.State, text(w.Reason), e.state, e.reply))
		}
	}
	return strings.Join(wrong, "; "), nil
}

// portIsTaken reports whether another living worker has the worker's port.
func portIsTaken(w wire.Worker, all map[string]wire.Worker) bool {
	for _, other := range all {
		if other.WorkerID != w.WorkerID && other.Port == w.Port && other.State != "stopped" && other.State != "failed" {
			return true
		}
	}
	return false
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
