package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// fleet fills a port range with reference workers and measures the hive that
// has them, and its recovery.
func (r results) fleet(ctx context.Context, binary string, n int) (err error) {
	y, err := yard.New(binary, n, "[]")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	h, err := y.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { h.Kill() }()
	there := 0
	for _, part := range []int{n / 4, n} {
		if err := r.telemetry(ctx, y, h, there, part); err != nil {
			return err
		}
		there = part
		begun := time.Now()
		if err := fill(ctx, h, part); err != nil {
			return err
		}
		fmt.Printf("%d workers ready after another %.1f s\n", part, time.Since(begun).Seconds())
		if h, err = r.recovery(ctx, y, h, part); err != nil {
			return err
		}
	}
	if err := r.size(h); err != nil {
		return err
	}
	return exhaustion(ctx, h)
}

// fill spawns workers until n are ready.
func fill(ctx context.Context, h *yard.Daemon, n int) error {
	live, err := h.Live(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for range n - len(live) {
		g.Go(func() error {
			_, err := spawn(ctx, h)
			return err
		})
	}
	return g.Wait()
}

func spawn(ctx context.Context, h *yard.Daemon) (wire.Job, error) {
	var job wire.Job
	status, err := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=60s", map[string]any{"operation": "worker_spawn", "worker": "cpu"}, &job)
	if err == nil && (status != http.StatusOK || job.State != "succeeded") {
		err = fmt.Errorf("spawn: status %d, %s, %+v", status, job.State, job.Error)
	}
	return job, err
}

// recovery kills hive and measures from the start of the next one until its
// API answers: the median of five.
func (r results) recovery(ctx context.Context, y *yard.Yard, h *yard.Daemon, n int) (*yard.Daemon, error) {
	var took []float64
	for range 5 {
		h.Kill()
		begun := time.Now()
		var err error
		if h, err = y.Start(ctx); err != nil {
			return h, err
		}
		took = append(took, float64(time.Since(begun).Microseconds())/1000)
		info, err := h.Info(ctx)
		if err != nil {
			return h, err
		}
		if info.Recovery.Adopted != n {
			return h, fmt.Errorf("adopted %d of %d workers: %+v", info.Recovery.Adopted, n, info.Recovery)
		}
		// What follows recovery (looks at every worker, the full check) is over
		// when hive uses no more CPU; the next kill comes after it.
		if err := settled(ctx, h.PID()); err != nil {
			return h, err
		}
	}
	m := median(took)
	fmt.Printf("recovery of %d live workers, from process start until the API answers: %.0f ms (of %v)\n", n, m, took)
	key := "recovery-quarter ms"
	if _, ok := r[key]; ok {
		key = "recovery ms"
	}
	r[key] = m
	return h, nil
}

func median(v []float64) float64 {
	for i := range v {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v[len(v)/2]
}

// settled waits until a process has used no CPU for half a second.
func settled(ctx context.Context, pid int) error {
	last, since := -1, time.Now()
	for ctx.Err() == nil {
		ticks, err := cpuTicks(pid)
		if err != nil {
			return err
		}
		if ticks > last+1 {
			last, since = ticks, time.Now()
		}
		if time.Since(since) > 500*time.Millisecond {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ctx.Err()
}

func cpuTicks(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return user + system, err
}

// size reads memory and threads of the idle hive.
func (r results) size(h *yard.Daemon) error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		v, err := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			r["rss MB"] = v / 1024
		case "Threads:":
			r["threads n"] = v
		default:
			continue
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("hive with all its workers idle: %.1f MB resident, %.0f threads\n", r["rss MB"], r["threads n"])
	return nil
}

// exhaustion shows that one worker too many fails as it should, and that one
// stop makes room.
func exhaustion(ctx context.Context, h *yard.Daemon) error {
	job, err := spawn(ctx, h)
	if err == nil || job.Error == nil || job.Error.Code != "ports_exhausted" {
		return fmt.Errorf("one worker too many: %s, %+v: %w", job.State, job.Error, err)
	}
	fmt.Printf("one worker more: %s: %s\n", job.Error.Code, job.Error.Message)
	live, err := h.Live(ctx)
	if err != nil {
		return err
	}
	for id := range live {
		if _, err := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=60s", map[string]any{"operation": "worker_stop", "worker_id": id}, &job); err != nil {
			return err
		}
		break
	}
	if job, err = spawn(ctx, h); err != nil {
		return fmt.Errorf("after one stop: %w", err)
	}
	fmt.Printf("after one stop: %s\n", job.Result)
	return nil
}
