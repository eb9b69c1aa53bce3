package ports

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// HeldError is the error of a start that somebody else's hold of a port came before: it is
// no failure of the worker.
type HeldError struct {
	failure  *errdefs.Failure
	Draining bool // it is what the kernel keeps of a closed connection, which goes by itself
}

func (e *HeldError) Error() string { return e.failure.Error() }
func (e *HeldError) Unwrap() error { return e.failure }

// HeldByConnection reports whether somebody has a port only as the local one of a
// connection: the kernel gives it to any that asks for none.
func HeldByConnection(err error) bool {
	held, ok := errors.AsType[*alloc.UnavailableError](err)
	return ok && held.Holder != nil && held.Holder.Kind == sockets.KindConnection
}

// Failure makes of an error of Reserve the failure of a job. If ctx has ended it is why.
func Failure(ctx context.Context, err error) error {
	held, isHeld := errors.AsType[*alloc.UnavailableError](err)
	switch {
	case errors.Is(err, alloc.ErrExhausted):
		return errdefs.Fail(errdefs.CodePortsExhausted, "%v", err)
	case isHeld:
		return errdefs.Fail(errdefs.CodePortUnavailable, "%s", heldMessage(held))
	case errors.Is(err, alloc.ErrUnavailable):
		return errdefs.Fail(errdefs.CodePortUnavailable, "%v", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// heldMessage says who holds a port. A connection goes by itself, and another may come.
func heldMessage(held *alloc.UnavailableError) string {
	if !HeldByConnection(held) {
		return held.Error()
	}
	return held.Error() + ", for a connection of its own (ports.range is better outside of net.ipv4.ip_local_port_range)"
}

// Taken says which port was leased, and who holds those passed over.
func Taken(res *alloc.Reservation, rec store.Worker) string {
	var b strings.Builder
	if res.NameMoved {
		fmt.Fprintf(&b, "%s had port %d last time, which is not free; ", rec.Name, res.Former)
	}
	for _, s := range res.Skipped {
		fmt.Fprintf(&b, "%d is held by %s; ", s.Port, s)
	}
	ports := alloc.Range{First: rec.Port, Last: rec.Ports[len(rec.Ports)-1]}
	switch {
	case b.Len() > 0:
		return fmt.Sprintf("%stook %s", b.String(), ports)
	case len(rec.Ports) > 1:
		return fmt.Sprintf("ports %s leased", ports)
	}
	return fmt.Sprintf("port %d leased", rec.Port)
}

// Of returns the ports of holders; the list is never nil.
func Of(skipped []sockets.Holder) []uint16 {
	ports := []uint16{}
	for _, s := range skipped {
		ports = append(ports, s.Port)
	}
	return ports
}
