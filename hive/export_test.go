package hive

import (
	"context"
	"time"

	"rbeehive/store"
)

// RotateLogs looks at the logs of live workers now.
func (h *Hive) RotateLogs(ctx context.Context) { h.upkeep.logs.Rotate(ctx, h.upkeep.logSources()) }

// BeginNothing keeps recovery from beginning what it leaves for later.
func (h *Hive) BeginNothing() { h.run.Close() }

// Prune removes what is old now.
func (h *Hive) Prune(ctx context.Context) { h.upkeep.prune(ctx) }

// AwaitFirstProbes waits for the first probes of all workers.
func (h *Hive) AwaitFirstProbes() { h.supervisor.AwaitFirstProbes(context.Background()) }

// StoredEvents are the events of a job so far.
func (h *Hive) StoredEvents(id string) (evs []store.Event, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		evs, err = tx.JobEvents(id, 0, 0)
		return err
	})
	return evs, err
}

// HoldWriter keeps the writer of the state file busy.
func (h *Hive) HoldWriter() (release func()) {
	held, over, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = h.store.Update(context.Background(), func(*store.Tx) error { close(held); <-over; return nil }) // nothing is written
	}()
	<-held
	return func() { close(over); <-done }
}

// Commits counts the transactions on the disk.
func (h *Hive) Commits() uint64 { return h.store.Stats().Commits }

// EventBounds says which events there are.
func (h *Hive) EventBounds() (b store.EventBounds, err error) {
	err = h.store.View(func(tx *store.Tx) (err error) { b, err = tx.EventBounds(); return err })
	return b, err
}

// BackUpIfDue makes an automatic backup if one is due.
func (h *Hive) BackUpIfDue(now time.Time) error { return h.upkeep.backUpIfDue(now) }

// Examined reports whether the full check after the start is over.
func (h *Hive) Examined() bool { return h.upkeep.examined.Load() != nil }

// LookAfterItself makes a hive look whether it can do its work, as if the look and the audit
// under way had begun so long ago.
func (h *Hive) LookAfterItself(ctx context.Context, audit, look time.Duration) {
	began := func(ago time.Duration) *time.Time {
		if ago == 0 {
			return nil
		}
		at := time.Now().Add(-ago)
		return &at
	}
	h.upkeep.health.auditBegun.Store(began(audit))
	h.upkeep.health.checkBegun.Store(began(look))
	h.upkeep.check(ctx)
}
