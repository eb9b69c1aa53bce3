package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// client does one thing at a time.
type client struct {
	*run
	id    int
	rnd   *rand.Rand
	asked int
	held  []*holding
}

// holding is a lease that the client has, with what keeps it.
type holding struct {
	lease  string
	ports  []uint16
	worker *running      // of a worker
	holder *holder       // of kind process
	ttl    time.Duration // of kind ttl
}

func newClient(r *run, id int) *client { return &client{run: r, id: id, rnd: r.p.Rand(uint64(id))} }

// tag is a new name for a request: model of a spawn, owner of a lease. A lease
// whose request was never answered is known by it.
func (c *client) tag() string {
	c.asked++
	return fmt.Sprintf("c%d-%d", c.id, c.asked)
}

// most is how many leases a client has at a time.
const most = 2

// How long a client pauses, at most: with a lease, and without one. That keeps two
// cores from being all that is tested, and lets ports become free in between.
const (
	pauseWith    = 150 * time.Millisecond
	pauseWithout = 2000 * time.Millisecond
)

// work goes on until competing ends; what is under way then is carried out.
func (c *client) work(ctx, competing context.Context) {
	for harness.Sleep(competing, c.pause()) {
		i := c.rnd.IntN(most)
		if i >= len(c.held) {
			c.acquire(ctx)
			continue
		}
		if keep := c.use(ctx, c.held[i]); !keep {
			c.held = slices.Delete(c.held, i, i+1)
		}
	}
}

func (c *client) pause() time.Duration {
	if len(c.held) == 0 {
		return c.upTo(pauseWithout)
	}
	return c.upTo(pauseWith)
}

func (c *client) upTo(d time.Duration) time.Duration { return time.Duration(c.rnd.Int64N(int64(d))) }

func (c *client) oneIn(n int) bool { return c.rnd.IntN(n) == 0 }

// anyPort is a port of the range.
func (c *client) anyPort() uint16 { return uint16(c.hive.First + c.rnd.IntN(ports)) }

func (c *client) acquire(ctx context.Context) {
	if c.oneIn(2) {
		c.spawn(ctx)
		return
	}
	c.lease(ctx)
}

// use does something with a lease. It reports whether the client still has it.
func (c *client) use(ctx context.Context, h *holding) bool {
	switch {
	case h.worker != nil:
		return c.useWorker(ctx, h)
	case h.holder != nil:
		return c.useProcess(ctx, h)
	}
	return c.useTTL(ctx, h)
}

// observePort records who has a port now.
func (r *run) observePort(ctx context.Context, port uint16) {
	var l wire.Lease
	call := r.history.now()
	err := r.call(ctx, http.MethodGet, fmt.Sprintf("/v1/leases/%d", port), nil, &l)
	if err == nil || harness.Code(err) == "not_found" {
		r.history.saw(port, l.LeaseID, call, r.history.now())
	}
	if err == nil { // no list may have it
		r.recordOrigins(ctx, []wire.Lease{l})
	}
}
