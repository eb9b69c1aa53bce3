package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/httpapi/wire"
)

func (h *daemon) get(ctx context.Context, path string, into any) (int, error) {
	return h.call(ctx, http.MethodGet, path, nil, into)
}

func (h *daemon) call(ctx context.Context, method, path string, body, into any) (int, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+h.y.api+path, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if into == nil || resp.StatusCode >= 300 {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(into)
}

func (h *daemon) info(ctx context.Context) (i wire.Hive, err error) {
	_, err = h.get(ctx, "/v1/hive", &i)
	return i, err
}

func (h *daemon) leases(ctx context.Context) ([]wire.Lease, error) {
	var l wire.Leases
	_, err := h.get(ctx, "/v1/leases", &l)
	return l.Leases, err
}

// live returns the workers that have a process, by id.
func (h *daemon) live(ctx context.Context) (map[string]wire.Worker, error) {
	var page wire.Workers
	if _, err := h.get(ctx, "/v1/workers", &page); err != nil {
		return nil, err
	}
	live := map[string]wire.Worker{}
	for _, w := range page.Workers {
		if w.State != "stopped" && w.State != "failed" {
			live[w.WorkerID] = w
		}
	}
	return live, nil
}

// harass lets clients spawn and stop workers until the moment has come, and
// kills hive while they still do. It returns how many operations were answered.
func (h *daemon) harass(ctx context.Context, clients int, seed uint64, until time.Duration) (spawned, stopped int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var nSpawned, nStopped atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // moments, not secrets
			for ctx.Err() == nil {
				h.act(ctx, rnd, &nSpawned, &nStopped)
			}
		})
	}
	select {
	case <-time.After(until):
	case <-ctx.Done():
	}
	_ = h.cmd.Process.Kill()
	cancel()
	wg.Wait()
	return int(nSpawned.Load()), int(nStopped.Load())
}

// act is one action of one client. Errors are expected: hive is being killed.
func (h *daemon) act(ctx context.Context, rnd *rand.Rand, spawned, stopped *atomic.Int64) {
	live, err := h.live(ctx)
	if err != nil {
		return
	}
	if rnd.IntN(ports) >= len(live) {
		kind := "nap"
		if rnd.IntN(8) == 0 {
			kind = "cpu" // listens, and takes longer to start
		}
		if status, _ := h.call(ctx, http.MethodPost, "/v1/jobs?wait=5s", map[string]any{"operation": "worker_spawn", "worker": kind, "wait": "started"}, nil); status == http.StatusOK {
			spawned.Add(1)
		}
		return
	}
	for id := range live {
		if status, _ := h.call(ctx, http.MethodPost, "/v1/jobs?wait=5s", map[string]any{"operation": "worker_stop", "worker_id": id}, nil); status == http.StatusOK {
			stopped.Add(1)
		}
		return
	}
}

// stopAll stops every worker on request.
func (h *daemon) stopAll(ctx context.Context) error {
	live, err := h.live(ctx)
	if err != nil {
		return err
	}
	for id := range live {
		var job wire.Job
		status, err := h.call(ctx, http.MethodPost, "/v1/jobs?wait=30s", map[string]any{"operation": "worker_stop", "worker_id": id}, &job)
		if err != nil || status != http.StatusOK || (job.State != "succeeded" && (job.Error == nil || job.Error.Code != "not_found")) {
			return fmt.Errorf("stop %s: status %d, job %s, error %+v: %w", id, status, job.State, job.Error, err)
		}
	}
	return nil
}
