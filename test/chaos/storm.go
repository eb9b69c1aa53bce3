package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// fate is what is to become of one worker: the state it must be in when all has
// settled.
type fate struct {
	typ   string
	state string // ready, stopped or failed
	// killed: a worker that is not restarted was killed before it was asked to stop.
	// Whichever hive noticed first: failed is as right as stopped then.
	killed bool
	answer string // what hive said to the last request
}

// storm is one run.
type storm struct {
	y    *yard.Yard
	h    *yard.Daemon
	rand *rand.Rand
	want map[string]*fate // by worker id
	done map[string]int   // what has happened, for the report
}

func (s *storm) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(s.done)) {
		parts = append(parts, fmt.Sprintf("%d %s", s.done[what], what))
	}
	return strings.Join(parts, ", ")
}

// populate starts n workers, two thirds of them of the kind that is restarted.
func (s *storm) populate(ctx context.Context, n int) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	slots := make(chan struct{}, 8)
	for i := range n {
		typ := steady
		if i%3 == 2 {
			typ = once
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			job, err := s.do(ctx, map[string]any{"operation": "worker_spawn", "worker": typ})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && job.State == "succeeded":
				s.want[field(job.Result, "worker_id")] = &fate{typ: typ, state: "ready"}
			case first == nil:
				first = fmt.Errorf("spawn %s: %w (%+v)", typ, err, job.Error)
			}
		})
	}
	wg.Wait()
	return first
}

// blow does one thing after the other. Requests to one worker are made one at a
// time, so that what the last one asked for is known.
func (s *storm) blow(ctx context.Context, length time.Duration) error {
	end := time.Now().Add(length)
	report := time.Now().Add(length / 5)
	for time.Now().Before(end) && ctx.Err() == nil {
		var err error
		switch n := s.rand.IntN(100); {
		case n < 45:
			err = s.killWorkers(ctx)
		case n < 65:
			err = s.request(ctx, "worker_restart", "ready")
		case n < 80:
			err = s.request(ctx, "worker_stop", "stopped")
		case n < 92:
			err = s.reload(ctx)
		default:
			err = s.killHive(ctx)
		}
		if err != nil {
			return err
		}
		if time.Now().After(report) {
			fmt.Printf("chaos: %s to go: %s\n", time.Until(end).Round(time.Second), s)
			report = time.Now().Add(length / 5)
		}
	}
	return ctx.Err()
}

// some returns up to n workers at random.
func (s *storm) some(n int) []string {
	ids := slices.Sorted(maps.Keys(s.want))
	s.rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(n, len(ids))]
}

// killWorkers ends the processes of some workers. One that is not restarted has
// failed then, unless it was stopped before.
func (s *storm) killWorkers(ctx context.Context) error {
	live, err := s.h.Live(ctx)
	if err != nil {
		return err
	}
	for _, id := range s.some(1 + s.rand.IntN(8)) {
		w, ok := live[id]
		if !ok || w.PID == nil || !yard.IsWorker(*w.PID, id) {
			continue
		}
		if syscall.Kill(*w.PID, syscall.SIGKILL) == nil {
			s.done["kills"]++
			if s.want[id].typ == once {
				s.want[id].state = "failed"
			}
		}
	}
	return nil
}

// request asks something of some workers at once, and waits for the answers.
func (s *storm) request(ctx context.Context, operation, state string) error {
	var wg sync.WaitGroup
	for _, id := range s.some(1 + s.rand.IntN(6)) {
		f := s.want[id]
		f.killed = operation == "worker_stop" && (f.state == "failed" || f.killed)
		f.state = state
		s.done[operation]++
		wg.Go(func() {
			// A worker that is stopped already is not found, one whose port is somebody
			// else's by now cannot be restarted: where it is at the end is what counts.
			job, err := s.do(ctx, map[string]any{"operation": operation, "worker_id": id})
			f.answer = fmt.Sprintf("%s: %s", operation, job.State)
			if job.Error != nil {
				f.answer += " (" + job.Error.Message + ")"
			}
			if err != nil {
				f.answer += " (" + err.Error() + ")"
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// reload has hive read its configuration again; nothing in it has changed, so
// nothing may happen to any worker.
func (s *storm) reload(ctx context.Context) error {
	s.done["reloads"]++
	status, err := s.h.Call(ctx, http.MethodPost, "/v1/reload", nil, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("POST /v1/reload: %d", status)
	}
	return err
}

func (s *storm) killHive(ctx context.Context) error {
	s.done["hives killed"]++
	s.h.Kill()
	again, err := s.y.Start(ctx)
	if err == nil {
		s.h = again
	}
	return err
}

// do carries out an operation to its end.
func (s *storm) do(ctx context.Context, op map[string]any) (job wire.Job, err error) {
	status, err := s.h.Call(ctx, http.MethodPost, "/v1/jobs?wait=60s", op, &job)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d", op["operation"], status)
	}
	return job, err
}
