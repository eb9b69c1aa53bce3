package httpapi

import (
	"context"
	"iter"
	"net/http"

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
