package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"time"
)

// stream is an answer without an end of its own. What is written goes to the
// buffer, and to the client with flush.
type stream struct {
	bytes.Buffer
	w         http.ResponseWriter
	noTimeout bool            // a client is not given up for taking nothing
	ctx       context.Context // see until; nil: only the client ends it
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

// flush sends what was written. The limit is for this write alone; a client that takes
// nothing for so long is given up, unless the stream has no timeout.
func (st *stream) flush() error {
	if !st.noTimeout {
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
