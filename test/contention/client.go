package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"rbeehive/httpapi/wire"
)

// client does one thing at a time.
type client struct {
	*world
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

func newClient(w *world, id int, seed uint64) *client {
	return &client{world: w, id: id, rnd: rand.New(rand.NewPCG(seed, uint64(id)))}
}

// tag is a new name for a request: model of a spawn, owner of a lease. A lease
// whose request was never answered is known by it.
func (c *client) tag() string {
	c.asked++
	return fmt.Sprintf("c%d-%d", c.id, c.asked)
}

// most is how many leases a client has at a time.
const most = 2

// How long a client rests, at most: with a lease, and without one. That keeps two
// cores from being all that is tested, and lets ports become free in between.
const (
	restWith    = 150 * time.Millisecond
	restWithout = 2000 * time.Millisecond
)

// away is how long a client waits for a hive that is not there.
const away = 50 * time.Millisecond

// work goes on until rushing ends; what is under way then is seen through.
func (c *client) work(ctx, rushing context.Context) {
	for wait(rushing, c.rest()) {
		i := c.rnd.IntN(most)
		if i >= len(c.held) {
			c.begin(ctx)
			continue
		}
		if keep := c.use(ctx, c.held[i]); !keep {
			c.held = slices.Delete(c.held, i, i+1)
		}
	}
}

func (c *client) rest() time.Duration {
	if len(c.held) == 0 {
		return c.upTo(restWithout)
	}
	return c.upTo(restWith)
}

func (c *client) upTo(d time.Duration) time.Duration { return time.Duration(c.rnd.Int64N(int64(d))) }

func (c *client) oneIn(n int) bool { return c.rnd.IntN(n) == 0 }

// anyPort is a port of the range.
func (c *client) anyPort() uint16 { return uint16(c.y.First + c.rnd.IntN(ports)) }

func (c *client) begin(ctx context.Context) {
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

// lookAt enters who has a port now.
func (w *world) lookAt(ctx context.Context, port uint16) {
	var l wire.Lease
	call := w.h.now()
	err := w.call(ctx, http.MethodGet, fmt.Sprintf("/v1/leases/%d", port), nil, &l)
	if err == nil || code(err) == "not_found" {
		w.h.saw(port, l.LeaseID, call, w.h.now())
	}
}

// wait reports whether d has passed, and not ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// expected counts a refusal that a client must live with, and enters any other.
func (w *world) expected(doing string, err error, codes ...string) {
	switch {
	case errors.Is(err, errAway):
		w.tally.add("away", 1)
	case slices.Contains(codes, code(err)):
		w.tally.add(code(err), 1)
	default:
		w.found("WRONG", "%s: %v", doing, err)
	}
}
