package httpapi

import (
	"bytes"
	"context"
	"iter"
	"net/http"
	"time"

	"rbeehive/store"
)

// follower reads events on a goroutine of its own, so that a stream can
// wait for the next event and for a timer at once.
type follower struct {
	// events is closed after the last event, when a job's story has ended, the
	// server shuts down, the client has gone, or reading has failed (see stop).
	events chan store.Event
	cancel context.CancelFunc
	err    error // read only after events was closed
}

// follow begins to read the events of a job after its event number after. The
// caller must call stop. An unknown job is errdefs.ErrNotFound.
func (s *Server) follow(r *http.Request, id string, after uint64) (*follower, error) {
	return s.followWith(r, func(ctx context.Context) (iter.Seq2[store.Event, error], error) {
		return s.hive.Load().JobEvents(ctx, id, after)
	})
}

// followWith begins to read what open returns. The caller must call stop. The error
// is open's.
func (s *Server) followWith(r *http.Request, open func(context.Context) (iter.Seq2[store.Event, error], error)) (*follower, error) {
	ctx, cancel := s.untilClosing(r.Context())
	seq, err := open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	f := &follower{events: make(chan store.Event, 64), cancel: cancel}
	go f.run(ctx, seq)
	return f, nil
}

func (f *follower) run(ctx context.Context, seq iter.Seq2[store.Event, error]) {
	defer close(f.events)
	for ev, err := range seq {
		if err != nil {
			f.err = err
			return
		}
		select {
		case f.events <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// stop ends the reading, waits for its goroutine and returns its error.
func (f *follower) stop() error {
	f.cancel()
	for range f.events { // until closed: what nobody took is dropped
	}
	return f.err
}

// stream is an answer without an end of its own. What is written goes to the
// buffer, and to the client with flush.
type stream struct {
	bytes.Buffer
	w       http.ResponseWriter
	patient bool            // a client is not given up for taking nothing
	ctx     context.Context // see until; nil: only the client ends it
}

// openStream sends the header at once: a client that waits for it learns that
// its job is known before the first event happens.
func openStream(w http.ResponseWriter, contentType string) *stream {
	noteStream(w)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // nginx collects answers otherwise
	w.WriteHeader(http.StatusOK)
	st := &stream{w: w}
	_ = st.flush()
	return st
}

// until ends a write that is stuck, and all that come after it, when ctx ends. The
// caller calls what it returns at the end.
func (st *stream) until(ctx context.Context) (stop func() bool) {
	st.ctx = ctx
	return context.AfterFunc(ctx, func() {
		_ = http.NewResponseController(st.w).SetWriteDeadline(time.Now()) // where that cannot be done, the write has its limit
	})
}

// flush sends what was written. The limit is for this write alone; a client
// that takes nothing for so long is given up, unless the stream is patient.
func (st *stream) flush() error {
	if !st.patient {
		extend(st.w)
	}
	if st.ctx != nil && st.ctx.Err() != nil { // after extend, which may have undone what until did
		return context.Cause(st.ctx)
	}
	if _, err := st.WriteTo(st.w); err != nil {
		return err
	}
	return http.NewResponseController(st.w).Flush()
}
