package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/freeport"
	"rbeehive/test/harness"
)

const (
	lives        = 60 // workers that are started and stopped one after the other
	crowd        = 100
	floorPoll    = time.Millisecond
	floorTimeout = time.Minute
)

// life measures one worker from its spawn until it is ready, and its stop, beside the same
// program that is forked, asked and ended without anything being recorded; then many at once.
func (r results) life(ctx context.Context, binary string) (err error) {
	hive, err := harness.New(binary, crowd, "[]", "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := r.emptyStart(ctx, hive); err != nil {
		return err
	}
	if err := r.oneByOne(ctx, hive, binary); err != nil {
		return err
	}
	if err := r.together(ctx, hive, binary); err != nil {
		return err
	}
	return r.leases(ctx, hive)
}

// emptyStart measures from the start of a hive without a state file until it is healthy.
func (r results) emptyStart(ctx context.Context, hive *harness.Instance) error {
	var took []time.Duration
	for range 9 {
		hive.Kill()
		if err := os.RemoveAll(hive.Data()); err != nil {
			return err
		}
		begin := time.Now()
		if err := hive.Start(ctx); err != nil {
			return err
		}
		took = append(took, time.Since(begin))
	}
	r["empty-start ms"] = ms(median(took))
	return nil
}

// oneByOne alternates between hive and the floor, so that both meet the same machine.
func (r results) oneByOne(ctx context.Context, hive *harness.Instance, binary string) error {
	var spawns, stops, floorSpawns, floorStops []time.Duration
	var spawnCPU, stopCPU time.Duration
	for n := range lives + 5 {
		p, up, err := floorSpawn(ctx, binary)
		if err != nil {
			return err
		}
		down, err := p.stop()
		if err != nil {
			return err
		}
		var w wire.Spawned
		begin, before := time.Now(), cpuTime(hive.PID())
		if err := hive.Succeed(ctx, harness.Spawn("cpu"), &w); err != nil {
			return err
		}
		spawned, between := time.Now(), cpuTime(hive.PID())
		if err := hive.Succeed(ctx, harness.Stop(w.WorkerID), nil); err != nil {
			return err
		}
		stopped, after := time.Now(), cpuTime(hive.PID())
		if n < 5 {
			continue // what is only done once
		}
		floorSpawns, floorStops = append(floorSpawns, up), append(floorStops, down)
		spawns, stops = append(spawns, spawned.Sub(begin)), append(stops, stopped.Sub(spawned))
		spawnCPU, stopCPU = spawnCPU+between-before, stopCPU+after-between
	}
	r["spawn p50-ms"], r["spawn-floor p50-ms"] = ms(median(spawns)), ms(median(floorSpawns))
	r["stop p50-ms"], r["stop-floor p50-ms"] = ms(median(stops)), ms(median(floorStops))
	r["spawn cpu-ms"], r["stop-alone cpu-ms"] = ms(spawnCPU)/lives, ms(stopCPU)/lives
	fmt.Printf("one worker until it is ready: %.1f ms, without hive %.1f ms; hive uses %.2f ms of CPU\n", r["spawn p50-ms"], r["spawn-floor p50-ms"], r["spawn cpu-ms"])
	fmt.Printf("one stop: %.1f ms, kill and wait %.1f ms; hive uses %.2f ms of CPU\n", r["stop p50-ms"], r["stop-floor p50-ms"], r["stop-alone cpu-ms"])
	return nil
}

