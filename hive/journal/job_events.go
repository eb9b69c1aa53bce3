package journal

import (
	"context"
	"iter"

	"rbeehive/store"
)

// eventPage is how many events one read of the store returns: a View is never
// held while a listener takes its time.
const eventPage = 256

// JobEvents returns the events of a recorded job after its event number after (JobSeq),
// from the beginning for 0. The iteration follows a running job and ends after its end
// event, when ctx ends, when the hive closes, or with an error of the store, which is
// store.ErrNotFound for an unknown job. It holds no transaction while it yields.
func (j *Journal) JobEvents(ctx context.Context, id string, after uint64) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		f := &jobFollower{j: j, id: id, after: after}
		for f.step(ctx, yield) {
		}
	}
}

// jobFollower is one listener to a job.
type jobFollower struct {
	j     *Journal
	id    string
	after uint64  // only events of the job with a higher number are wanted
	at    *uint64 // where it is, in the hive's sequence; nil before the first read
}

// step yields a page of events or waits for the next one. It reports whether
// there may be more.
func (f *jobFollower) step(ctx context.Context, yield func(store.Event, error) bool) bool {
	// Joined before the read, so that an event in between is not missed.
	wake := f.j.feed.join(f.id)
	defer f.j.feed.leave(f.id, wake)
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
	// ended: the reader may have begun behind the end event, and nothing follows that.
	return len(page) > 0 || !ended && f.j.wait(ctx, wake)
}

// read returns the next page, and whether the job has ended.
func (f *jobFollower) read() (page []store.Event, ended bool, err error) {
	err = f.j.store.View(func(tx *store.Tx) error {
		job, err := tx.Job(f.id)
		if err != nil {
			return err
		}
		ended = job.State.Ended()
		// Callers count by job (JobSeq), pages go by the hive's number.
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
func (j *Journal) wait(ctx context.Context, wake <-chan struct{}) bool {
	select {
	case <-wake:
		return true
	case <-ctx.Done():
	case <-j.ctx.Done():
	}
	return false
}

// WorkerEvents returns up to limit events of a worker after a sequence number, oldest first.
func (j *Journal) WorkerEvents(id string, after uint64, limit int) (evs []store.Event, err error) {
	err = j.store.View(func(tx *store.Tx) error {
		evs, err = tx.WorkerEvents(id, after, limit)
		return err
	})
	return evs, err
}
