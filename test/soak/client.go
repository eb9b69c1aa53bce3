package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// client does one thing at a time, and pauses.
type client struct {
	*run
	rnd     *rand.Rand
	working context.Context // begins nothing any more when it has ended
}

// repeat does it again and again, with pauses of one and a half times pause at most.
func (c *client) repeat(ctx context.Context, pause time.Duration, do func(*client, context.Context)) {
	for c.pause(pause/2 + c.upTo(pause)) {
		do(c, ctx)
	}
}

// pause reports whether the client is to go on.
func (c *client) pause(d time.Duration) bool { return harness.Sleep(c.working, d) }

func (c *client) upTo(d time.Duration) time.Duration { return time.Duration(c.rnd.Int64N(int64(d))) }

func (c *client) oneIn(n int) bool { return c.rnd.IntN(n) == 0 }

// went reports whether what was done has succeeded. codes are those of errors that are to
// be expected of it; any other is a violation.
func (c *client) went(ctx context.Context, what string, err error, codes ...string) bool {
	switch {
	case err == nil:
		c.tally.Add(what, 1)
		return true
	case ctx.Err() != nil: // the program ends
	case slices.Contains(codes, harness.Code(err)):
		c.tally.Add("refused or failed", 1)
	default:
		c.tally.Violation("WRONG", "not %s: %v", what, err)
	}
	return false
}

// queries are what is asked for. The rarer they are the further behind: those that make
// hive look at the whole machine, or at its whole file.
var queries = []string{
	"/v1/workers", "/metrics", "/v1/jobs", "/v1/leases", "/v1/hive", "/v1/types", "/v1/workers?limit=10", "/health",
	"/v1/jobs?state=failed&limit=5", "/v1/ports", "/v1/audit", "/v1/tokens", "/v1/capabilities", "/openapi.json",
	"/v1/doctor",
}

// query asks one thing, as hivectl, dashboards and rbee's page do.
func (c *client) query(ctx context.Context) {
	if c.oneIn(4) { // what rbee's page polls
		op := []string{"worker_process_list", "worker_catalog_list", "model_list"}[c.rnd.IntN(3)]
		c.went(ctx, "queries", c.hive.Succeed(ctx, harness.Op{"operation": op}, nil))
		return
	}
	// Of two numbers the smaller: the last one is asked for once in 225 times.
	n := min(c.rnd.IntN(len(queries)), c.rnd.IntN(len(queries)))
	_, err := c.hive.Text(ctx, queries[n])
	c.went(ctx, "queries", err)
	if w, ok := c.anyWorker(ctx); ok && c.oneIn(4) {
		path := []string{"", "/events", "/logs?tail=100"}[c.rnd.IntN(3)]
		_, err := c.hive.Text(ctx, "/v1/workers/"+w.WorkerID+path)
		c.went(ctx, "queries", err, "not_found")
	}
}

// reload changes the configuration and has hive read it.
func (c *client) reload(ctx context.Context) {
	round := c.round.Add(1)
	err := c.hive.Configure(entries(round), settings(round, c.hub.URL)...)
	if err == nil {
		err = syscall.Kill(c.hive.PID(), syscall.SIGHUP)
	}
	c.went(ctx, "reloads", err)
}

// checkReload waits until hive runs with the configuration as it is now.
func (r *run) checkReload(ctx context.Context) error {
	return harness.Eventually(ctx, finalTimeout, func() (string, error) {
		var plan wire.Plan
		err := r.hive.Call(ctx, http.MethodPost, "/v1/reload?dry_run=1", nil, &plan)
		if err == nil && len(plan.Types)+len(plan.Applied)+len(plan.NeedStart) > 0 {
			return fmt.Sprintf("a reload would still change %+v", plan), nil
		}
		return "", err
	})
}
