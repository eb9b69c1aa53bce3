package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// stage is one run.
type stage struct {
	y    *yard.Yard
	h    *yard.Daemon
	rand *rand.Rand
	told map[string][]event // of each job: what its listener has seen

	rounds, kills, connections int
	ended                      map[string]int
}

func (s *stage) String() string {
	return fmt.Sprintf("%d rounds, hive killed %d times, %d jobs %v, %d connections",
		s.rounds, s.kills, len(s.told), s.ended, s.connections)
}

// act is one job of a round.
type act struct {
	op       map[string]any
	cancel   time.Duration // after so long; 0: not
	begin    time.Duration // when it is submitted
	id       string
	listener *listener
	job      wire.Job
	err      error
}

// busy is for how long jobs are submitted in a round, and hive is killed.
const busy = 1200 * time.Millisecond

// patience is how long the jobs of a round may take in all, and how long the
// processes may take to agree with them.
const patience = 60 * time.Second

// round submits jobs, kills hive in the middle of them, and checks how all ended.
func (s *stage) round(ctx context.Context, jobs int) error {
	s.rounds++
	live, err := s.h.Live(ctx)
	if err != nil {
		return err
	}
	acts := s.script(jobs, slices.Sorted(maps.Keys(live)))
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var wg sync.WaitGroup
	for _, a := range acts {
		a.listener = s.listener("")
		wg.Go(func() { a.err = s.perform(limited, a) })
	}
	err = s.kill(ctx)
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err != nil {
		return err
	}
	if err := s.listened(ctx, acts); err != nil {
		return err
	}
	return s.agree(ctx, acts)
}

// script is what is to happen in a round. Each worker that is there is named once at
// most, so that it is known what becomes of it.
func (s *stage) script(jobs int, live []string) []*act {
	s.rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	next := func(operation string) *act {
		if len(live) == 0 {
			return &act{op: map[string]any{"operation": "hive_check"}}
		}
		id := live[0]
		live = live[1:]
		if strings.HasPrefix(id, "never-") { // of a spawn that hive was killed in: a restart would wait for ever, too
			operation = "worker_stop"
		}
		return &act{op: map[string]any{"operation": operation, "worker_id": id}}
	}
	spawn := func(typ string) *act { return &act{op: map[string]any{"operation": "worker_spawn", "worker": typ}} }
	var acts []*act
	for range jobs {
		var a *act
		switch n := s.rand.IntN(100); {
		case n < 22:
			a = spawn("quick")
		case n < 32:
			a = spawn("slow")
		case n < 40:
			a = spawn("never")
			a.cancel = time.Duration(1 + s.rand.IntN(int(busy)))
		case n < 48:
			a = spawn("broken")
		case n < 80:
			a = next("worker_stop")
		case n < 92:
			a = next("worker_restart")
		default:
			a = &act{op: map[string]any{"operation": "hive_check"}}
		}
		a.begin = time.Duration(s.rand.IntN(int(busy)))
		acts = append(acts, a)
	}
	return acts
}

// kill ends hive one to three times at random moments, and starts it again.
func (s *stage) kill(ctx context.Context) error {
	for range 1 + s.rand.IntN(3) {
		if !pause(ctx, time.Duration(s.rand.IntN(int(busy)))) {
			return ctx.Err()
		}
		s.h.Kill()
		s.kills++
		again, err := s.y.Start(ctx)
		if err != nil {
			return err
		}
		s.h = again
	}
	return nil
}

// perform submits one job and listens to its end.
func (s *stage) perform(ctx context.Context, a *act) error {
	if !pause(ctx, a.begin) {
		return ctx.Err()
	}
	h := s.y.Any()
	var sub wire.Submitted
	for key := uuid.NewString(); ; { // a request whose answer was lost is sent again, and is one job
		status, err := h.Call(ctx, http.MethodPost, "/v1/jobs", a.op, &sub, "Idempotency-Key", key)
		if err == nil && status == http.StatusAccepted {
			break
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return fmt.Errorf("%v: status %d", a.op, status)
		}
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	a.id, a.listener.path = sub.JobID, "/v1/jobs/"+sub.JobID+"/events"
	var wg sync.WaitGroup
	if a.cancel > 0 {
		wg.Go(func() { s.cancelJob(ctx, h, a) })
	}
	err := a.listener.listen(ctx)
	wg.Wait()
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%v: %s: no end after %s", a.op, a.id, patience)
	}
	return err
}

