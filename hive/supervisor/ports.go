package supervisor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// connectionTimeout is how long a spawn of a worker that is not to be started again waits
// for a port that a connection has, if its type does not say how long it may take.
const connectionTimeout = drainTimeout

// reserve takes a slot for a start and reserves its ports. A fixed port, or the one that a
// worker has had, can be the local one of somebody's connection: the kernel gives it to
// any that asks for none. That is waited for, without a slot: as long as the job lives for
// a worker whose policy wants it to run, else for ready.timeout or connectionTimeout.
func (s *Supervisor) reserve(ctx context.Context, j operation.Job, typ *catalog.Type, rec *store.Worker) (*alloc.Reservation, func(), error) {
	limit := cmp.Or(typ.Ready.Timeout, connectionTimeout)
	ticker := time.NewTicker(drainPollInterval)
	defer ticker.Stop()
	for begun, told := time.Now(), false; ; told = true {
		res, release, err := s.tryReserve(ctx, typ, rec)
		over := typ.Restart.Policy == store.RestartNever && time.Since(begun) >= limit
		switch {
		case err == nil:
			return res, release, nil
		case over || !heldByConnection(err):
			return nil, nil, portFailure(ctx, err)
		case !told:
			s.tellWaiting(ctx, j, portFailure(ctx, err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, nil, portFailure(ctx, ctx.Err())
		}
	}
}

// tellWaiting says to who follows a job what it waits for.
func (s *Supervisor) tellWaiting(ctx context.Context, j operation.Job, why error) {
	message := why.Error()
	if f, ok := errors.AsType[*errdefs.Failure](why); ok {
		message = f.Message
	}
	err := s.journal.Commit(ctx, func(b *journal.Batch) error {
		return b.Event(store.EventProgress, j.ID(), "", "waiting: "+message, nil)
	})
	s.journal.LogUnlessClosing(err, "record what a job waits for", j.ID())
}

// tryReserve takes a slot and reserves the ports; after an error it has neither.
func (s *Supervisor) tryReserve(ctx context.Context, typ *catalog.Type, rec *store.Worker) (*alloc.Reservation, func(), error) {
	release, err := s.acquireStart(ctx)
	if err != nil {
		return nil, nil, err
	}
	// The common mistakes cost no process and no commit.
	if _, err = s.launcher.Prepare(ctx, typ, rec); err == nil {
		var res *alloc.Reservation
		if res, err = s.reservePorts(ctx, typ, rec); err == nil {
			return res, release, nil
		}
	}
	release()
	return nil, nil, err
}

// reservePorts reserves the ports of a start and puts them into the record; a new worker
// gets its id from the first.
func (s *Supervisor) reservePorts(ctx context.Context, typ *catalog.Type, rec *store.Worker) (*alloc.Reservation, error) {
	req := alloc.Request{Port: rec.Asked.Port, Ports: typ.Ports, Name: rec.Name, Host: typ.Host()}
	// Its own ports, or none: its clients know them.
	if rec.WorkerID != "" {
		req.Port, req.Ports = rec.Port, len(rec.Ports)
	}
	res, err := s.alloc.Acquire(ctx, req)
	if err != nil {
		return nil, err
	}
	if rec.WorkerID == "" {
		// With a random part, so that an id is never used again.
		rec.WorkerID = fmt.Sprintf("%s-%d-%s", typ.Name, res.Port, strings.ToLower(rand.Text()[:6]))
	}
	rec.Port, rec.Ports, rec.Log = res.Port, res.Ports, s.logs.Path(rec.WorkerID)
	return res, nil
}

// heldError is the error of a start that somebody else's hold of a port came before.
type heldError struct{ failure *errdefs.Failure }

func (e *heldError) Error() string { return e.failure.Error() }
func (e *heldError) Unwrap() error { return e.failure }

// awaitPorts makes sure that nobody else has the worker's ports. What the kernel
// keeps of closed connections is waited for, up to drainTimeout. Whoever else has one may
// keep it for long: that is *heldError, and the policy says whether to wait. Neither is a
// failure of the worker.
func (w *worker) awaitPorts(ctx context.Context, rec store.Worker) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	ticker := time.NewTicker(drainPollInterval)
	defer ticker.Stop()
	for {
		err := w.s.alloc.Recheck(ctx, rec.Ports, rec.Spec.Host)
		var held *alloc.UnavailableError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &held):
			return errdefs.Fail(errdefs.CodePortUnavailable, "%v", err)
		case !held.Draining:
			return &heldError{errdefs.Fail(errdefs.CodeForeignListener, "%s", heldMessage(held))}
		}
		select {
		case <-ticker.C:
		// The wait can last a minute, and a request need not.
		case req := <-w.stops:
			return &interrupted{req}
		case <-ctx.Done():
			return &heldError{errdefs.Fail(errdefs.CodePortUnavailable, "%v", err)}
		}
	}
}

const (
	drainTimeout      = 70 * time.Second // TIME_WAIT lasts for 60 s
	drainPollInterval = 500 * time.Millisecond
)

// heldMessage says who holds a port. A connection goes by itself, and another may come.
func heldMessage(held *alloc.UnavailableError) string {
	if !heldByConnection(held) {
		return held.Error()
	}
	return held.Error() + ", for a connection of its own (ports.range is better outside of net.ipv4.ip_local_port_range)"
}

// heldByConnection reports whether somebody has a port only as the local one of a
// connection.
func heldByConnection(err error) bool {
	held, ok := errors.AsType[*alloc.UnavailableError](err)
	return ok && held.Holder != nil && held.Holder.Kind == sockets.KindConnection
}

func portFailure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, alloc.ErrExhausted):
		return errdefs.Fail(errdefs.CodePortsExhausted, "%v", err)
	case heldByConnection(err):
		held, _ := errors.AsType[*alloc.UnavailableError](err)
		return errdefs.Fail(errdefs.CodePortUnavailable, "%s", heldMessage(held))
	case errors.Is(err, alloc.ErrUnavailable):
		return errdefs.Fail(errdefs.CodePortUnavailable, "%v", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}
