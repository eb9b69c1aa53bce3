package hive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// everything is the topic of those who wait for events of any kind; no job has
// this id.
const everything = ""

// feed wakes those who wait for events of a job, or for any. It carries no
// events: a listener reads them from the store, so a slow one delays nobody and a
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

// batch is one transaction with its events: whoever listens to what they are about
// is woken after the commit.
type batch struct {
	*store.Tx
	topics []string
	after  []func()
}

// onCommit has f called once the transaction is durable, before listeners are woken.
func (b *batch) onCommit(f func()) { b.after = append(b.after, f) }

// event appends an event, whose message becomes plain text: names that anybody can
// choose are in it. data may be nil; it must be encodable as JSON. An
// event of a job that has ended is an event of its worker only: nothing follows
// the end event of a job.
func (b *batch) event(typ store.EventType, jobID, workerID, message string, data any) error {
	if jobID != "" {
		job, err := b.Job(jobID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || (job.State.Ended() && typ != store.EventEnd) {
			jobID = ""
		}
	}
	ev := store.Event{Type: typ, JobID: jobID, WorkerID: workerID, Message: plain.Text(message)}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode %s event: %w", typ, err)
		}
		ev.Data = raw
	}
	if jobID != "" {
		b.topics = append(b.topics, jobID)
	}
	b.topics = append(b.topics, everything)
	_, err := b.AppendEvent(ev)
	return err
}

// batched turns fn into a closure for the store, and returns what is to be
// called after its commit.
func (h *Hive) batched(fn func(*batch) error) (closure func(*store.Tx) error, committed func()) {
	b := &batch{}
	return func(tx *store.Tx) error {
			*b = batch{Tx: tx}
			return fn(b)
		}, func() {
			for _, f := range b.after {
				f()
			}
			h.feed.wake(b.topics...)
		}
}

// write commits what op begins. A full disk refuses it, unless op ends
// something: stops are what helps. ctx counts only while the write is queued.
func (h *Hive) write(ctx context.Context, op Operation, fn func(*batch) error) error {
	commit := h.store.Update
	switch op.(type) {
	case StopWorker, ProcessDelete, ModelDelete, Remove:
		commit = h.store.UpdateReserved
	}
	closure, committed := h.batched(fn)
	if err := commit(ctx, closure); err != nil {
		return err
	}
	committed()
	return nil
}

// settle commits the end or a change of what exists already. It may use the
// reserve of a full disk, and is not given up when a caller goes away.
func (h *Hive) settle(fn func(*batch) error) error {
	return h.persist(func(closure func(*store.Tx) error) error {
		return h.store.UpdateReserved(context.Background(), closure)
	}, fn)
}

// persist carries out a commit that must come about: what it records has
// happened already, and somebody waits for it. A disk without even the reserve
// is waited for. Any other error means that the file does not hold what it
// must; then hive ends, and the next recovery finds out what is true. It returns
// an error only then, or when the hive closes.
func (h *Hive) persist(commit func(func(*store.Tx) error) error, fn func(*batch) error) error {
	for {
		if err := h.brokenBy(); err != nil {
			return err
		}
		closure, committed := h.batched(fn)
		err := commit(closure)
		switch {
		case err == nil:
			committed()
			return nil
		case errors.Is(err, store.ErrDiskFull):
			h.cfg.Log.WithError(err).WithField("data_dir", h.cfg.DataDir).Error("the disk is full: waiting for space to record what has happened")
		case errors.Is(err, store.ErrClosed):
			return err
		default:
			h.giveUp(err)
			return err
		}
		select {
		case <-time.After(diskPatience):
		case <-h.broken:
			return h.fault
		case <-h.ctx.Done():
			return errClosing
		}
	}
}

// diskPatience is how long a commit waits for space before it is tried again.
const diskPatience = 200 * time.Millisecond

// brokenBy returns why the hive must end; nil while it need not.
func (h *Hive) brokenBy() error {
	select {
	case <-h.broken:
		return h.fault
	default:
		return nil
	}
}

// over reports whether nothing more is to be recorded: the hive closes or must end.
func (h *Hive) over() bool { return h.ctx.Err() != nil || h.brokenBy() != nil }

// giveUp has Run return err, and those return who wait for what will not happen.
func (h *Hive) giveUp(err error) {
	h.breaking.Do(func() {
		h.fault = err
		close(h.broken)
	})
}

// eventPage is how many events one read of the store returns: a View is never
// held while a listener takes its time.
const eventPage = 256

// JobEvents returns the events of a job after its event number after (JobSeq), from
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
				if ev.JobSeq > after && !yield(ev, nil) {
					return
				}
			}
		}, nil
	}
	return func(yield func(store.Event, error) bool) {
		f := &jobFollower{h: h, id: id, after: after}
		for f.step(ctx, yield) {
		}
	}, nil
}

// jobFollower is one listener to a job.
type jobFollower struct {
	h     *Hive
	id    string
	after uint64  // only events of the job with a higher number are wanted
	at    *uint64 // where it is, in the hive's sequence; nil before the first look
}

// step yields a page of events or waits for the next one. It reports whether
// there may be more.
func (f *jobFollower) step(ctx context.Context, yield func(store.Event, error) bool) bool {
	wake := f.h.feed.join(f.id)
	defer f.h.feed.leave(f.id, wake)
	page, ended, err := f.read()
	if err != nil {
		yield(store.Event{}, err)
		return false
	}
	for _, ev := range page {
		*f.at = ev.Seq
		if ev.JobSeq > f.after && !yield(ev, nil) || ev.Type == store.EventEnd {
			return false
		}
	}
	return len(page) > 0 || !ended && f.h.wait(ctx, wake)
}

// read returns the next page, and whether the job has ended.
func (f *jobFollower) read() (page []store.Event, ended bool, err error) {
	err = f.h.store.View(func(tx *store.Tx) error {
		job, err := tx.Job(f.id)
		if err != nil {
			return err
		}
		ended = job.State.Ended()
		if f.at == nil {
			at, err := tx.JobEventSeq(f.id, f.after)
			if err != nil {
				return err
			}
			f.at = &at
		}
		page, err = tx.JobEvents(f.id, *f.at, eventPage)
		return err
	})
	return page, ended, err
}

// wait waits for a wake-up; false when ctx ends or the hive closes.
func (h *Hive) wait(ctx context.Context, wake <-chan struct{}) bool {
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
