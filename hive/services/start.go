package services

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// ran are the codes of a worker that ran: its own policy has decided about it.
var ran = []string{errdefs.CodeExitedEarly, errdefs.CodeNotReady, errdefs.CodeWrongPort}

// start makes one try. Jobs are submitted in the order of the starts: before is closed when
// it is this one's turn, and it closes begun when it is the next one's.
func (s *Services) start(typ *catalog.Type, v *service, before <-chan struct{}, begun chan<- struct{}) {
	err := s.try(typ, v, before, sync.OnceFunc(func() { close(begun) }))
	if s.o.Run.Closing() {
		return // the next start of hive finds out
	}
	s.record(typ, v, err)
	s.signal()
}

// try starts the worker by a job, and waits until it is ready.
func (s *Services) try(typ *catalog.Type, v *service, before <-chan struct{}, begun func()) error {
	defer begun() // also of a try that comes to no job
	ctx := s.o.Run.Context()
	op, err := s.o.Check(operation.Spawn{Worker: typ.Name, Wait: operation.WaitReady})
	if err != nil {
		return err
	}
	request := map[string]string{"operation": op.Tag(), "worker": typ.Name}
	if op.Name != "" {
		request["name"] = op.Name // who looks at the job sees it
	}
	// The first time it is a job that fails, which is history; after that it is news only
	// when it no longer does.
	again := s.failed(v) > 0
	if again {
		// Out of turn: the others must not wait for a file system that does not answer.
		begun()
		if err := s.o.Workers.Preflight(ctx, op); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if !again {
		select {
		case <-before:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	job, err := s.o.Jobs.Submit(ctx, access.Hive(), "", op, raw)
	if err != nil {
		return err
	}
	begun()
	s.mu.Lock()
	v.JobID = job.JobID
	s.mu.Unlock()
	if job, err = s.o.Jobs.Wait(ctx, job.JobID); err != nil {
		return err
	}
	if job.Error != nil {
		return &errdefs.Failure{JobError: *job.Error}
	}
	return nil
}

func (s *Services) failed(v *service) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.Failed
}

// record notes what became of a try.
func (s *Services) record(typ *catalog.Type, v *service, err error) {
	s.mu.Lock()
	v.busy = false
	was, n := v.Reason, v.Failed+1
	code := ""
	if f, ok := errors.AsType[*errdefs.Failure](err); ok {
		code = f.Code
	}
	// Somebody may have started it meanwhile, and it may be wanted anew.
	if s.wanted[v.Name] != v || err == nil || code == errdefs.CodeCancelled {
		if s.wanted[v.Name] == v {
			delete(s.wanted, v.Name)
		}
		s.mu.Unlock()
		return
	}
	v.Failed, v.Reason, v.State = n, reason(err), Failed
	wait, again := next(typ.Restart, n, err, code)
	if again {
		v.State, v.NextTry = Backoff, time.Now().Add(wait)
	}
	job, why := v.JobID, v.Reason
	s.mu.Unlock()
	if why == was {
		return // it has been said
	}
	log := s.o.Log.WithFields(logrus.Fields{"service": typ.Name, "code": code, "job": job})
	if again {
		log.WithField("next_try_in", wait.Round(time.Millisecond)).Warn("autostart: " + why + "; it is tried again until it starts")
		return
	}
	log.Error("autostart: " + why)
}

// reason is an error as a person reads it.
func reason(err error) string {
	if f, ok := errors.AsType[*errdefs.Failure](err); ok {
		return f.Message
	}
	return err.Error()
}

// next decides whether and when a service of which n starts have failed is tried again.
func next(policy store.Restart, n int, err error, code string) (wait time.Duration, again bool) {
	switch {
	case policy.Policy == store.RestartNever:
		return 0, false
	// The configuration does not permit this start: only a reload changes that.
	case errors.As(err, new(*errdefs.InputError)):
		return 0, false
	case slices.Contains(ran, code):
		return 0, false
	}
	// As of a worker that ended, but without an end to it.
	policy.Policy, policy.Max = store.RestartAlways, math.MaxInt
	now, spread := time.Now(), rand.Float64() //nolint:gosec // a moment, no secret
	// So many that the wait is the longest, and no more.
	before := slices.Repeat([]time.Time{now}, min(n-1, 64))
	return lifecycle.NextStart(policy, before, false, nil, now, spread)
}
