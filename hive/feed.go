package hive

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"

	"rbeehive/store"
)

// feed wakes those who wait for events of a job. It carries no events: a
// listener reads them from the store, so a slow one delays nobody and a
// missed wake-up loses nothing.
type feed struct {
	mu     sync.Mutex
	topics map[string]*topic
}

type topic struct {
	wake      chan struct{}
	listeners int
}

// join returns a channel that is closed at the next wake of id. Each join is
// followed by one leave.
func (f *feed) join(id string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[id]
	if t == nil {
		t = &topic{wake: make(chan struct{})}
		f.topics[id] = t
	}
	t.listeners++
	return t.wake
}

func (f *feed) leave(id string, ch <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[id]
	if t == nil || t.wake != ch {
		return // woken since: the topic went with its wake
	}
	if t.listeners--; t.listeners == 0 {
		delete(f.topics, id)
	}
}

func (f *feed) wake(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if t := f.topics[id]; t != nil {
			close(t.wake)
			delete(f.topics, id)
		}
	}
}

// batch is one transaction with its events: whoever listens to a job that it
// names is woken after the commit.
type batch struct {
	*store.Tx
	jobs []string
}

// event appends an event. data may be nil; it must be encodable as JSON.
func (b *batch) event(typ store.EventType, jobID, workerID, message string, data any) error {
	ev := store.Event{Type: typ, JobID: jobID, WorkerID: workerID, Message: message}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode %s event: %w", typ, err)
		}
		ev.Data = raw
	}
	if jobID != "" {
		b.jobs = append(b.jobs, jobID)
	}
	_, err := b.AppendEvent(ev)
	return err
}

// batched turns fn into a closure for the store, and returns what is to be
// called after its commit.
func (h *Hive) batched(fn func(*batch) error) (closure func(*store.Tx) error, committed func()) {
	b := &batch{}
	return func(tx *store.Tx) error {
			b.Tx = tx
			return fn(b)
		}, func() {
			h.feed.wake(b.jobs...)
		}
}

// write commits what a new job or worker needs; refused on a full disk. ctx
// counts only while the write is queued.
func (h *Hive) write(ctx context.Context, fn func(*batch) error) error {
	closure, committed := h.batched(fn)
	if err := h.store.Update(ctx, closure); err != nil {
		return err
	}
	committed()
	return nil
}

// settle commits the end or a change of what exists already; it may use the
// reserve of a full disk, and is not given up when a caller goes away.
func (h *Hive) settle(fn func(*batch) error) error {
	closure, committed := h.batched(fn)
	if err := h.store.UpdateReserved(context.Background(), closure); err != nil {
		return err
	}
	committed()
	return nil
}

// eventPage is how many events one read of the store returns: a View is never
// held while a listener takes its time.
const eventPage = 256

// JobEvents returns the events of a job after the sequence number after, from
// the beginning for 0. The iteration follows a running job and ends after its
// end event, when ctx ends, when the hive closes, or with an error of the
// store. The error returned at once is ErrNotFound for an unknown job.
func (h *Hive) JobEvents(ctx context.Context, id string, after uint64) (iter.Seq2[store.Event, error], error) {
	if _, err := h.Job(id); err != nil {
		return nil, err
	}
	if evs, ok := h.volatileEvents(id); ok {
		return func(yield func(store.Event, error) bool) {
			for _, ev := range evs {
				if ev.Seq > after && !yield(ev, nil) {
					return
				}
			}
		}, nil
	}
	return func(yield func(store.Event, error) bool) {
		for h.followOnce(ctx, id, &after, yield) {
		}
	}, nil
}

// followOnce yields a page of events or waits for the next one. It reports
// whether there may be more.
func (h *Hive) followOnce(ctx context.Context, id string, after *uint64, yield func(store.Event, error) bool) bool {
	wake := h.feed.join(id)
	defer h.feed.leave(id, wake)
	var page []store.Event
	var ended bool
	err := h.store.View(func(tx *store.Tx) (err error) {
		job, err := tx.Job(id)
		if err != nil {
			return err
		}
		ended = job.State.Ended()
		page, err = tx.JobEvents(id, *after, eventPage)
		return err
	})
	if err != nil {
		yield(store.Event{}, err)
		return false
	}
	for _, ev := range page {
		*after = ev.Seq
		if !yield(ev, nil) || ev.Type == store.EventEnd {
			return false
		}
	}
	if len(page) > 0 {
		return true
	}
	if ended {
		return false
	}
	select {
	case <-wake:
		return true
	case <-ctx.Done():
	case <-h.ctx.Done():
	}
	return false
}

// WorkerEvents returns up to limit events of a worker after a sequence number, oldest first.
func (h *Hive) WorkerEvents(id string, after uint64, limit int) (evs []store.Event, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		evs, err = tx.WorkerEvents(id, after, limit)
		return err
	})
	return evs, err
}
