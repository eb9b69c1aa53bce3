package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

const entries = `
  - {name: served, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --worker-id, "{{.WorkerID}}"], ready: {path: /health}}`

// site is the installed binary, and the hive that runs from it.
type site struct {
	y       *yard.Yard
	h       *yard.Daemon
	binary  string // replaced by a rename, as a package manager does
	version string // of the hive that runs
	workers map[string]wire.Worker
}

func upgrade(ctx context.Context, o options) (l *load, err error) {
	dir, err := os.MkdirTemp("", "hive-upgrade-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	builds, versions, err := identify(o)
	if err != nil {
		return nil, err
	}
	s := &site{binary: filepath.Join(dir, "hive")}
	if err := s.install(builds[0]); err != nil {
		return nil, err
	}
	if s.y, err = yard.New(s.binary, o.workers+10, entries); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.y.Clear()) }()
	if s.h, err = s.y.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { s.h.Kill() }()
	s.version = versions[0]
	if err := s.populate(ctx, o.workers); err != nil {
		return nil, err
	}
	l = begin(ctx, s.workers, o.every)
	defer l.end()
	if err := l.await(ctx); err != nil {
		return nil, err
	}
	for round := range o.rounds {
		to := (round + 1) % 2
		if err := s.round(ctx, l, builds[to], versions[to], round%4 >= 2); err != nil {
			return nil, fmt.Errorf("round %d, to %s: %w; %s", round, versions[to], err, l)
		}
	}
	l.end()
	return l, s.finish(ctx)
}

// identify returns the two builds and their versions, which must differ.
func identify(o options) (builds, versions [2]string, err error) {
	builds = [2]string{o.hive, o.next}
	for i, b := range builds {
		out, err := exec.Command(b, "--version").Output()
		if err != nil {
			return builds, versions, fmt.Errorf("%s --version: %w", b, err)
		}
		fields := strings.Fields(string(out))
		if len(fields) < 2 {
			return builds, versions, fmt.Errorf("%s --version: %q", b, out)
		}
		versions[i] = fields[1]
	}
	if versions[0] == versions[1] {
		return builds, versions, fmt.Errorf("both binaries are of version %s: it could not be told which one runs", versions[0])
	}
	return builds, versions, nil
}

// install puts a build in the place of the binary.
func (s *site) install(build string) error {
	raw, err := os.ReadFile(build)
	if err != nil {
		return err
	}
	fresh := s.binary + ".new"
	if err := os.WriteFile(fresh, raw, 0o700); err != nil {
		return err
	}
	return os.Rename(fresh, s.binary)
}

func (s *site) populate(ctx context.Context, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	slots := make(chan struct{}, 8)
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, errs[i] = s.do(ctx, map[string]any{"operation": "worker_spawn", "worker": "served"})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	live, err := s.h.Live(ctx)
	if err == nil && len(live) != n {
		err = fmt.Errorf("%d workers live, expected %d", len(live), n)
	}
	s.workers = live
	return err
}

// round replaces the binary, has the hive that still runs do something, and starts
// the new one in its place.
func (s *site) round(ctx context.Context, l *load, build, version string, kill bool) error {
	if err := s.install(build); err != nil {
		return err
	}
	if err := s.passing(ctx); err != nil {
		return fmt.Errorf("with another binary in its place: %w", err)
	}
	if kill {
		s.h.Kill()
	} else if err := s.h.Term(); err != nil {
		return err
	}
	if err := l.await(ctx); err != nil { // without any hive
		return err
	}
	h, err := s.y.Start(ctx)
	if err != nil {
		return err
	}
	s.h, s.version = h, version
	if err := s.compare(ctx); err != nil {
		return err
	}
	if err := l.await(ctx); err != nil {
		return err
	}
	if failed := l.failed.Load(); failed > 0 {
		return fmt.Errorf("%d requests have failed", failed)
	}
	return nil
}

// passing starts a worker and stops it.
func (s *site) passing(ctx context.Context) error {
	job, err := s.do(ctx, map[string]any{"operation": "worker_spawn", "worker": "served"})
	if err != nil {
		return err
	}
	var started struct {
		WorkerID string `json:"worker_id"`
	}
	if err := json.Unmarshal(job.Result, &started); err != nil {
		return err
	}
	_, err = s.do(ctx, map[string]any{"operation": "worker_stop", "worker_id": started.WorkerID})
	return err
}

// compare holds what is there now against the workers of the beginning.
func (s *site) compare(ctx context.Context) error {
	info, err := s.h.Info(ctx)
	if err != nil {
		return err
	}
	r := info.Recovery
	if info.Version != s.version || r.Adopted != len(s.workers) || r.Freed+r.Restarted+r.Unverified > 0 {
		return fmt.Errorf("version %s, recovery %+v; expected %s, and %d workers taken back", info.Version, r, s.version, len(s.workers))
	}
	live, err := s.h.Live(ctx)
	if err != nil {
		return err
	}
	for id, was := range s.workers {
		now, ok := live[id]
		if !ok || now.PID == nil || *now.PID != *was.PID || now.Port != was.Port || now.State != "ready" {
			return fmt.Errorf("worker %s was pid %d on port %d and ready, and is %+v", id, *was.PID, was.Port, now)
		}
		if !yard.IsWorker(*now.PID, id) {
			return fmt.Errorf("pid %d is not worker %s", *now.PID, id)
		}
	}
	members, err := s.y.Members()
	if err != nil {
		return err
	}
	if len(live) != len(s.workers) || len(members) != len(s.workers) {
		return fmt.Errorf("%d workers and %d processes of workers, expected %d", len(live), len(members), len(s.workers))
	}
	return nil
}

// finish stops all, by the hive of the last round.
func (s *site) finish(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 0, len(s.workers))
	var mu sync.Mutex
	for id := range s.workers {
		wg.Go(func() {
			_, err := s.do(ctx, map[string]any{"operation": "worker_stop", "worker_id": id})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	leases, err := s.h.Leases(ctx)
	if err == nil && len(leases) > 0 {
		err = fmt.Errorf("%d leases are left after all workers were stopped", len(leases))
	}
	return errors.Join(append(errs, err, s.h.Term())...)
}

// do carries out an operation to its end; an error if it does not succeed.
func (s *site) do(ctx context.Context, op map[string]any) (job wire.Job, err error) {
	status, err := s.h.Call(ctx, http.MethodPost, "/v1/jobs?wait=60s", op, &job)
	if err == nil && (status != http.StatusOK || job.State != "succeeded") {
		err = fmt.Errorf("%s: status %d, %s, %+v", op["operation"], status, job.State, job.Error)
	}
	return job, err
}
