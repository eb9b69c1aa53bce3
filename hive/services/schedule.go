package services

import (
	"fmt"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/lifecycle"
	"rbeehive/store"
)

// pollInterval is how often a service looks whether what it starts after is ready.
const pollInterval = 200 * time.Millisecond

// Run starts what is wanted until the hive closes, or drains. It blocks.
func (s *Services) Run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for s.o.Run.Accepting() {
		select {
		case <-s.o.Run.Context().Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if wait, ok := s.schedule(time.Now()); ok {
			timer.Reset(wait)
		}
	}
}

// schedule begins the starts that are due, and returns after which wait it is to be called
// again; false: when it is woken.
func (s *Services) schedule(now time.Time) (wait time.Duration, again bool) {
	// Asked before the lock: who answers has locks of its own.
	entries, ready := s.entries(), s.states()
	missing := map[string]bool{}
	for _, typ := range entries {
		missing[typ.Name] = s.o.Workers.Missing(typ.Name)
	}
	parallel := s.o.Parallel()
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	for name, v := range s.wanted {
		switch {
		case v.busy:
			running++
		case !missing[name]: // somebody has started it, or the entry is gone
			delete(s.wanted, name)
		}
	}
	sooner := func(d time.Duration) {
		if !again || d < wait {
			wait, again = max(d, time.Millisecond), true
		}
	}
	for _, typ := range entries {
		v := s.wanted[typ.Name]
		if v == nil || v.busy || v.State == Failed {
			continue
		}
		if left := v.NextTry.Sub(now); v.State == Backoff && left > 0 {
			sooner(left)
			continue
		}
		if why := s.before(typ, ready); why != "" {
			v.State, v.Reason = Queued, why
			sooner(pollInterval)
			continue
		}
		if running >= parallel {
			// The end of a start wakes the schedule.
			if v.State == Queued && v.Failed == 0 {
				v.Reason = fmt.Sprintf("%d others are being started (start_parallel)", running)
			}
			continue
		}
		v.busy, v.State = true, Starting
		running++
		before, begun := s.turn, make(chan struct{})
		s.turn = begun
		if !s.o.Run.Go(func() { s.start(typ, v, before, begun) }) {
			return 0, false
		}
	}
	return wait, again
}

// states are the states of the living workers, by type: ready if one is.
func (s *Services) states() map[string]store.WorkerState {
	states := map[string]store.WorkerState{}
	for _, w := range s.o.Workers.Live() {
		if states[w.Type] != store.WorkerReady {
			states[w.Type] = w.State
		}
	}
	return states
}

// before says what a service waits for; empty: nothing. What is not to run, because it was
// stopped on request, is not waited for. s.mu is held.
func (s *Services) before(typ *catalog.Type, states map[string]store.WorkerState) string {
	var waits []string
	for _, name := range typ.StartAfter {
		state, lives := states[name]
		wanted := s.wanted[name]
		switch {
		case state == store.WorkerReady:
		case lives:
			waits = append(waits, fmt.Sprintf("%s (%s)", name, lifecycle.PublicState(state)))
		case wanted != nil:
			waits = append(waits, fmt.Sprintf("%s (%s)", name, wanted.State))
		}
	}
	if len(waits) == 0 {
		return ""
	}
	return "it starts after " + strings.Join(waits, " and ")
}
