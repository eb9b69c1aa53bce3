package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// settleTimeout is how long a hive may take until everything acknowledged is so again: stops
// that were interrupted, backoffs, and ports that the kernel keeps for a minute after the kill
// of a worker that had a connection (TIME_WAIT).
const settleTimeout = 3 * time.Minute

// checker compares a hive that was started again with the promises.
type checker struct {
	hive     *harness.Instance
	promises *promises
	stranger int
	broken   []harness.Contradiction
}

func (c *checker) violation(kind, format string, args ...any) {
	c.broken = append(c.broken, harness.Contradiction{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// check looks at everything, then stops everything, and looks at what is left. An error is
// a check that could not be made.
func (c *checker) check(ctx context.Context, hivectl string) error {
	for _, look := range []func(context.Context) error{c.jobs, c.workers, c.leases, c.resubmit, c.contradictions, c.stopAll} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	if syscall.Kill(c.stranger, 0) != nil {
		c.violation("STRANGER", "the process that holds a lease and is none of hive's is gone")
	}
	if err := c.hive.Term(); err != nil {
		c.violation("CRASH", "hive has not ended in order: %v", err)
	}
	return c.afterTheEnd(ctx, hivectl)
}

// jobs waits until each acknowledged job has ended. What was told of its end may not change.
func (c *checker) jobs(ctx context.Context) error {
	for _, s := range c.promises.jobs {
		told := s.end
		err := harness.Eventually(ctx, settleTimeout, func() (string, error) {
			var job wire.Job
			if err := c.hive.Get(ctx, "/v1/jobs/"+s.id, &job); err != nil {
				return "", err
			}
			if job.FinishedAt == nil {
				return "it is " + job.State, c.cancel(ctx, s)
			}
			s.end = &job
			return "", nil
		})
		switch {
		case harness.Code(err) == "not_found":
			c.violation("LOST", "job %s (%s) was acknowledged and is not there", s.id, s.op["operation"])
		case err != nil:
			return fmt.Errorf("job %s (%s): %w", s.id, s.op["operation"], err)
		case told != nil && (told.State != s.end.State || string(told.Result) != string(s.end.Result)):
			c.violation("LOST", "job %s (%s) was %s %s and is %s %s", s.id, s.op["operation"], told.State, told.Result, s.end.State, s.end.Result)
		default:
			if err := c.promises.enter(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// cancel takes back the spawn that was to be cancelled, if it was still queued at the kill
// and has begun again.
func (c *checker) cancel(ctx context.Context, s *submitted) error {
	if s.op["worker"] != hooked {
		return nil
	}
	err := c.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+s.id, nil, nil)
	if harness.Code(err) == "conflict" { // it has ended by itself
		return nil
	}
	return err
}

// workers waits until each worker is as it should be.
func (c *checker) workers(ctx context.Context) error {
	var wrong []string
	err := harness.Eventually(ctx, settleTimeout, func() (string, error) {
		all, err := c.hive.Workers(ctx)
		if err != nil {
			return "", err
		}
		wrong = nil
		for id, want := range c.promises.workers {
			if objection := want.compare(all, id, c.promises.killed[id]); objection != "" {
				wrong = append(wrong, objection)
			}
		}
		if objection := keptIsReady(all); objection != "" {
			wrong = append(wrong, objection)
		}
		return strings.Join(wrong, "; "), nil
	})
	for _, objection := range wrong {
		c.violation("WORKER", "%s", objection)
	}
	if wrong != nil {
		return nil
	}
	return err
}

// keptIsReady says what is wrong with the autostart worker; empty if nothing is.
func keptIsReady(all map[string]wire.Worker) string {
	objection := "there is no autostart worker"
	for id, w := range all {
		if w.Type == kept && !ended(w) {
			if w.State == "ready" {
				return ""
			}
			objection = fmt.Sprintf("the autostart worker %s is %s (%s)", id, w.State, deref(w.Reason))
		}
	}
	return objection
}

// compare says what is wrong with a worker; empty if nothing is.
func (w *worker) compare(all map[string]wire.Worker, id string, killed int) string {
	now, ok := all[id]
	lives := ok && !ended(now)
	say := func(what string) string {
		return fmt.Sprintf("%s %s: it is %q (%s)", id, what, now.State, deref(now.Reason))
	}
	serves := lives && (now.State == "ready" || w.typ == nap && now.State == "starting")
	switch {
	case w.state == "running" && !serves:
		return say("was started and is not ready")
	case w.state == "stopped" && lives:
		return say("was stopped and lives")
	case w.state == "running" && w.pid != 0 && *now.PID != w.pid:
		return say(fmt.Sprintf("has process %d instead of %d", *now.PID, w.pid))
	case lives && now.PID != nil && killed != 0 && *now.PID == killed:
		return say("has the process that was killed")
	}
	return ""
}

func (c *checker) leases(ctx context.Context) error {
	all, err := c.hive.Leases(ctx)
	if err != nil {
		return err
	}
	held := map[string][]uint16{}
	for _, l := range all {
		held[l.LeaseID] = append(held[l.LeaseID], l.Port)
	}
	for port, l := range c.promises.leases {
		switch got := held[l.id]; {
		case l.held == "yes" && !slices.Equal(got, l.ports):
			c.violation("LOST", "lease %s of ports %d was acknowledged, and it has %d", l.id, l.ports, got)
		case l.held == "no" && got != nil:
			c.violation("LOST", "lease %s of port %d was released and is there", l.id, port)
		}
	}
	return nil
}

// resubmit sends the request with a key twice more: no second job may come from it, and no
// second worker, whether or not the first request was acknowledged.
func (c *checker) resubmit(ctx context.Context) error {
	if c.promises.key == "" {
		return nil
	}
	for range 2 {
		job, err := c.promises.submit(ctx, c.hive, c.promises.asked, "Idempotency-Key", c.promises.key)
		if err != nil {
			return err
		}
		if c.promises.keyed != "" && job.id != c.promises.keyed {
			c.violation("DOUBLE", "the key of job %s made another one, %s", c.promises.keyed, job.id)
		}
		c.promises.keyed = job.id
		if err := c.promises.await(ctx, c.hive, job); err != nil {
			return err
		}
	}
	live, err := c.hive.Live(ctx)
	maps.DeleteFunc(live, func(_ string, w wire.Worker) bool { return w.Type != nap })
	if len(live) > 1 {
		c.violation("DOUBLE", "one key has started %d workers", len(live))
	}
	return err
}

func (c *checker) contradictions(ctx context.Context) error {
	found, err := c.hive.Contradictions(ctx)
	c.broken = append(c.broken, found...)
	return err
}

// stopAll stops all workers and ends all leases: nothing may be left.
func (c *checker) stopAll(ctx context.Context) error {
	if _, err := c.hive.StopAll(ctx, settleTimeout); err != nil {
		return err
	}
	all, err := c.hive.Leases(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Port != l.Ports[0] {
			continue
		}
		if l.Kind == "worker" {
			c.violation("LEAK", "all workers were stopped and port %d is leased: %s, %s", l.Port, l.State, deref(l.Reason))
			continue
		}
		if err := c.hive.Call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", l.Port, l.LeaseID), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// afterTheEnd looks at the file, at what hive has printed, and for processes.
func (c *checker) afterTheEnd(ctx context.Context, hivectl string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, hivectl, "db", "check", "--data-dir", filepath.Join(c.hive.Dir, "data")).CombinedOutput()
	if err != nil && ctx.Err() == nil {
		c.violation("FILE", "hivectl db check: %v: %s", err, out)
	}
	said, err := os.ReadFile(c.hive.Output())
	if err != nil {
		return err
	}
	for _, bad := range []string{"panic:", "fatal error:", "goroutine 1 [", "DATA RACE"} {
		if strings.Contains(string(said), bad) {
			c.violation("CRASH", "hive has printed %q: %s", bad, said)
			break
		}
	}
	// What a hook has started is nobody's once hive has ended.
	return harness.Eventually(ctx, settleTimeout, func() (string, error) {
		left, err := c.hive.Marked()
		if err != nil || len(left) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d processes are left, %+v among them", len(left), left[0]), nil
	})
}

func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
