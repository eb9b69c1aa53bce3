package sockets

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Table reads the kernel's table of TCP sockets and shares what it read among
// concurrent callers. It has no goroutine and no open descriptor of its own.
// All methods are safe for concurrent use.
type Table struct {
	procOnly   bool
	boundKnown bool // the kernel lists bound sockets that do not listen

	readSlot chan struct{} // holds one element while a read is under way

	mu    sync.Mutex
	reads uint64 // started so far
	last  readResult
}

// readResult is the outcome of the newest finished read.
type readResult struct {
	number uint64
	snap   *Snapshot
	err    error
}

// NewTable returns a Table that asks sock_diag, and reads /proc/net/tcp and tcp6
// where that does not answer (an old kernel, a sandbox).
func NewTable() *Table {
	return &Table{boundKnown: listsBound(), readSlot: make(chan struct{}, 1)}
}

// NewProcTable returns a Table that reads /proc/net/tcp and tcp6 only. It never
// lists a socket in Bound.
func NewProcTable() *Table {
	return &Table{procOnly: true, readSlot: make(chan struct{}, 1)}
}

// Snapshot returns the sockets in Listen and, where BoundKnown, in Bound. It may
// be one that another caller's read produced, if reading began at most maxAge
// ago; with maxAge 0 reading began after the call. Callers that wait at the same
// time share one read.
//
// It blocks for the read, milliseconds (see the package comment), longer in a queue behind
// another; ctx ends the wait. The error is ctx's, ErrUnsupported, ErrMalformed, or the
// system's when neither source can be read.
func (t *Table) Snapshot(ctx context.Context, maxAge time.Duration) (*Snapshot, error) {
	t.mu.Lock()
	// A read under way may have passed a socket's place before the socket was made.
	need := t.reads + 1 // a read that starts from now on
	snap, ok := t.cached(maxAge)
	t.mu.Unlock()
	if ok {
		return snap, nil
	}
	select {
	case t.readSlot <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.readSlot }()

	t.mu.Lock()
	// Again: somebody who waited before us may have read it.
	last := t.last
	snap, ok = t.cached(maxAge)
	if !ok && last.number < need {
		t.reads++
	}
	number := t.reads
	t.mu.Unlock()
	switch {
	case ok:
		return snap, nil
	case last.number >= need: // another caller that waited has read it
		return last.snap, last.err
	}

	snap, err := t.read(ctx, 0, statesHolding)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // a cancelled caller is no result for the others
	}
	t.mu.Lock()
	t.last = readResult{number: number, snap: snap, err: err}
	t.mu.Unlock()
	return snap, err
}

// cached returns the last snapshot if it is not older than maxAge; t.mu is held.
func (t *Table) cached(maxAge time.Duration) (*Snapshot, bool) {
	s := t.last.snap
	return s, s != nil && maxAge > 0 && time.Since(s.TakenAt) <= maxAge
}

// Port returns every socket whose local port is port, in any state, read after
// the call and shared with nobody. It blocks for about as long as Snapshot. The
// errors are those of Snapshot.
func (t *Table) Port(ctx context.Context, port uint16) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.read(ctx, port, statesAll)
}

// Listening returns the sockets that listen on port, read after the call. It is
// a tenth of the cost of Port: the kernel walks only its table of listeners.
// The errors are those of Snapshot.
func (t *Table) Listening(ctx context.Context, port uint16) ([]Socket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	snap, err := t.read(ctx, port, stateListen)
	if err != nil {
		return nil, err
	}
	// /proc/net/tcp cannot be asked for one state only.
	return slices.DeleteFunc(snap.Listeners(port), func(s Socket) bool { return s.State != Listen }), nil
}
