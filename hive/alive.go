package hive

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rbeehive/store"
)

// Alive returns nil if the hive can do its work: its tables can be locked, a start has a
// slot or those before it get on, the audit ends, and the writer of the state file takes a
// request and answers it. Nothing is written, and no disk is waited for but by what is
// written already. It blocks for as long as the hive is stuck, also beyond the end of ctx;
// who wants to know when that is too long must wait for it in another goroutine. Safe for
// concurrent use until Close.
func (h *Hive) Alive(ctx context.Context) error { return h.upkeep.alive(ctx) }

func (u *upkeep) alive(ctx context.Context) error {
	err := u.supervisor.Alive()
	u.jobs.Alive()
	if u.run.Closing() {
		return nil // what it ends with is waited for elsewhere
	}
	if begun := u.health.auditBegun.Load(); begun != nil && time.Since(*begun) > longestAudit {
		err = errors.Join(err, fmt.Errorf("the audit that began at %s has not ended", begun.Format(time.TimeOnly)))
	}
	// Through the writer: a commit that hangs shows nowhere else.
	written := u.store.Update(ctx, func(*store.Tx) error { return nil })
	if errors.Is(written, store.ErrDiskFull) {
		written = nil // it has answered
	}
	return errors.Join(err, written)
}

const (
	// longestAudit is far beyond what an audit of 1,000 workers takes on a busy machine.
	longestAudit = 5 * time.Minute
	// healthInterval is how often a hive looks after itself.
	healthInterval = 10 * time.Second
	// longestCheck is how long alive may take. A disk that is that slow is as good as none.
	longestCheck = 30 * time.Second
)

// health is what the hive's own looks have found out.
type health struct {
	auditBegun atomic.Pointer[time.Time] // nil: none is under way
	checkBegun atomic.Pointer[time.Time] // the same of a call of alive
	fault      atomic.Pointer[string]    // what the last one said; nil: all is well
}

// Fault says for a person why the hive cannot do its work; empty if it can. It does not block.
func (h *health) Fault() string {
	if begun := h.checkBegun.Load(); begun != nil && time.Since(*begun) > longestCheck {
		return fmt.Sprintf("its writer or one of its tables has not answered since %s: the disk of the state directory, or a fault of hive's", begun.Format(time.TimeOnly))
	}
	if fault := h.fault.Load(); fault != nil {
		return *fault
	}
	return ""
}

// check calls alive, unless the last call has not ended. Nothing waits for its goroutine,
// which may never end.
func (u *upkeep) check(ctx context.Context) {
	now := time.Now()
	if !u.health.checkBegun.CompareAndSwap(nil, &now) {
		return
	}
	go func() {
		defer u.health.checkBegun.Store(nil)
		err := u.alive(ctx)
		if err == nil || u.run.Closing() {
			u.health.fault.Store(nil)
			return
		}
		text := err.Error()
		if last := u.health.fault.Swap(&text); last == nil {
			u.log.WithError(err).Error("hive cannot do its work")
		}
	}()
}
