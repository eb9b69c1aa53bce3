package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"rbeehive/httpapi/wire"
)

// ttl is how long a lease lives without a renewal: long enough that one which is renewed
// in time does not run out on a busy machine.
const ttl = 4 * time.Second

// noPort are the codes of leases that cannot be had; that are over by now.
var (
	noPort = []string{"ports_exhausted", "port_unavailable"}
	over   = []string{"not_found", "conflict"}
)

// acquire leases a port, or a few.
func (c *client) acquire(ctx context.Context, req wire.AcquireLease) (l wire.Lease, ok bool) {
	req.Owner, req.Ports = "soak", 1+c.rnd.IntN(3)
	err := c.hive.Call(ctx, http.MethodPost, "/v1/leases", req, &l)
	return l, c.went(ctx, "leases", err, noPort...)
}

func (c *client) renew(ctx context.Context, l wire.Lease, req wire.RenewLease) bool {
	req.LeaseID = l.LeaseID
	err := c.hive.Call(ctx, http.MethodPut, fmt.Sprintf("/v1/leases/%d", l.Port), req, nil)
	return c.went(ctx, "renewed", err, over...)
}

func (r *run) release(ctx context.Context, l wire.Lease) error {
	return r.hive.Call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", l.Port, l.LeaseID), nil, nil)
}

// holdByTTL has a lease for a while, renews it, and releases it or lets it run out.
func (c *client) holdByTTL(ctx context.Context) {
	l, ok := c.acquire(ctx, wire.AcquireLease{TTL: ttl.String()})
	for ok && c.rnd.IntN(3) > 0 && c.pause(c.upTo(ttl/2)) {
		ok = c.renew(ctx, l, wire.RenewLease{})
	}
	switch {
	case !ok:
	case c.oneIn(2):
		c.went(ctx, "released", c.release(ctx, l), over...)
	case c.pause(ttl): // nobody renews it
		c.tally.Add("expired", 1)
	}
}

// holdByProcess has a lease for as long as a process lives, or gives it to the next one.
func (c *client) holdByProcess(ctx context.Context) {
	holder, err := startHolder()
	if !c.went(ctx, "holders", err) {
		return
	}
	defer func() { holder.end() }()
	l, ok := c.acquire(ctx, wire.AcquireLease{PID: holder.pid()})
	if !ok {
		return
	}
	c.pause(c.upTo(2 * time.Second))
	if c.oneIn(3) {
		next, err := startHolder()
		if !c.went(ctx, "holders", err) {
			return
		}
		c.renew(ctx, l, wire.RenewLease{PID: next.pid()})
		holder.end()
		holder = next
		c.pause(c.upTo(time.Second))
	}
	if c.oneIn(3) {
		c.went(ctx, "released", c.release(ctx, l), over...)
		return
	}
	holder.end()
	c.tally.Add("holders killed", 1)
}

// holder is a process that holds a lease. It ends when the program does: it reads from a
// pipe until its end.
type holder struct{ cmd *exec.Cmd }

func startHolder() (*holder, error) {
	h := &holder{exec.Command("cat")}
	if _, err := h.cmd.StdinPipe(); err != nil { // closed by Wait
		return nil, err
	}
	return h, h.cmd.Start()
}

func (h *holder) pid() int { return h.cmd.Process.Pid }

// end kills it, if it lives, and waits until it is gone.
func (h *holder) end() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// makeTombstones acquires and releases leases of many ports, each of which leaves a
// record, until there are as many as hive keeps.
func (r *run) makeTombstones(ctx context.Context) error {
	for range tombstones / row {
		var l wire.Lease
		err := r.hive.Call(ctx, http.MethodPost, "/v1/leases", wire.AcquireLease{TTL: "1m", Ports: row, Owner: "soak"}, &l)
		if err == nil {
			err = r.release(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
