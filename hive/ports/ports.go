package ports

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// Ports are the ports of a hive's workers. The methods are safe for concurrent use.
type Ports struct {
	Alloc   *alloc.Allocator
	Sockets *sockets.Table
}

// Reserve reserves the ports of a start and puts them into the record; a new worker gets
// its id from the first. The error is the allocator's: Failure makes one for a job of it.
func (p *Ports) Reserve(ctx context.Context, typ *catalog.Type, rec *store.Worker) (*alloc.Reservation, error) {
	req := alloc.Request{Port: rec.Asked.Port, Ports: typ.Ports, Name: rec.Name, Host: typ.Host()}
	// Its own ports, or none: its clients know them.
	if rec.WorkerID != "" {
		req.Port, req.Ports = rec.Port, len(rec.Ports)
	}
	res, err := p.Alloc.Acquire(ctx, req)
	if err != nil {
		return nil, err
	}
	if rec.WorkerID == "" {
		// With a random part, so that an id is never used again.
		rec.WorkerID = fmt.Sprintf("%s-%d-%s", typ.Name, res.Port, strings.ToLower(rand.Text()[:6]))
	}
	rec.Port, rec.Ports = res.Port, res.Ports
	return res, nil
}

// Look looks once whether nobody else has a worker's leased ports. If somebody has, the
// error is *HeldError, which says whether that is only what the kernel keeps of a closed
// connection; if that cannot be seen, *errdefs.Failure.
func (p *Ports) Look(ctx context.Context, rec store.Worker) error {
	err := p.Alloc.Recheck(ctx, rec.Ports, rec.Spec.Host)
	held, isHeld := errors.AsType[*alloc.UnavailableError](err)
	_, ofSystem := errors.AsType[syscall.Errno](err)
	switch {
	case err == nil:
		return nil
	case !isHeld && ofSystem && p.nobodyHas(ctx, rec.Ports): // a policy, say: no reason to keep a worker down that had them
		return nil
	case !isHeld:
		return errdefs.Fail(errdefs.CodePortUnavailable, "%v", err)
	case held.Draining:
		return &HeldError{errdefs.Fail(errdefs.CodePortUnavailable, "%v", err), true}
	}
	return &HeldError{errdefs.Fail(errdefs.CodeForeignListener, "%s", heldMessage(held)), false}
}

// nobodyHas reports whether the socket table shows nobody on any of the ports.
func (p *Ports) nobodyHas(ctx context.Context, ports []uint16) bool {
	for _, port := range ports {
		snap, err := p.Sockets.Port(ctx, port)
		if err != nil || !snap.BoundKnown || len(snap.Listeners(port)) > 0 {
			return false
		}
	}
	return true
}

// tableTimeout bounds the reads of the socket table that a decision needs. They are
// not given up when a caller goes: the decision is then still to be taken.
const tableTimeout = 5 * time.Second

// WhyHeld looks once who has ports, and says of each list, a dead worker's, why they cannot
// be given out again: somebody has one, or that cannot be seen. Empty: they can. It blocks
// for one read of the socket table, tableTimeout at most.
func (p *Ports) WhyHeld(ctx context.Context, lists [][]uint16) []string {
	// Also when ctx, a recovery's, is over: nothing is freed without this look.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tableTimeout)
	defer cancel()
	snap, err := p.Sockets.Snapshot(ctx, 0)
	why := make([]string, len(lists))
	for i, list := range lists {
		if err != nil {
			why[i] = "the socket table cannot be read: " + err.Error()
		} else {
			why[i] = endpoint.StillHeld(ctx, snap, list)
		}
	}
	return why
}

// Conflict finds out whether a worker ended because somebody else has its port, and makes
// that its failure: another port may do. Programs show it by any exit code, 0 among them; so
// whoever has the port now counts, and what the log says (f.Log). It reports whether somebody
// is seen to have it, and blocks for two reads of the socket table, tableTimeout at most.
func (p *Ports) Conflict(ctx context.Context, rec store.Worker, f *errdefs.Failure) (held bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tableTimeout)
	defer cancel()
	for _, port := range rec.Ports {
		snap, err := p.Sockets.Port(ctx, port)
		// If any listener is allowed, one that is there proves no conflict.
		if err != nil || rec.Spec.Ready.AnyListener {
			break
		}
		if socks, _ := endpoint.Split(snap.Listeners(port), rec.Spec.Host); len(socks) > 0 {
			holder := endpoint.Describe(ctx, socks)
			p.Alloc.Avoid(port, holder)
			f.Code, f.Message = errdefs.CodeForeignListener, fmt.Sprintf("%s: port %d is held by %s", f.Message, port, holder)
			return true
		}
	}
	// The other may have gone by now, or is bound and does not listen yet (vLLM, for minutes).
	if !slices.ContainsFunc(f.Log, saysInUse) {
		return false
	}
	// By a connection, too, which is no listener.
	_, held = errors.AsType[*alloc.UnavailableError](p.Alloc.Recheck(ctx, rec.Ports, rec.Spec.Host))
	p.Alloc.Avoid(rec.Port, "somebody who had it when "+rec.WorkerID+" wanted it")
	f.Code, f.Message = errdefs.CodeForeignListener, fmt.Sprintf("%s: its log says that its port %d was in use", f.Message, rec.Port)
	return held
}

// saysInUse recognises how programs say EADDRINUSE: strerror(3) of glibc and musl,
// the names of Node and Python, and llama-server's own words.
func saysInUse(line string) bool {
	line = strings.ToLower(line)
	return slices.ContainsFunc([]string{"address already in use", "address in use", "eaddrinuse", "errno 98", "couldn't bind http server socket"},
		func(words string) bool { return strings.Contains(line, words) })
}
