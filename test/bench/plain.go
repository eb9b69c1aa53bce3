package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rbeehive/test/harness"
)

// nobody is a user whose hive can make no cgroups: it has none of its own.
const nobody = 65534

// withoutCgroups measures stops of a hive that has no cgroups, as in a container or as a
// user's own: what a worker has left is looked for in /proc.
func (r results) withoutCgroups(ctx context.Context, binary string, n int) (err error) {
	dir, err := os.MkdirTemp("", "bench-hive-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A copy that this user can read, wherever the binary lies.
	if err := errors.Join(copyFile(binary, filepath.Join(dir, "hive")), giveAway(dir), os.Chmod(filepath.Join(dir, "hive"), 0o755)); err != nil {
		return err
	}
	hive, err := harness.New(filepath.Join(dir, "hive"), n, "[]", "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if os.Getuid() == 0 {
		hive.Wrap = []string{"setpriv", "--reuid", fmt.Sprint(nobody), "--regid", fmt.Sprint(nobody), "--clear-groups"}
		if err := giveAway(hive.Dir); err != nil {
			return err
		}
	}
	if err := hive.Start(ctx); err != nil {
		return err
	}
	if r["plain-stop p50-ms"], err = stopsOf(ctx, hive); err != nil {
		return err
	}
	if _, err := hive.SpawnAll(ctx, slices.Repeat([]string{"cpu"}, crowd)); err != nil {
		return err
	}
	if err := awaitIdle(ctx, hive.PID()); err != nil {
		return err
	}
	if r["plain-crowd-stop cpu-ms"], _, err = stopAll(ctx, hive); err != nil {
		return err
	}
	if err := fill(ctx, hive, n-1); err != nil {
		return err
	}
	if err := awaitIdle(ctx, hive.PID()); err != nil {
		return err
	}
	if r["plain-late-stop p50-ms"], err = stopsOf(ctx, hive); err != nil {
		return err
	}
	if r["plain-stop-all cpu-ms"], r["plain-stop-all s"], err = stopAll(ctx, hive); err != nil {
		return err
	}
	fmt.Printf("without cgroups: a stop %.1f ms, beside %d others %.1f ms; %d stopped with %.2f ms of hive's CPU each, all in %.1f s, %.2f ms each\n",
		r["plain-stop p50-ms"], n-1, r["plain-late-stop p50-ms"], crowd, r["plain-crowd-stop cpu-ms"], r["plain-stop-all s"], r["plain-stop-all cpu-ms"])
	return nil
}

// stopsOf starts and stops workers one after the other: the median of the stops.
func stopsOf(ctx context.Context, hive *harness.Instance) (float64, error) {
	var took []time.Duration
	for range lives {
		w, err := hive.SpawnAll(ctx, []string{"cpu"})
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := hive.Succeed(ctx, harness.Stop(w[0].WorkerID), nil); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	return ms(median(took)), nil
}

// stopAll stops all workers: hive's CPU for each, and the time of all.
func stopAll(ctx context.Context, hive *harness.Instance) (cpuEach, seconds float64, err error) {
	begin, before := time.Now(), cpuTime(hive.PID())
	stopped, err := hive.StopAll(ctx, 5*time.Minute)
	return ms(cpuTime(hive.PID())-before) / float64(max(stopped, 1)), time.Since(begin).Seconds(), err
}

// giveAway makes what lies in dir nobody's.
func giveAway(dir string) error {
	return errors.Join(os.Chmod(dir, 0o755), filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody)) //nolint:gosec // a directory that the bench has just made
	}))
}
