package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"rbeehive/httpapi/wire"
)

// How long everything may take to settle: kills, backoff, two audits.
const settleLimit = 60 * time.Second

// What hive may have more at the end than at the start: the pools of its runtime
// grow with what was done at once, not with what was done.
const (
	moreFDs        = 8
	moreThreads    = 24
	moreGoroutines = 8
)

// settle waits until every worker is where it should be.
func (s *storm) settle(ctx context.Context) error {
	return eventually(ctx, func() (string, error) {
		var page wire.Workers
		if _, err := s.h.Get(ctx, "/v1/workers", &page); err != nil {
			return "", err
		}
		state := map[string]wire.Worker{}
		for _, w := range page.Workers {
			state[w.WorkerID] = w
		}
		var wrong []string
		for id, f := range s.want {
			w, ok := state[id]
			switch {
			case ok && w.State == f.state:
			case ok && f.killed && w.State == "failed":
			case ok && f.state == "ready" && w.State == "failed" && s.portIsTaken(w, state):
				// It was to be started again, and its port had gone to another worker.
			case !ok && f.state != "ready":
				// Only the last 50 ended workers are kept for certain.
			default:
				wrong = append(wrong, fmt.Sprintf("%s is %q (%s), should be %s; %s", id, w.State, text(w.Reason), f.state, f.answer))
			}
		}
		return strings.Join(wrong, "; "), nil
	})
}

// portIsTaken reports whether another living worker has the worker's port.
func (s *storm) portIsTaken(w wire.Worker, all map[string]wire.Worker) bool {
	for _, other := range all {
		if other.WorkerID != w.WorkerID && other.Port == w.Port && other.State != "stopped" && other.State != "failed" {
			return true
		}
	}
	return false
}

// end stops everything and checks that nothing is left. It returns what hive has
// then.
func (s *storm) end(ctx context.Context, before usage) (now usage, err error) {
	live, err := s.h.Live(ctx)
	if err != nil {
		return now, err
	}
	var wg sync.WaitGroup
	for id := range live {
		wg.Go(func() { _, _ = s.do(ctx, map[string]any{"operation": "worker_stop", "worker_id": id}) })
	}
	wg.Wait()
	err = eventually(ctx, func() (string, error) {
		leases, err := s.h.Leases(ctx)
		if err != nil {
			return "", err
		}
		procs, err := s.y.Members()
		if err != nil {
			return "", err
		}
		now, err = s.usage(ctx)
		switch {
		case err != nil:
			return "", err
		case len(leases) > 0 || len(procs) > 0:
			return fmt.Sprintf("%d leases and %d processes are left", len(leases), len(procs)), nil
		case now.fds > before.fds+moreFDs || now.threads > before.threads+moreThreads || now.goroutines > before.goroutines+moreGoroutines:
			return fmt.Sprintf("hive has %s, at the start it had %s", now, before), nil
		}
		return "", nil
	})
	return now, errors.Join(err, s.h.Term())
}

// usage is what a hive has of the system.
type usage struct{ fds, threads, goroutines int }

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads and %d goroutines", u.fds, u.threads, u.goroutines)
}

// usage reads what this hive has now, from its metrics.
func (s *storm) usage(ctx context.Context) (u usage, err error) {
	text, err := s.h.Text(ctx, "/metrics")
	if err != nil {
		return u, err
	}
	values := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = int(n)
		}
	}
	u = usage{fds: values["process_open_fds"], threads: values["go_threads"], goroutines: values["go_goroutines"]}
	if u.fds == 0 || u.threads == 0 || u.goroutines == 0 {
		return u, errors.New("GET /metrics: a count is missing")
	}
	return u, nil
}

// eventually waits until look says nothing.
func eventually(ctx context.Context, look func() (string, error)) error {
	for deadline := time.Now().Add(settleLimit); ; {
		wrong, err := look()
		if err != nil || wrong == "" {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New(wrong)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// field is a member of a JSON object that is a text.
func field(object json.RawMessage, name string) string {
	var m map[string]any
	_ = json.Unmarshal(object, &m) // an empty text then, which no worker has as its id
	value, _ := m[name].(string)
	return value
}