// cancelJob asks until the job has ended, one way or the other.
func (s *stage) cancelJob(ctx context.Context, h *yard.Daemon, a *act) {
	for pause(ctx, a.cancel) {
		status, err := h.Call(ctx, http.MethodDelete, "/v1/jobs/"+a.id, nil, nil)
		if err == nil && status == http.StatusOK {
			return
		}
		var job wire.Job
		if _, err := h.Get(ctx, "/v1/jobs/"+a.id, &job); err == nil && job.FinishedAt != nil {
			return
		}
	}
}

// listened checks what the listeners of a round have seen.
func (s *stage) listened(ctx context.Context, acts []*act) error {
	if s.ended == nil {
		s.ended = map[string]int{}
	}
	for _, a := range acts {
		if a.err != nil {
			return a.err
		}
		if err := a.listener.inOrder(); err != nil {
			return err
		}
		if _, err := s.h.Get(ctx, "/v1/jobs/"+a.id, &a.job); err != nil {
			return err
		}
		last := a.listener.seen[len(a.listener.seen)-1]
		if state := field(last.Data, "state"); state != a.job.State {
			return fmt.Errorf("%v: %s is %s, and its end event says %q", a.op, a.id, a.job.State, state)
		}
		s.told[a.id] = a.listener.seen
		s.connections += a.listener.connections
		s.ended[a.job.State]++
	}
	return nil
}

// end stops all workers, and checks that nothing is left and what the listeners to
// everything have seen.
func (s *stage) end(ctx context.Context, feeds *crowd) error {
	live, err := s.h.Live(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for id := range live {
		wg.Go(func() {
			_, _ = s.h.Call(ctx, http.MethodPost, "/v1/jobs?wait=30s", map[string]any{"operation": "worker_stop", "worker_id": id}, nil)
		})
	}
	wg.Wait()
	err = eventually(ctx, func() (string, error) {
		leases, err := s.h.Leases(ctx)
		if err != nil {
			return "", err
		}
		procs, err := s.y.Members()
		if err == nil && len(leases)+len(procs) > 0 {
			return fmt.Sprintf("%d leases and %d processes are left", len(leases), len(procs)), nil
		}
		return "", err
	})
	if err != nil {
		return err
	}
	return s.allListened(ctx, feeds)
}

// allListened checks what the listeners to everything have seen.
func (s *stage) allListened(ctx context.Context, feeds *crowd) error {
	// The newest number that there is: the one that a client is told who asks only
	// for what is new.
	newest, err := s.newest(ctx)
	if err != nil {
		return err
	}
	err = eventually(ctx, func() (string, error) {
		for _, l := range feeds.all {
			l.mu.Lock()
			err := l.allInOrder(newest)
			l.mu.Unlock()
			if err != nil {
				return err.Error(), nil
			}
		}
		return "", nil
	})
	select {
	case failed := <-feeds.errs:
		return errors.Join(err, fmt.Errorf("a listener to everything ended: %w", failed))
	default:
	}
	if err != nil {
		return err
	}
	for _, l := range feeds.all {
		s.connections += l.connections
		if err := s.same(l); err != nil {
			return err
		}
	}
	return nil
}

// same checks that a listener to everything saw of each job what the job's did.
func (s *stage) same(l *listener) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := map[string][]event{}
	for _, e := range l.seen {
		if e.JobID != nil {
			of[*e.JobID] = append(of[*e.JobID], e)
		}
	}
	for id, want := range s.told {
		got := of[id]
		if len(got) != len(want) {
			return fmt.Errorf("job %s has %d events, among everything it has %d", id, len(want), len(got))
		}
		for i := range got {
			if got[i].Seq != want[i].Seq || *got[i].JobSeq != *want[i].JobSeq || got[i].Message != want[i].Message {
				return fmt.Errorf("job %s: event %d is %q, among everything it is %q", id, i+1, want[i].Message, got[i].Message)
			}
		}
	}
	return nil
}

// pause waits; false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
