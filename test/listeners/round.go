package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// step is one job of a round.
type step struct {
	op       harness.Op
	begin    time.Duration // when it is submitted
	cancel   time.Duration // after so long; 0: not
	id       string
	listener *listener
	job      wire.Job
	err      error
}

// round submits jobs, kills hive in the middle of them, and checks how all ended.
func (r *run) round(ctx context.Context, jobs int) error {
	live, err := r.hive.Live(ctx)
	if err != nil {
		return err
	}
	steps := r.plan(jobs, slices.Sorted(maps.Keys(live)))
	limited, cancel := context.WithTimeout(ctx, jobsTimeout)
	defer cancel()
	var carriedOut sync.WaitGroup
	for _, s := range steps {
		s.listener = &listener{run: r}
		carriedOut.Go(func() { s.err = r.carryOut(limited, s) })
	}
	err = r.killHive(ctx)
	if err != nil {
		cancel()
	}
	carriedOut.Wait()
	if err != nil {
		return err
	}
	if err := r.checkEvents(ctx, steps); err != nil {
		return err
	}
	return r.checkProcesses(ctx, steps)
}

// plan is what is to happen in a round. Each worker that is there is named once at
// most, so that it is known what becomes of it.
func (r *run) plan(jobs int, live []string) []*step {
	r.rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	check := func() *step { return &step{op: harness.Op{"operation": "hive_check"}} }
	next := func(operation string) *step {
		if len(live) == 0 {
			return check()
		}
		id := live[0]
		live = live[1:]
		if strings.HasPrefix(id, "never-") { // of a spawn that hive was killed in: a restart would wait for ever, too
			operation = "worker_stop"
		}
		return &step{op: harness.Op{"operation": operation, "worker_id": id}}
	}
	spawn := func(typ string) *step { return &step{op: harness.Spawn(typ)} }
	var steps []*step
	for range jobs {
		var s *step
		switch n := r.rand.IntN(100); {
		case n < 22:
			s = spawn("quick")
		case n < 32:
			s = spawn("slow")
		case n < 40:
			s = spawn("never")
			s.cancel = time.Duration(1 + r.rand.IntN(int(busy)))
		case n < 48:
			s = spawn("broken")
		case n < 80:
			s = next("worker_stop")
		case n < 92:
			s = next("worker_restart")
		default:
			s = check()
		}
		s.begin = time.Duration(r.rand.IntN(int(busy)))
		steps = append(steps, s)
	}
	return steps
}

// killHive ends hive one to three times at random moments, and starts it again.
func (r *run) killHive(ctx context.Context) error {
	for range 1 + r.rand.IntN(3) {
		if !harness.Sleep(ctx, time.Duration(r.rand.IntN(int(busy)))) {
			return ctx.Err()
		}
		r.tally.Add("kills of hive", 1)
		if err := r.hive.Restart(ctx); err != nil {
			return err
		}
	}
	return nil
}

// carryOut submits one job and listens to its end.
func (r *run) carryOut(ctx context.Context, s *step) error {
	harness.Sleep(ctx, s.begin)
	var sub wire.Submitted
	for key := uuid.NewString(); ; { // a request whose response was lost is sent again, and is one job
		err := r.hive.Call(ctx, http.MethodPost, "/v1/jobs", s.op, &sub, "Idempotency-Key", key)
		if err == nil {
			break
		}
		if !errors.Is(err, harness.ErrUnavailable) || !harness.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("%v: %w", s.op, err)
		}
	}
	s.id, s.listener.path = sub.JobID, "/v1/jobs/"+sub.JobID+"/events"
	var cancelling sync.WaitGroup
	if s.cancel > 0 {
		cancelling.Go(func() { r.cancelJob(ctx, s) })
	}
	err := s.listener.listen(ctx)
	cancelling.Wait()
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%v: %s: no end after %s", s.op, s.id, jobsTimeout)
	}
	return err
}

// cancelJob asks until the job has ended, one way or the other.
func (r *run) cancelJob(ctx context.Context, s *step) {
	for harness.Sleep(ctx, s.cancel) {
		if r.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+s.id, nil, nil) == nil {
			return
		}
		var job wire.Job
		if r.hive.Get(ctx, "/v1/jobs/"+s.id, &job) == nil && job.FinishedAt != nil {
			return
		}
	}
}

// checkEvents checks what the listeners of a round have received.
func (r *run) checkEvents(ctx context.Context, steps []*step) error {
	for _, s := range steps {
		if s.err != nil {
			return s.err
		}
		if err := s.listener.inOrder(); err != nil {
			return err
		}
		if err := r.hive.Get(ctx, "/v1/jobs/"+s.id, &s.job); err != nil {
			return err
		}
		last := s.listener.events[len(s.listener.events)-1]
		if state := field(last.Data, "state"); state != s.job.State {
			return fmt.Errorf("%v: %s is %s, and its end event says %q", s.op, s.id, s.job.State, state)
		}
		r.received[s.id] = s.listener.events
		r.tally.Add("jobs "+s.job.State, 1)
	}
	return nil
}

// field is a member of a JSON object that is a text.
func field(object json.RawMessage, name string) string {
	var m map[string]any
	_ = json.Unmarshal(object, &m) // an empty text then, which is no worker's id and no state
	value, _ := m[name].(string)
	return value
}
