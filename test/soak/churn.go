package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// crowd is the live workers as they were a moment ago: that all clients ask for them
// before everything they do would be the most of the load.
type crowd struct {
	mu   sync.Mutex
	at   time.Time
	live []wire.Worker
}

// crowdAge is how old it becomes.
const crowdAge = time.Second

// crowded returns the live workers.
func (r *run) crowded(ctx context.Context) ([]wire.Worker, error) {
	r.crowd.mu.Lock()
	defer r.crowd.mu.Unlock()
	if time.Since(r.crowd.at) < crowdAge {
		return r.crowd.live, nil
	}
	live, err := r.hive.Live(ctx)
	if err != nil {
		return nil, err
	}
	r.crowd.live, r.crowd.at = nil, time.Now()
	for _, w := range live {
		r.crowd.live = append(r.crowd.live, w)
	}
	return r.crowd.live, nil
}

// anyWorker returns one at random; false: there is none.
func (c *client) anyWorker(ctx context.Context) (w wire.Worker, ok bool) {
	live, err := c.crowded(ctx)
	if !c.went(ctx, "queries", err) || len(live) == 0 {
		return w, false
	}
	return live[c.rnd.IntN(len(live))], true
}

// Codes of jobs and requests that come to a worker which others kill and stop as well: it
// may be gone, be ended before it was ready, or have lost its port to another one.
var (
	ofStart = []string{"exited_early", "cancelled", "foreign_listener"}
	ofOther = append([]string{"not_found", "port_unavailable", "name_in_use", "conflict"}, ofStart...)
)

// churn does one thing with workers, so that there are about as many as there should be.
func (c *client) churn(ctx context.Context) {
	live, err := c.crowded(ctx)
	if !c.went(ctx, "queries", err) {
		return
	}
	have := map[string]int{}
	for _, w := range live {
		have[w.Type]++
	}
	typ, n := missing(have, c.workers)
	switch chance := c.rnd.IntN(100); {
	case n > c.rnd.IntN(4): // so that not all clients start the one that is missing
		c.spawn(ctx, typ)
	case chance < 35:
		c.kill(ctx)
	case chance < 65 || len(live) > c.workers+spare/4:
		c.ask(ctx, "worker_stop", "stopped")
	case chance < 85:
		c.ask(ctx, "worker_restart", "restarted")
	case chance < 90:
		c.cancelled(ctx)
	case chance < 97:
		c.fails(ctx)
	default:
		c.went(ctx, "checks", c.hive.Succeed(ctx, harness.Op{"operation": "hive_check"}, nil))
	}
}

// spawn starts a worker, three in four under a name that none has had.
func (c *client) spawn(ctx context.Context, typ string) {
	op := harness.Spawn(typ)
	if !c.oneIn(4) {
		op = c.named(typ)
	}
	c.went(ctx, "spawned", c.hive.Succeed(ctx, op, nil), ofStart...)
}

func (r *run) named(typ string) harness.Op {
	op := harness.Spawn(typ)
	op["name"] = fmt.Sprintf("name-%d", r.names.Add(1))
	return op
}

// populate starts the workers, each under a name, so that each port has had one.
func (r *run) populate(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8) // so many programs are started at a time
	have := map[string]int{}
	for range r.workers {
		typ, _ := missing(have, r.workers)
		have[typ]++
		g.Go(func() error { return r.hive.Succeed(ctx, r.named(typ), nil) })
	}
	return g.Wait()
}

// kill ends the main process of a worker, mostly of one that is to last: it shows what is
// kept of every start.
func (c *client) kill(ctx context.Context) {
	w, ok := c.anyWorker(ctx)
	for range 4 {
		if ok && w.Type != lasting {
			w, ok = c.anyWorker(ctx)
		}
	}
	if ok && w.PID != nil && harness.IsWorker(*w.PID, w.WorkerID) {
		c.went(ctx, "killed", syscall.Kill(*w.PID, syscall.SIGKILL))
	}
}

// ask asks something of a worker and waits until it is done.
func (c *client) ask(ctx context.Context, operation, done string) {
	w, ok := c.anyWorker(ctx)
	if ok && (operation != "worker_stop" || w.Type != lasting) {
		c.went(ctx, done, c.hive.Succeed(ctx, harness.Op{"operation": operation, "worker_id": w.WorkerID}, nil), ofOther...)
	}
}

// cancelled is a spawn that waits for ever, until it is cancelled.
func (c *client) cancelled(ctx context.Context) {
	var job wire.Submitted
	err := c.hive.Call(ctx, http.MethodPost, "/v1/jobs", harness.Spawn(never), &job, "Idempotency-Key", uuid.NewString())
	if !c.went(ctx, "spawns to be cancelled", err) {
		return
	}
	c.pause(c.upTo(2 * time.Second))
	c.went(ctx, "spawns cancelled", c.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+job.JobID, nil, nil), "conflict") // it was stopped, or killed
}

// fails is a spawn that fails.
func (c *client) fails(ctx context.Context) {
	err := c.hive.Succeed(ctx, harness.Spawn(broken), nil)
	if harness.Code(err) == "exited_early" {
		err = nil
	}
	c.went(ctx, "spawns failed", err)
}
