package supervisor

import (
	"context"
	"time"

	"rbeehive/store"
)

// TakeEnded reserves an ended worker as it was when the caller looked at it.
func (s *Supervisor) TakeEnded(rec store.Worker) (release func(), err error) {
	return s.registry.take(rec, "tested")
}

// TakeAllStarts takes all places for starts, as if the last had moved so long ago.
func (s *Supervisor) TakeAllStarts(ago time.Duration) (release func()) {
	for range maxStarts {
		if _, err := s.acquireStart(context.Background(), func() error { return nil }); err != nil {
			panic(err)
		}
	}
	moved := time.Now().Add(-ago)
	s.limits.startsMoved.Store(&moved)
	return func() { s.limits.starts.Release(maxStarts) }
}
