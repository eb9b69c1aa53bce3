package hive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rbeehive/alloc"
	"rbeehive/store"
)

// runCheck carries out hive_check: it does for real what a spawn needs, with
// the reference worker, and leaves nothing behind.
func (h *Hive) runCheck(ctx context.Context, j *job) (any, error) {
	// Those that wait cost nothing but their record, however many there are.
	if h.checks.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer h.checks.Release(1)
	if ctx.Err() != nil { // Acquire may not have looked
		return nil, context.Cause(ctx)
	}
	var w *worker
	result := checked{OK: true, Steps: []checkStep{}}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"store write", func() error {
			return h.write(ctx, j.op, func(b *batch) error {
				return b.event(store.EventProgress, j.id(), "", "hive_check: the state file can be written", nil)
			})
		}},
		{"port probe", func() error {
			res, err := h.alloc.Acquire(ctx, alloc.Request{})
			if err != nil {
				return portFailure(ctx, err)
			}
			res.Abandon()
			return nil
		}},
		{"spawn", func() (err error) {
			typ := h.types().Reference()
			w, err = h.spawnAndFollow(ctx, j, typ, Spawn{Worker: typ.Name, Wait: WaitReady})
			return err
		}},
		{"stop", func() error {
			if err := w.requestStop(h.ctx, stopRequest{jobID: j.id(), reason: "hive_check is done with it"}); err != nil {
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
		result.Steps = append(result.Steps, checkStep{step.name, float64(time.Since(begun).Microseconds()) / 1000})
	}
	return result, nil
}

// ofCheck reports whether a job is a self-test under way. Its worker is of the
// reference type, also where an entry has taken that name.
func (h *Hive) ofCheck(jobID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.jobs[jobID]
	if j == nil {
		return false
	}
	_, is := j.op.(Check)
	return is
}

// inStep names the step of a self-test that failed.
func inStep(name string, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	named := *f
	named.Message = fmt.Sprintf("%s: %s", name, f.Message)
	return &named
}
