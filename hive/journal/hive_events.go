package journal

import (
	"context"
	"fmt"
	"iter"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// Start says where a reader of all events begins. The zero value is behind number
// 0: with the first event that there ever was.
type Start struct {
	After  uint64 // behind the event of this number
	Oldest bool   // with the oldest that is kept, whatever was removed before
	Latest bool   // behind the newest: only what is new
}

// Events returns everything that happens in this hive, and happened behind start:
// events of jobs, workers, leases and the audit, each once and by number. behind is
// the number that it begins behind, and replayed whether there is more already.
//
// The iteration ends only when ctx ends, when the hive closes, or with an error:
// errdefs.ErrEventsGone when events that it has not come to were removed, or one of the
// store. It holds no transaction while it yields. errdefs.ErrEventsGone is returned at
// once if events behind start were removed, or if this state file has never given
// out its number.
func (j *Journal) Events(ctx context.Context, start Start) (events iter.Seq2[store.Event, error], behind uint64, replayed bool, err error) {
	var b store.EventBounds
	if err := j.store.View(func(tx *store.Tx) (err error) { b, err = tx.EventBounds(); return err }); err != nil {
		return nil, 0, false, err
	}
	f := &feedReader{j: j, at: start.After, pruned: b.Pruned}
	switch {
	case start.Latest:
		f.at = b.Newest
	case start.Oldest:
		f.at = 0
	// A number of another state: to go on from it would skip events without a word.
	case f.at > b.Newest:
		return nil, 0, false, fmt.Errorf("%w: event %d is none of this hive, whose newest is %d: its state file is another one, or was restored", errdefs.ErrEventsGone, f.at, b.Newest)
	case f.at < b.Pruned:
		return nil, 0, false, goneBefore(f.at, b)
	}
	return func(yield func(store.Event, error) bool) {
		for f.step(ctx, yield) {
		}
	}, f.at, f.at < b.Newest, nil
}

func goneBefore(after uint64, b store.EventBounds) error {
	return fmt.Errorf("%w: events after %d were removed; one can go on after %d or later, or begin with the oldest that is kept", errdefs.ErrEventsGone, after, b.Pruned)
}

// feedReader is one listener to everything.
type feedReader struct {
	j      *Journal
	at     uint64 // the last number that was yielded
	pruned uint64 // what was removed up to here it does not miss
}

// step yields a page of events or waits for the next one. It reports whether
// there may be more.
func (f *feedReader) step(ctx context.Context, yield func(store.Event, error) bool) bool {
	// Joined before the read, so that an event in between is not missed.
	wake := f.j.feed.join(everything)
	defer f.j.feed.leave(everything, wake)
	page, err := f.read()
	if err != nil {
		yield(store.Event{}, err)
		return false
	}
	// No transaction is open here: a client may take minutes, and the file would grow meanwhile.
	for _, ev := range page {
		f.at = ev.Seq
		if !yield(ev, nil) {
			return false
		}
	}
	return len(page) > 0 || f.j.wait(ctx, wake)
}

// read returns the next page. The mark is of the same transaction: what is on the
// page was not removed, and what is missing on it is known.
func (f *feedReader) read() (page []store.Event, err error) {
	err = f.j.store.View(func(tx *store.Tx) error {
		b, err := tx.EventBounds()
		if err != nil {
			return err
		}
		// What had been removed when the reader began is no loss: it began behind that, or with the oldest.
		if b.Pruned > f.pruned && b.Pruned > f.at {
			return goneBefore(f.at, b)
		}
		f.pruned = b.Pruned
		page, err = tx.Events(f.at, eventPage)
		return err
	})
	return page, err
}
