// Upgrade replaces the hive binary under running workers, again and again: by a build
// of another version and back, by an orderly stop and by kill -9. Meanwhile clients
// send requests straight to the workers' ports, and every one of them is counted. No
// request may fail; after each start the same processes must be there, all adopted,
// and no other. At the end every worker must stop on request and leave no lease.
//
// CI runs 4 rounds (10 to 20 s); by hand, before a release, run 20 (make upgrade
// ROLLS=20, about 65 s). It asks hive only through its API, and finds processes in /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

func main() {
	next := flag.String("next", "bin/hive-next", "a hive binary of another version, with the same schema")
	workers := flag.Int("workers", 200, "workers")
	rounds := flag.Int("rounds", 10, "how often the binary is replaced and hive started again")
	every := flag.Duration("every", 200*time.Millisecond, "pause between two requests to one worker")
	harness.Main("upgrade", func(ctx context.Context, p *harness.Program) error {
		return upgrade(ctx, p, *next, *workers, *rounds, *every)
	})
}

const entries = `
  - {name: served, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --worker-id, "{{.WorkerID}}"], ready: {path: /health}}`

const stopTimeout = time.Minute

// build is a hive binary and its version.
type build struct{ path, version string }

// run is one run of the program.
type run struct {
	hive    *harness.Instance
	binary  string // replaced by a rename, as a package manager does
	workers map[string]wire.Worker
	load    *load
}

func upgrade(ctx context.Context, p *harness.Program, next string, workers, rounds int, every time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "hive-upgrade-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	builds, err := identify(p.Hive, next)
	if err != nil {
		return err
	}
	r := &run{binary: filepath.Join(dir, "hive")}
	if err := r.install(builds[0]); err != nil {
		return err
	}
	if r.hive, err = harness.New(r.binary, workers+10, entries); err != nil {
		return err
	}
	defer func() { err = r.hive.Close(err) }()
	if err := r.hive.Start(ctx); err != nil {
		return err
	}
	if err := r.populate(ctx, workers); err != nil {
		return err
	}
	r.load = startLoad(ctx, r.workers, every)
	defer r.load.end()
	if err := r.load.await(ctx); err != nil {
		return err
	}
	for n := range rounds {
		to := builds[(n+1)%2]
		if err := r.round(ctx, to, n%4 >= 2); err != nil {
			return fmt.Errorf("round %d, to %s: %w; %s", n, to.version, err, r.load)
		}
		p.Progress("%d rounds, %s", n+1, r.load)
	}
	r.load.end()
	p.Printf("%d rounds, %s; all workers are the processes they were", rounds, r.load)
	if r.load.failed.Load() > 0 {
		return errors.New("requests to workers have failed")
	}
	return r.finalChecks(ctx)
}

// identify returns the two builds, whose versions must differ.
func identify(paths ...string) (builds []build, err error) {
	for _, path := range paths {
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", path, err)
		}
		fields := strings.Fields(string(out))
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s --version: %q", path, out)
		}
		builds = append(builds, build{path, fields[1]})
	}
	if builds[0].version == builds[1].version {
		return nil, fmt.Errorf("both binaries are of version %s: there would be no telling which one runs", builds[0].version)
	}
	return builds, nil
}

// install puts a build in the place of the binary.
func (r *run) install(b build) error {
	raw, err := os.ReadFile(b.path)
	if err != nil {
		return err
	}
	fresh := r.binary + ".new"
	if err := os.WriteFile(fresh, raw, 0o700); err != nil {
		return err
	}
	return os.Rename(fresh, r.binary)
}

func (r *run) populate(ctx context.Context, n int) error {
	if _, err := r.hive.SpawnAll(ctx, slices.Repeat([]string{"served"}, n)); err != nil {
		return err
	}
	live, err := r.hive.Live(ctx)
	if err == nil && len(live) != n {
		err = fmt.Errorf("%d workers live, expected %d", len(live), n)
	}
	r.workers = live
	return err
}

// round replaces the binary, has the hive that still runs start and stop a worker, and
// starts the new one in its place.
func (r *run) round(ctx context.Context, to build, kill bool) error {
	if err := r.install(to); err != nil {
		return err
	}
	var passing wire.Spawned
	err := r.hive.Succeed(ctx, harness.Spawn("served"), &passing)
	if err == nil {
		err = r.hive.Succeed(ctx, harness.Stop(passing.WorkerID), nil)
	}
	if err != nil {
		return fmt.Errorf("with another binary in its place: %w", err)
	}
	if kill {
		r.hive.Kill()
	} else if err := r.hive.Term(); err != nil {
		return err
	}
	if err := r.load.await(ctx); err != nil { // without any hive
		return err
	}
	if err := r.hive.Start(ctx); err != nil {
		return err
	}
	if err := r.compare(ctx, to.version); err != nil {
		return err
	}
	if err := r.load.await(ctx); err != nil {
		return err
	}
	if failed := r.load.failed.Load(); failed > 0 {
		return fmt.Errorf("%d requests have failed", failed)
	}
	return nil
}

// compare holds what is there now against the workers of the beginning.
func (r *run) compare(ctx context.Context, version string) error {
	info, err := r.hive.Info(ctx)
	if err != nil {
		return err
	}
	if rec := info.Recovery; info.Version != version || rec.Adopted != len(r.workers) || rec.Freed+rec.Restarted+rec.Unverified > 0 {
		return fmt.Errorf("version %s, recovery %+v; expected %s, and %d workers adopted", info.Version, rec, version, len(r.workers))
	}
	live, err := r.hive.Live(ctx)
	if err != nil {
		return err
	}
	for id, was := range r.workers {
		now, ok := live[id]
		if !ok || now.PID == nil || *now.PID != *was.PID || now.Port != was.Port || now.State != "ready" {
			return fmt.Errorf("worker %s was pid %d on port %d and ready, and is %+v", id, *was.PID, was.Port, now)
		}
		if !harness.IsWorker(*now.PID, id) {
			return fmt.Errorf("pid %d is not worker %s", *now.PID, id)
		}
	}
	members, err := r.hive.Members()
	if err != nil {
		return err
	}
	if len(live) != len(r.workers) || len(members) != len(r.workers) {
		return fmt.Errorf("%d workers and %d processes of workers, expected %d", len(live), len(members), len(r.workers))
	}
	return nil
}

// finalChecks stops all workers, by the hive of the last round. None may have gone
// before, and nothing may be left at once.
func (r *run) finalChecks(ctx context.Context) error {
	stopped, err := r.hive.StopAll(ctx, stopTimeout)
	if err == nil && stopped != len(r.workers) {
		err = fmt.Errorf("%d workers were stopped, expected %d", stopped, len(r.workers))
	}
	if err != nil {
		return err
	}
	if err := r.hive.FinalChecks(ctx, 0); err != nil {
		return err
	}
	return r.hive.Term()
}
