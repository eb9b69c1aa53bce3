// Package run is the life of a hive as its parts see it: it is being recovered, serves,
// drains, closes. A part that starts a goroutine does it here, so that Close waits for
// it; a part that must not begin before hive serves leaves that here.
package run

import (
	"context"
	"sync"
	"sync/atomic"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/lock"
)

// State is where a hive is in its life. Its methods are safe for concurrent use.
type State struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	serving  atomic.Bool
	draining atomic.Bool

	mu       lock.Ranked[lock.Run]
	begun    bool     // what was deferred has been begun
	deferred []func() // until it has
}

// New returns the state of a hive that has just been opened.
func New() *State {
	s := &State{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Context ends when the hive closes.
func (s *State) Context() context.Context { return s.ctx }

// Closing reports whether the hive closes.
func (s *State) Closing() bool { return s.ctx.Err() != nil }

// Go runs f in a goroutine that Wait waits for; it does nothing and returns false once
// the hive closes.
func (s *State) Go(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false // Wait may have returned already
	}
	s.wg.Go(f)
	return true
}

// WhenServing has f called once the hive serves: at once if it does.
func (s *State) WhenServing(f func()) {
	s.mu.Lock()
	// Without the lock, which Go takes: f may start goroutines.
	if s.begun {
		s.mu.Unlock()
		f()
		return
	}
	s.deferred = append(s.deferred, f)
	s.mu.Unlock()
}

// Serve begins what was left for later, and lets callers in behind it: a client that
// waits for a job of the last run must find it under way.
func (s *State) Serve() {
	// In one step: whatever comes later is called by WhenServing itself.
	s.mu.Lock()
	todo := s.deferred
	s.deferred, s.begun = nil, true
	s.mu.Unlock()
	for _, f := range todo {
		f()
	}
	s.serving.Store(true)
}

// Serving reports whether recovery is done and the hive is open.
func (s *State) Serving() bool { return s.serving.Load() }

// Drain refuses what is new from now on: all workers are being stopped.
func (s *State) Drain() { s.draining.Store(true) }

// Draining reports whether Drain was called.
func (s *State) Draining() bool { return s.draining.Load() }

// Accepting reports whether something new may begin.
func (s *State) Accepting() bool { return s.ctx.Err() == nil && !s.draining.Load() }

// Admit returns why nothing new is accepted: errdefs.ErrRecovering, errdefs.ErrClosed, or
// nil.
func (s *State) Admit() error {
	switch {
	case !s.serving.Load():
		return errdefs.ErrRecovering
	case !s.Accepting():
		return errdefs.ErrClosed
	}
	return nil
}

// Close ends the context. Nothing is started any more; Wait waits for what was.
func (s *State) Close() {
	s.serving.Store(false)
	// Under Go's lock: none is started once Wait may have returned.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
}

// Wait waits for the goroutines that were started by Go. It has a bound only as far as
// they have one: each of them ends soon after the context does.
func (s *State) Wait() { s.wg.Wait() }
