package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// holder is a process that holds a lease of kind process. It ends when the test
// does: it reads from a pipe until its end.
type holder struct{ cmd *exec.Cmd }

func (r *run) newHolder() *holder {
	p := &holder{exec.Command("cat")}
	_, err := p.cmd.StdinPipe() // closed by Wait
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		panic(fmt.Sprintf("start cat: %v", err)) // nothing works on this machine
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holders[p.pid()] = p
	return p
}

func (p *holder) pid() int { return p.cmd.Process.Pid }

// killHolder kills a process and waits until it is gone.
func (r *run) killHolder(p *holder) {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holders, p.pid())
}

// ttl is a new time to live: short, so that many run out.
func (c *client) ttl() time.Duration { return time.Second + c.upTo(2*time.Second) }

// lease leases one port or a few for a program of the client's own.
func (c *client) lease(ctx context.Context) {
	req := wire.AcquireLease{Owner: c.tag()}
	h := &holding{}
	if c.oneIn(2) {
		h.ttl = c.ttl()
		req.TTL = h.ttl.String()
	} else {
		h.holder = c.newHolder()
		req.PID = h.holder.pid()
	}
	if c.oneIn(4) {
		req.Port = c.anyPort()
	}
	if c.oneIn(5) {
		req.Ports = 2 + c.rnd.IntN(2)
	}
	var l wire.Lease
	call := c.history.ask(req.Owner)
	err := c.call(ctx, http.MethodPost, "/v1/leases", req, &l)
	ret := c.history.now()
	if err != nil {
		c.expected("lease", err, "ports_exhausted", "port_unavailable")
		if h.holder != nil {
			c.killHolder(h.holder) // if the lease was given all the same, it is over now
		}
		return
	}
	c.tally.Add("leases", 1)
	h.lease, h.ports = l.LeaseID, l.Ports
	from := never
	if h.ttl != 0 {
		from = call + moment(h.ttl)
	}
	c.record(l.LeaseID, req.Owner, l.Ports, call, ret, from)
	c.checkPorts(req, l)
	c.held = append(c.held, h)
}

// record records a lease that a request was answered with.
func (r *run) record(lease, about string, ports []uint16, call, ret, from moment) {
	if !r.history.acquired(lease, about, ports, call, ret, from) {
		r.tally.Violation("DOUBLE", "lease %s of ports %v was given twice", lease, ports)
	}
}

func (c *client) checkPorts(req wire.AcquireLease, l wire.Lease) {
	ok := len(l.Ports) == max(1, req.Ports) && (req.Port == 0 || l.Port == req.Port)
	for i, port := range l.Ports {
		inside := int(port) >= c.hive.First && int(port) < c.hive.First+ports || req.Port != 0
		ok = ok && inside && port == l.Ports[0]+uint16(i)
	}
	if !ok {
		c.tally.Violation("WRONG", "asked for %+v and got %+v", req, l)
	}
}

func (c *client) useTTL(ctx context.Context, h *holding) bool {
	switch c.rnd.IntN(10) {
	case 0, 1, 2, 3:
		return c.renew(ctx, h, wire.RenewLease{LeaseID: h.lease})
	case 4, 5:
		return c.bind(ctx, h)
	case 6, 7:
		c.tally.Add("expired", 1)
		return false // nobody renews it any more
	}
	return c.release(ctx, h)
}

func (c *client) useProcess(ctx context.Context, h *holding) bool {
	switch c.rnd.IntN(10) {
	case 0, 1:
		return c.bind(ctx, h)
	case 2:
		ttl := c.ttl()
		return c.renew(ctx, h, wire.RenewLease{LeaseID: h.lease, TTL: ttl.String()})
	case 3, 4, 5, 6:
		c.history.mayEnd(h.lease, c.history.now())
		c.killHolder(h.holder)
		c.tally.Add("holders killed", 1)
		return false
	}
	return c.release(ctx, h)
}

// bind gives a lease to another process.
func (c *client) bind(ctx context.Context, h *holding) bool {
	next := c.newHolder()
	if !c.renew(ctx, h, wire.RenewLease{LeaseID: h.lease, PID: next.pid()}) {
		c.killHolder(next)
		return false
	}
	if h.holder = next; c.oneIn(2) {
		c.observePort(ctx, h.ports[0]) // what the last holder's end must not change
	}
	return true
}

// renew renews a lease or gives it another holder, and ends the last one when hive has
// confirmed it. Without a response it is not known what hive has done, so the client
// gives the lease up.
func (c *client) renew(ctx context.Context, h *holding, req wire.RenewLease) bool {
	path := fmt.Sprintf("/v1/leases/%d", h.ports[c.rnd.IntN(len(h.ports))])
	call := c.history.now()
	err := c.call(ctx, http.MethodPut, path, req, nil)
	ret := c.history.now()
	if err != nil {
		c.refusedHolder(h, "renew", ret, err)
		c.giveUp(h)
		return false
	}
	last := h.holder
	h.holder = nil
	switch {
	case req.PID != 0:
		c.history.holds(h.lease, never)
		h.ttl = 0
		c.tally.Add("bound", 1)
	default:
		if req.TTL != "" {
			h.ttl, _ = time.ParseDuration(req.TTL)
		}
		c.history.holds(h.lease, call+moment(h.ttl))
		c.tally.Add("renewed", 1)
	}
	for _, port := range h.ports {
		c.history.saw(port, h.lease, call, ret)
	}
	if last != nil {
		c.killHolder(last)
	}
	return true
}

// refusedHolder handles an error that the lease's own holder got: before anything can
// have ended the lease there is no reason for a refusal.
func (c *client) refusedHolder(h *holding, doing string, ret moment, err error) {
	if from := c.history.endsFrom(h.lease); ret < from && !errors.Is(err, harness.ErrUnavailable) {
		c.tally.Violation("LOST", "%s of lease %s of ports %v, which is alive: %v", doing, h.lease, h.ports, err)
		return
	}
	c.expected(doing, err, "not_found", "conflict")
}

// giveUp ends what keeps a lease.
func (c *client) giveUp(h *holding) {
	c.history.mayEnd(h.lease, c.history.now())
	if h.holder != nil {
		c.killHolder(h.holder)
	}
}

func (c *client) release(ctx context.Context, h *holding) bool {
	port := h.ports[c.rnd.IntN(len(h.ports))]
	var result wire.Released
	from := c.history.endsFrom(h.lease)
	call := c.history.now()
	c.history.mayEnd(h.lease, call)
	err := c.call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", port, h.lease), nil, &result)
	ret := c.history.now()
	switch {
	case err != nil && !errors.Is(err, harness.ErrUnavailable) && ret < from:
		c.tally.Violation("LOST", "release of lease %s of ports %v, which is alive: %v", h.lease, h.ports, err)
	case err != nil:
		c.expected("release", err, "not_found", "conflict")
	case result.Status == "released":
		c.history.ended(h.lease, call, ret)
		c.tally.Add("released", 1)
		c.observePort(ctx, port)
	default:
		c.tally.Add("released to quarantine", 1)
	}
	if h.holder != nil {
		c.killHolder(h.holder)
	}
	return false
}
