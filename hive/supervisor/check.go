package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rbeehive/alloc"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/hive/ports"
	"rbeehive/store"
)

// Check carries out hive_check: it does for real what a spawn needs, with the reference
// worker, and leaves nothing behind. The result is operation.Checked.
func (s *Supervisor) Check(ctx context.Context, j operation.Job, _ operation.Check) (any, error) {
	// Those that wait cost nothing but their record, however many there are.
	if s.limits.checks.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer s.limits.checks.Release(1)
	if ctx.Err() != nil { // Acquire may not have looked
		return nil, context.Cause(ctx)
	}
	var w *worker
	result := operation.Checked{OK: true, Steps: []operation.CheckStep{}}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"store write", func() error {
			return s.journal.Commit(ctx, func(b *journal.Batch) error {
				return b.Event(store.EventProgress, j.ID(), "", "hive_check: the state file can be written", nil)
			})
		}},
		{"port probe", func() error {
			res, err := s.alloc.Acquire(ctx, alloc.Request{})
			if err != nil {
				return ports.Failure(ctx, err)
			}
			res.Abandon()
			return nil
		}},
		{"spawn", func() (err error) {
			typ := s.catalog().Reference()
			w, err = s.spawnAndAwait(ctx, j, typ, operation.Spawn{Worker: typ.Name, Wait: operation.WaitReady}, true)
			return err
		}},
		// Not with ctx: the worker must go even if the job is cancelled meanwhile.
		{"stop", func() error {
			if err := w.requestStop(s.run.Context(), stopRequest{job: j, reason: "hive_check is done with it"}); err != nil {
				return err
			}
			if w.failure != nil {
				return w.failure
			}
			return nil
		}},
	} {
		begun := time.Now()
		if err := step.do(); err != nil {
			return nil, inStep(step.name, err)
		}
		result.Steps = append(result.Steps, operation.CheckStep{Name: step.name, TookMS: float64(time.Since(begun).Microseconds()) / 1000})
	}
	return result, nil
}

// inStep names the step of a self-test that failed.
func inStep(name string, err error) error {
	var f *errdefs.Failure
	if !errors.As(err, &f) {
		return err
	}
	// A copy: the failure belongs to the worker, and others read it.
	named := *f
	named.Message = fmt.Sprintf("%s: %s", name, f.Message)
	return &named
}
