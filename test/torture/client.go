package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// harass lets clients spawn and stop workers until the moment has come, and ends
// hive while they still do. It returns how many operations were answered.
func harass(ctx context.Context, h *yard.Daemon, end func() error, clients int, seed uint64, until time.Duration) (spawned, stopped int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var nSpawned, nStopped atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				act(ctx, h, rnd, &nSpawned, &nStopped)
			}
		})
	}
	select {
	case <-time.After(until):
	case <-ctx.Done():
	}
	err = end()
	cancel()
	wg.Wait()
	return int(nSpawned.Load()), int(nStopped.Load()), err
}

// act is one action of one client. Errors are expected: hive is being killed.
func act(ctx context.Context, h *yard.Daemon, rnd *rand.Rand, spawned, stopped *atomic.Int64) {
	live, err := h.Live(ctx)
	if err != nil {
		return
	}
	if rnd.IntN(ports) >= len(live) {
		kind := "nap"
		if rnd.IntN(8) == 0 {
			kind = "cpu" // listens, and takes longer to start
		}
		if status, _ := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=5s", map[string]any{"operation": "worker_spawn", "worker": kind, "wait": "started"}, nil); status == http.StatusOK {
			spawned.Add(1)
		}
		return
	}
	for id := range live {
		if status, _ := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=5s", map[string]any{"operation": "worker_stop", "worker_id": id}, nil); status == http.StatusOK {
			stopped.Add(1)
		}
		return
	}
}

// stopAll stops every worker on request, also those that queued jobs of
// earlier rounds still start.
func stopAll(ctx context.Context, h *yard.Daemon) error {
	for {
		busy, err := unfinished(ctx, h)
		if err != nil {
			return err
		}
		live, err := h.Live(ctx)
		if err != nil {
			return err
		}
		if !busy && len(live) == 0 {
			return nil
		}
		for id := range live {
			if err := stopOne(ctx, h, id); err != nil {
				return err
			}
		}
	}
}

func unfinished(ctx context.Context, h *yard.Daemon) (bool, error) {
	for _, state := range []string{"queued", "running"} {
		var page wire.Jobs
		if _, err := h.Get(ctx, "/v1/jobs?state="+state, &page); err != nil || len(page.Jobs) > 0 {
			return true, err
		}
	}
	return false, nil
}

func stopOne(ctx context.Context, h *yard.Daemon, id string) error {
	var job wire.Job
	status, err := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=30s", map[string]any{"operation": "worker_stop", "worker_id": id}, &job)
	if err != nil {
		return err
	}
	if status != http.StatusOK || (job.State != "succeeded" && (job.Error == nil || job.Error.Code != "not_found")) {
		return fmt.Errorf("stop %s: status %d, job %s, error %+v", id, status, job.State, job.Error)
	}
	return nil
}
