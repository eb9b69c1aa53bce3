package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// The worker types. Nothing in them takes long: the script is run for each kill.
const entries = `
  - {name: kept, command: ["{{.Hive}}", worker, --port, "{{.Port}}"], autostart: true, restart: {policy: always, max: 1000, window: 1s, backoff: 10ms, max_backoff: 50ms}}
  - {name: nap, command: [sleep, "300"], stop: {signal: [SIGKILL]}}
  - {name: served, command: ["{{.Hive}}", worker, --port, "{{.Port}}"], ready: {path: /health}}
  - {name: always, command: ["{{.Hive}}", worker, --port, "{{.Port}}"], restart: {policy: always, max: 1000, window: 1s, backoff: 10ms, max_backoff: 50ms}}
  - {name: hooked, command: [sleep, "300"], before_start: [sleep, "20"], stop: {signal: [SIGKILL]}}
  - {name: changed, command: ["{{.Hive}}", worker, --port, "{{.Port}}"], env: [GENERATION=1], reload: restart}`

const (
	kept   = "kept"   // starts with hive
	nap    = "nap"    // never listens, and so is started and never ready
	hooked = "hooked" // whose spawn waits until it is cancelled
)

// ports is how many ports the script needs, and some.
const ports = 16

// script is what clients ask of a hive, one after the other, so that the n-th system call
// is nearly the same one each time.
type script struct {
	hive     *harness.Instance
	promises *promises
	stranger int // a process that is none of hive's and holds a lease
	always   string
}