// together measures many workers from the first request until all answer, and their stops.
func (r results) together(ctx context.Context, hive *harness.Instance, binary string) error {
	begin, before := time.Now(), cpuTime(hive.PID())
	all, err := hive.SpawnAll(ctx, slices.Repeat([]string{"cpu"}, crowd))
	if err != nil {
		return err
	}
	r["crowd s"], r["crowd cpu-ms"] = time.Since(begin).Seconds(), ms(cpuTime(hive.PID())-before)/crowd
	if err := awaitIdle(ctx, hive.PID()); err != nil {
		return err
	}
	begin, before = time.Now(), cpuTime(hive.PID())
	if _, err := hive.StopAll(ctx, time.Minute); err != nil {
		return err
	}
	r["crowd-stop s"], r["crowd-stop cpu-ms"] = time.Since(begin).Seconds(), ms(cpuTime(hive.PID())-before)/float64(len(all))
	if r["crowd-floor s"], err = floorCrowd(ctx, binary, crowd); err != nil {
		return err
	}
	fmt.Printf("%d workers until all answer: %.2f s (a bare loop: %.2f s), %.2f ms of hive's CPU each; all stopped in %.2f s, %.2f ms each\n",
		crowd, r["crowd s"], r["crowd-floor s"], r["crowd cpu-ms"], r["crowd-stop s"], r["crowd-stop cpu-ms"])
	return nil
}

// leases measures what an acquisition and the release of it cost over HTTP.
func (r results) leases(ctx context.Context, hive *harness.Instance) error {
	const pairs = 200
	var took []time.Duration
	before := cpuTime(hive.PID())
	for range pairs {
		begin := time.Now()
		var l wire.Lease
		if err := hive.Call(ctx, http.MethodPost, "/v1/leases", map[string]any{"ttl": "1m"}, &l); err != nil {
			return err
		}
		if err := hive.Call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", l.Port, l.LeaseID), nil, nil); err != nil {
			return err
		}
		took = append(took, time.Since(begin))
	}
	r["lease cpu-ms"], r["lease p50-ms"] = ms(cpuTime(hive.PID())-before)/pairs, ms(median(took))
	fmt.Printf("a lease acquired and released over HTTP: %.2f ms, %.2f ms of CPU\n", r["lease p50-ms"], r["lease cpu-ms"])
	return nil
}

// bare is a worker that nobody supervises.
type bare struct{ cmd *exec.Cmd }

// floorSpawn forks and executes the reference worker, and waits for its first 200.
func floorSpawn(ctx context.Context, binary string) (bare, time.Duration, error) {
	port, err := freeport.Range(1)
	if err != nil {
		return bare{}, 0, err
	}
	begin := time.Now()
	p, err := floorStart(binary, port)
	if err == nil {
		err = answers(ctx, port)
	}
	return p, time.Since(begin), err
}

func floorStart(binary string, port int) (bare, error) {
	cmd := exec.Command(binary, "worker", "--port", strconv.Itoa(port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return bare{cmd}, cmd.Start()
}

func (b bare) stop() (time.Duration, error) {
	begin := time.Now()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := b.cmd.Wait()
	return time.Since(begin), err
}

// answers waits until a worker answers 200, asking as often as floorPoll allows.
func answers(ctx context.Context, port int) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(ctx, floorTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/health", port), nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if !harness.Sleep(ctx, floorPoll) {
			return fmt.Errorf("port %d does not answer: %w", port, ctx.Err())
		}
	}
}

// floorCrowd starts so many at once, as fast as that goes, and waits until all answer.
func floorCrowd(ctx context.Context, binary string, n int) (seconds float64, err error) {
	first, err := freeport.Range(n)
	if err != nil {
		return 0, err
	}
	var all []bare
	defer func() {
		for _, p := range all {
			_, stopErr := p.stop()
			err = errors.Join(err, stopErr)
		}
	}()
	begin := time.Now()
	for i := range n {
		p, err := floorStart(binary, first+i)
		if err != nil {
			return 0, err
		}
		all = append(all, p)
	}
	for i := range n {
		if err := answers(ctx, first+i); err != nil {
			return 0, err
		}
	}
	return time.Since(begin).Seconds(), nil
}

// cpuTime is the CPU time of a process, all its threads; 0 if it has ended. It is the
// process's CPU clock (clock_getcpuclockid(3)).
func cpuTime(pid int) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
