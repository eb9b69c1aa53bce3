package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

const (
	churners   = 8
	churnPairs = 10_000 // starts, each with its stop
	churnPart  = 500    // so many first and last pairs are compared
)

// churn starts and stops workers, so many that what hive keeps of them is full, and compares
// the last pairs with the first. Then it measures starts with the file that this has made.
func (r results) churn(ctx context.Context, binary string) (err error) {
	// All jobs are kept: the file grows as it does on a machine in a week.
	hive, err := harness.New(binary, 2*churners, "[]", "jobs: {keep: 1000000}", "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	if err := pairs(ctx, hive, churnPart); err != nil { // what is only done once
		return err
	}
	first, err := r.churnPart(ctx, hive, "first")
	if err != nil {
		return err
	}
	if err := pairs(ctx, hive, churnPairs-3*churnPart); err != nil {
		return err
	}
	last, err := r.churnPart(ctx, hive, "last")
	if err != nil {
		return err
	}
	r["churn-cpu x"], r["churn-memory x"] = last.cpu/first.cpu, last.memory/first.memory
	return r.grown(ctx, hive)
}

// churned is what a part of the pairs cost.
type churned struct{ cpu, memory float64 }

// churnPart does some pairs: hive's CPU for each, and its own memory after them, without
// what is mapped of files.
func (r results) churnPart(ctx context.Context, hive *harness.Instance, which string) (c churned, err error) {
	before := cpuTime(hive.PID())
	if err := pairs(ctx, hive, churnPart); err != nil {
		return c, err
	}
	c.cpu = ms(cpuTime(hive.PID())-before) / churnPart
	if err := awaitIdle(ctx, hive.PID()); err != nil {
		return c, err
	}
	c.memory, err = ownMemory(hive.PID())
	fmt.Printf("the %s %d of %d starts and stops: %.2f ms of hive's CPU each, then %.1f MB of its own\n", which, churnPart, churnPairs, c.cpu, c.memory)
	return c, err
}

// pairs starts and stops n workers by several clients.
func pairs(ctx context.Context, hive *harness.Instance, n int64) error {
	var left atomic.Int64
	left.Store(n)
	g, ctx := errgroup.WithContext(ctx)
	for range churners {
		g.Go(func() error {
			for left.Add(-1) >= 0 {
				var w wire.Spawned
				if err := hive.Succeed(ctx, harness.Spawn("cpu"), &w); err != nil {
					return err
				}
				if err := hive.Succeed(ctx, harness.Stop(w.WorkerID), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// ownMemory is what a process has of its own, in MB: anonymous pages
// (proc_pid_smaps(5), kernel 4.14).
func ownMemory(pid int) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Anonymous:"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kB / 1024, err
		}
	}
	return 0, fmt.Errorf("%s says nothing of anonymous memory", f.Name())
}

// startsOf is the median time from the start of hive until it is healthy, of nine.
func startsOf(ctx context.Context, hive *harness.Instance, before func() error) (float64, error) {
	var took []time.Duration
	for range 9 {
		hive.Kill()
		if err := before(); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := hive.Start(ctx); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
		if err := awaitIdle(ctx, hive.PID()); err != nil {
			return 0, err
		}
	}
	return ms(median(took)), nil
}