// run does everything once. It ends with the first error, which is ErrUnavailable once
// hive was killed.
func (s *script) run(ctx context.Context) error {
	if err := s.awaitServing(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		s.start, s.lease, s.restart, s.kill, s.reload, s.cancel, s.audit, s.end,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// awaitServing waits until hive serves, or ctx ends because it does not run any more.
func (s *script) awaitServing(ctx context.Context) error {
	return harness.Eventually(ctx, time.Minute, func() (string, error) {
		err := s.hive.Get(ctx, "/health", nil)
		if errors.Is(err, harness.ErrUnavailable) {
			return err.Error(), nil
		}
		return "", err
	})
}

// start starts workers: one that serves, one that is restarted, and one whose request has
// a key and is sent twice.
func (s *script) start(ctx context.Context) error {
	if _, err := s.promises.do(ctx, s.hive, harness.Spawn("served")); err != nil {
		return err
	}
	job, err := s.promises.do(ctx, s.hive, harness.Spawn("always"))
	if err != nil {
		return err
	}
	if s.always, err = spawnedBy(job); err != nil {
		return err
	}
	if _, err := s.promises.do(ctx, s.hive, harness.Spawn("changed")); err != nil {
		return err
	}
	s.promises.key, s.promises.asked = "killwalk", harness.Op{"operation": "worker_spawn", "worker": nap, "wait": "started"}
	if job, err = s.promises.do(ctx, s.hive, s.promises.asked, "Idempotency-Key", s.promises.key); err != nil {
		return err
	}
	s.promises.keyed = job.id
	again, err := s.promises.submit(ctx, s.hive, s.promises.asked, "Idempotency-Key", s.promises.key)
	if err == nil && again.id != job.id {
		return fmt.Errorf("one key made two jobs, %s and %s", job.id, again.id)
	}
	return err
}

// lease leases ports, for a time and for a process.
func (s *script) lease(ctx context.Context) error {
	port, err := s.promises.acquire(ctx, s.hive, wire.AcquireLease{TTL: "10m"})
	if err != nil {
		return err
	}
	if _, err := s.promises.acquire(ctx, s.hive, wire.AcquireLease{PID: s.stranger, Ports: 2}); err != nil {
		return err
	}
	renewal := wire.RenewLease{LeaseID: s.promises.leases[port].id, TTL: "20m"}
	if err := s.hive.Call(ctx, http.MethodPut, fmt.Sprintf("/v1/leases/%d", port), renewal, nil); err != nil {
		return err
	}
	if port, err = s.promises.acquire(ctx, s.hive, wire.AcquireLease{TTL: "10m"}); err != nil {
		return err
	}
	return s.promises.release(ctx, s.hive, port)
}

func (s *script) restart(ctx context.Context) error {
	_, err := s.promises.do(ctx, s.hive, harness.Op{"operation": "worker_restart", "worker_id": s.first("served")})
	return err
}

// first is a worker of a type that runs.
func (s *script) first(typ string) string {
	for id, w := range s.promises.workers {
		if w.typ == typ && w.state == "running" {
			return id
		}
	}
	return ""
}

// kill ends the process of the worker that is restarted, and waits for the next one.
func (s *script) kill(ctx context.Context) error {
	pid := s.promises.workers[s.always].pid
	s.promises.killed[s.always], s.promises.workers[s.always].pid = pid, 0
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return harness.Eventually(ctx, time.Minute, func() (string, error) {
		all, err := s.hive.Workers(ctx)
		if w := all[s.always]; err != nil || w.State == "ready" && w.Restarts == 1 {
			return "", err
		}
		return "the worker that was killed is not started again", nil
	})
}

// reload changes an entry whose worker is restarted for it.
func (s *script) reload(ctx context.Context) error {
	raw, err := os.ReadFile(s.hive.Config())
	if err != nil {
		return err
	}
	next := strings.Replace(string(raw), "GENERATION=1", "GENERATION=2", 1)
	if err := os.WriteFile(s.hive.Config(), []byte(next), 0o600); err != nil {
		return err
	}
	id := s.first("changed")
	old := s.promises.workers[id].pid
	s.promises.workers[id].pid = 0
	if err := s.hive.Call(ctx, http.MethodPost, "/v1/reload", nil, nil); err != nil {
		return err
	}
	return harness.Eventually(ctx, time.Minute, func() (string, error) {
		all, err := s.hive.Workers(ctx)
		if w := all[id]; err != nil || w.State == "ready" && w.PID != nil && *w.PID != old {
			return "", err
		}
		return "the worker whose entry was changed is not started again", nil
	})
}

// cancel takes a spawn back whose before_start runs.
func (s *script) cancel(ctx context.Context) error {
	job, err := s.promises.submit(ctx, s.hive, harness.Spawn(hooked))
	if err != nil {
		return err
	}
	refusal := s.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+job.id, nil, nil)
	if refusal != nil && harness.Code(refusal) != "conflict" {
		return refusal
	}
	if err := s.promises.await(ctx, s.hive, job); err != nil {
		return err
	}
	if refusal != nil { // it has ended first, and not as it should
		return errors.Join(refusal, &harness.Failed{Job: *job.end})
	}
	return nil
}

func (s *script) audit(ctx context.Context) error {
	return s.hive.Call(ctx, http.MethodPost, "/v1/audit?repair", nil, nil)
}

// end stops a worker and takes its record away. The others go on.
func (s *script) end(ctx context.Context) error {
	id := s.first(nap)
	if _, err := s.promises.do(ctx, s.hive, harness.Stop(id)); err != nil {
		return err
	}
	return s.hive.Call(ctx, http.MethodDelete, "/v1/workers/"+id, nil, nil)
}

// killWorkers ends the processes of workers that are restarted, while no hive runs.
func (s *script) killWorkers(context.Context) error {
	members, err := s.hive.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if strings.HasPrefix(m.Worker, kept+"-") || m.Worker == s.always {
			s.promises.killed[m.Worker] = m.PID
			if err := syscall.Kill(m.PID, syscall.SIGKILL); err != nil {
				return err
			}
		}
	}
	return nil
}

// recover waits until hive serves, and until what it finds to be done is done.
func (s *script) recover(ctx context.Context) error {
	if err := s.awaitServing(ctx); err != nil {
		return err
	}
	return harness.Eventually(ctx, settleTimeout, func() (string, error) {
		n, err := s.hive.Unfinished(ctx)
		if err != nil || n > 0 {
			return "jobs have not ended", err
		}
		live, err := s.hive.Live(ctx)
		for id, w := range live {
			if w.State != "ready" && w.Type != nap {
				return id + " is " + w.State, err
			}
		}
		return "", err
	})
}
