package store

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// maxBatch bounds a transaction: its closures wait for one another, and what
// one commit may need of the disk is bounded with it.
const maxBatch = 128

// request is one call of Update.
type request struct {
	fn       func(*Tx) error
	reserved bool
	done     chan struct{} // closed by the writer when the fields below are final

	err      error
	panicked bool
	value    any  // what fn panicked with
	exited   bool // fn called runtime.Goexit, as a test's FailNow does
}

// outcome ends a call as its closure ended.
func (r *request) outcome() error {
	switch {
	case r.panicked:
		panic(r.value)
	case r.exited:
		runtime.Goexit()
	}
	return r.err
}

// writer is the one goroutine that writes. Everything that is queued when it starts a
// transaction goes into it.
type writer struct {
	store *Store

	mu      sync.Mutex
	queue   []*request
	closing bool

	wake    chan struct{} // holds one token when the queue may have something
	stopped chan struct{} // closed when the goroutine has ended

	batch *batch // what the goroutine works on; only it uses it
	last  int    // size of the last batch; only the goroutine uses it
}

func newWriter(s *Store) *writer {
	w := &writer{store: s, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	go w.loop()
	return w
}

// submit queues fn and waits for its outcome. ctx counts only while it is queued: once
// taken it may be committed, and a caller that no longer waited would free a port that the
// file says is leased.
func (w *writer) submit(ctx context.Context, fn func(*Tx) error, reserved bool) error {
	// Not queued: the writer could take it at once.
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	r := &request{fn: fn, reserved: reserved, done: make(chan struct{})}
	if err := w.enqueue(r); err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if w.withdraw(r) {
			return fmt.Errorf("update: %w", ctx.Err())
		}
		<-r.done
	}
	return r.outcome()
}

func (w *writer) enqueue(r *request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return fmt.Errorf("update: %w", ErrClosed)
	}
	w.queue = append(w.queue, r)
	w.signal()
	return nil
}

// withdraw takes r out of the queue; false if the writer has it already.
func (w *writer) withdraw(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, q := range w.queue {
		if q == r {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close refuses new requests and waits until the queued ones are done.
func (w *writer) close() {
	w.mu.Lock()
	w.closing = true
	w.signal()
	w.mu.Unlock()
	<-w.stopped
}

// loop is the writer's goroutine. When a closure ends it with runtime.Goexit,
// which cannot be stopped, another one takes over at the next closure: without
// that a failing assertion inside a closure would hang every later Update.
func (w *writer) loop() {
	debug.SetPanicOnFault(true) // a page that cannot be read is a panic, not the end of the process
	ended := false
	defer func() {
		if !ended {
			go w.loop()
			return
		}
		close(w.stopped)
	}()
	for w.runBatch() {
	}
	ended = true
}

// runBatch does one batch; false when the store closes and nothing is queued.
func (w *writer) runBatch() bool {
	if w.batch == nil {
		requests := w.take()
		if requests == nil {
			return false
		}
		w.batch = &batch{store: w.store, requests: requests}
	}
	w.batch.run()
	w.last = len(w.batch.requests)
	w.batch = nil
	return true
}

// take blocks until something is queued and takes it, up to maxBatch requests (one if space
// is short, so that each is admitted on its own). nil: closed.
func (w *writer) take() []*request {
	limit := maxBatch
	if w.store.space.Short() {
		limit = 1
	}
	w.yieldToCallers()
	for {
		w.mu.Lock()
		n := min(len(w.queue), limit)
		// Without spare capacity: the batch must not grow into the queue.
		requests := w.queue[:n:n]
		w.queue = w.queue[n:]
		closing := w.closing
		w.mu.Unlock()
		if n > 0 {
			return requests
		}
		if closing {
			return nil
		}
		<-w.wake
	}
}

// yieldToCallers lets the callers that have just returned queue their next request before
// the next transaction begins. Without it they split into a batch of one and a batch of all
// others, and every second commit is wasted. It only yields the processor: a single caller
// (the last batch had one) never waits for it.
func (w *writer) yieldToCallers() {
	for range w.last {
		w.mu.Lock()
		queued := len(w.queue)
		w.mu.Unlock()
		if queued >= w.last || w.last == 1 {
			return
		}
		runtime.Gosched()
	}
}
