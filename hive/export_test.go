package hive

import (
	"context"
	"time"

	"rbeehive/store"
)

// DecodeOperation is for fuzzing: decoding without a hive.
var DecodeOperation = decodeOperation

// Unsent is how many heartbeats are kept for a listener.
const Unsent = unsent

// RotateLogs looks at the logs of live workers now.
func (h *Hive) RotateLogs(ctx context.Context) { h.logs.Rotate(ctx, h.logSources()) }

// BeginNothing keeps recovery from beginning what it leaves for later.
func (h *Hive) BeginNothing() { h.close() }

// Prune removes what is old now.
func (h *Hive) Prune(ctx context.Context) { h.prune(ctx) }

// AwaitLooks waits for the first looks at all workers.
func (h *Hive) AwaitLooks() { h.awaitLooks() }

// HoldWorkers takes the lock of every worker, as their supervisors do to begin and
// to rest.
func (h *Hive) HoldWorkers() (letGo func()) {
	list := h.stoppable()
	for _, w := range list {
		w.mu.Lock()
	}
	return func() {
		for _, w := range list {
			w.mu.Unlock()
		}
	}
}

// StoredEvents are the events of a job so far.
func (h *Hive) StoredEvents(id string) (evs []store.Event, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		evs, err = tx.JobEvents(id, 0, 0)
		return err
	})
	return evs, err
}

// HoldLock takes the lock of the hive's tables.
func (h *Hive) HoldLock() (release func()) {
	h.mu.Lock()
	return h.mu.Unlock
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

// EventBounds says which events there are.
func (h *Hive) EventBounds() (b store.EventBounds, err error) {
	err = h.store.View(func(tx *store.Tx) (err error) { b, err = tx.EventBounds(); return err })
	return b, err
}

// BackUpIfDue makes an automatic backup if one is due.
func (h *Hive) BackUpIfDue(now time.Time) error { return h.backUpIfDue(now) }
