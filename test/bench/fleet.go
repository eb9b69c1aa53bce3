package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// fleet fills a port range with reference workers and measures the hive that
// has them, and its recovery.
func (r results) fleet(ctx context.Context, binary string, n int) (err error) {
	hive, err := harness.New(binary, n, "[]")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	there := 0
	for _, part := range []int{n / 4, n} {
		if err := r.telemetry(ctx, hive, there, part); err != nil {
			return err
		}
		there = part
		begin := time.Now()
		if err := fill(ctx, hive, part); err != nil {
			return err
		}
		fmt.Printf("%d workers ready after another %.1f s\n", part, time.Since(begin).Seconds())
		if err = r.recovery(ctx, hive, part); err != nil {
			return err
		}
	}
	if err := r.idle(ctx, hive.PID()); err != nil {
		return err
	}
	if err := exhaustion(ctx, hive); err != nil {
		return err
	}
	return r.late(ctx, hive)
}

// late measures spawns and stops beside all other workers, and then the stop of all.
func (r results) late(ctx context.Context, hive *harness.Instance) error {
	var spawns, stops []time.Duration
	live, err := hive.Live(ctx)
	if err != nil {
		return err
	}
	for id := range live {
		begin := time.Now()
		if err := hive.Succeed(ctx, harness.Stop(id), nil); err != nil {
			return err
		}
		stopped := time.Now()
		if err := hive.Succeed(ctx, harness.Spawn("cpu"), nil); err != nil {
			return err
		}
		stops, spawns = append(stops, stopped.Sub(begin)), append(spawns, time.Since(stopped))
		if len(stops) == lives {
			break
		}
	}
	r["late-stop p50-ms"], r["late-spawn p50-ms"] = ms(median(stops)), ms(median(spawns))
	begin, before := time.Now(), cpuTime(hive.PID())
	stopped, err := hive.StopAll(ctx, 5*time.Minute)
	if err != nil {
		return err
	}
	r["stop-all s"], r["stop-all cpu-ms"] = time.Since(begin).Seconds(), ms(cpuTime(hive.PID())-before)/float64(max(stopped, 1))
	fmt.Printf("beside all other workers: a stop %.1f ms, a spawn %.1f ms; all %d stopped in %.1f s, %.2f ms of hive's CPU each\n",
		r["late-stop p50-ms"], r["late-spawn p50-ms"], stopped, r["stop-all s"], r["stop-all cpu-ms"])
	return nil
}

// fill spawns workers until n are ready.
func fill(ctx context.Context, hive *harness.Instance, n int) error {
	live, err := hive.Live(ctx)
	if err == nil {
		_, err = hive.SpawnAll(ctx, slices.Repeat([]string{"cpu"}, n-len(live)))
	}
	return err
}

// recovery kills hive and measures from the start of the next one until its
// API answers: the median of five.
func (r results) recovery(ctx context.Context, hive *harness.Instance, n int) error {
	var took []float64
	for range 5 {
		hive.Kill()
		begin := time.Now()
		if err := hive.Start(ctx); err != nil {
			return err
		}
		took = append(took, float64(time.Since(begin).Microseconds())/1000)
		info, err := hive.Info(ctx)
		if err != nil {
			return err
		}
		if info.Recovery.Adopted != n {
			return fmt.Errorf("adopted %d of %d workers: %+v", info.Recovery.Adopted, n, info.Recovery)
		}
		// What follows recovery (a probe of every worker, the full check) is over
		// when hive uses no more CPU; the next kill comes after it.
		if err := awaitIdle(ctx, hive.PID()); err != nil {
			return err
		}
	}
	slices.Sort(took)
	m := took[len(took)/2]
	fmt.Printf("recovery of %d live workers, from process start until the API answers: %.0f ms (of %v)\n", n, m, took)
	key := "recovery-quarter ms"
	if _, ok := r[key]; ok {
		key = "recovery ms"
	}
	r[key] = m
	return nil
}

// idleTimeout is how long a hive may take until it has nothing to do.
const idleTimeout = 5 * time.Minute

// awaitIdle waits until a process has used no CPU for half a second.
func awaitIdle(ctx context.Context, pid int) error {
	last, since := -1, time.Now()
	return harness.Eventually(ctx, idleTimeout, func() (string, error) {
		ticks, err := cpuTicks(pid)
		if ticks > last+1 {
			last, since = ticks, time.Now()
		}
		if err != nil || time.Since(since) > 500*time.Millisecond {
			return "", err
		}
		return "hive uses CPU", nil
	})
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

// idleFor is how long hive's CPU is measured while nobody asks anything of it: longer than
// the time from one audit to the next.
const idleFor = 45 * time.Second

// idle measures what hive uses while its workers are left in peace.
func (r results) idle(ctx context.Context, pid int) error {
	begin, before := time.Now(), cpuTime(pid)
	if !harness.Sleep(ctx, idleFor) {
		return ctx.Err()
	}
	r["idle %"] = 100 * (cpuTime(pid) - before).Seconds() / time.Since(begin).Seconds()
	fmt.Printf("hive with all its workers idle: %.2f %% of a core\n", r["idle %"])
	return r.size(pid)
}

// size reads memory and threads of the idle hive.
func (r results) size(pid int) error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
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
func exhaustion(ctx context.Context, hive *harness.Instance) error {
	err := hive.Succeed(ctx, harness.Spawn("cpu"), nil)
	if harness.Code(err) != "ports_exhausted" {
		return fmt.Errorf("one worker too many: %w", err)
	}
	fmt.Printf("one worker more: %v\n", err)
	live, err := hive.Live(ctx)
	if err != nil {
		return err
	}
	for id := range live {
		if err := hive.Succeed(ctx, harness.Stop(id), nil); err != nil {
			return err
		}
		break
	}
	var spawned wire.Spawned
	if err := hive.Succeed(ctx, harness.Spawn("cpu"), &spawned); err != nil {
		return fmt.Errorf("after one stop: %w", err)
	}
	fmt.Printf("after one stop: %s is %s\n", spawned.WorkerID, spawned.Status)
	return nil
}
