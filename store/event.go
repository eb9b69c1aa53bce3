package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"rbeehive/store/internal/kv"
)

// defaultEvents is how many events are returned when no limit is given. Streams
// replay in pages of this size: a transaction that stays open while a slow
// client reads makes the file grow.
const defaultEvents = 256

// indexValue is what an index entry holds: nothing, in an envelope, so that its
// key is covered by a checksum.
type indexValue struct{}

// AppendEvent writes ev with the next number of the hive's one sequence and, if it
// belongs to a job, of the job's, and returns it as written. At is set to the
// transaction's time if it is zero. A number is never used again, also not after
// events were pruned.
// Errors: ErrInvalid if Data is no JSON or an id holds a zero byte.
func (tx *Tx) AppendEvent(ev Event) (Event, error) {
	for _, ix := range indexesOf(ev) {
		// In the index a zero byte ends the id.
		if strings.IndexByte(ix.id, 0) >= 0 {
			return Event{}, fmt.Errorf("append an event: %w: id %q", ErrInvalid, ix.id)
		}
	}
	seq, err := tx.nextSeq()
	if err == nil {
		ev.JobSeq, err = tx.nextJobSeq(ev.JobID)
	}
	if err != nil {
		return Event{}, fmt.Errorf("append an event: %w", err)
	}
	ev.Seq = seq
	if ev.At.IsZero() {
		ev.At = tx.Now()
	}
	if err := tx.kv.Put(kv.Events, kv.BE64(seq), ev); err != nil {
		return Event{}, fmt.Errorf("append an event: %w", err)
	}
	for _, ix := range indexesOf(ev) {
		if err := tx.kv.Put(ix.bucket, kv.IndexKey(ix.id, seq), indexValue{}); err != nil {
			return Event{}, fmt.Errorf("append an event: %w", err)
		}
	}
	return ev, nil
}

// nextSeq takes the next number. The sequence is bbolt's and has no checksum,
// so it is held against the newest event: a number used twice would overwrite one.
func (tx *Tx) nextSeq() (uint64, error) {
	// Undone with the closure: what did not happen has no number.
	seq, err := tx.kv.NextSequence(kv.Events)
	if err != nil {
		return 0, err
	}
	last, err := tx.kv.LastKey(kv.Events)
	if err != nil {
		return 0, err
	}
	if last != nil && bytes.Compare(last, kv.BE64(seq)) >= 0 {
		return 0, tx.kv.Corrupt(kv.Events, last, fmt.Sprintf("the sequence is behind it, at %d", seq))
	}
	return seq, nil
}

// nextJobSeq is the number of a job's next event; 0 for no job. A job's events go
// only together, so their numbers have no gaps and counting them says the same:
// that is done where the newest event is of an older file, which has no such
// numbers, or is damaged, which must not keep its job from ending.
func (tx *Tx) nextJobSeq(id string) (uint64, error) {
	if id == "" {
		return 0, nil
	}
	last, err := tx.kv.KeyBefore(kv.ByJob, append([]byte(id), 1)) // where the next job's entries begin
	if err != nil {
		return 0, err
	}
	// The entry before is another job's: this one has no events yet.
	if !bytes.HasPrefix(last, kv.IndexPrefix(id)) {
		return 1, nil
	}
	var ev Event
	if err := tx.kv.Get(kv.Events, kv.IndexSeq(last), &ev); err == nil && ev.JobSeq > 0 {
		return ev.JobSeq + 1, nil
	}
	n, err := tx.countIndex(id, last)
	return n + 1, err
}

// countIndex is how many events a job has up to the one with this index entry.
func (tx *Tx) countIndex(id string, upTo []byte) (n uint64, err error) {
	bb, err := tx.kv.Bucket(kv.ByJob)
	if err != nil {
		return 0, err
	}
	c := bb.Cursor()
	prefix := kv.IndexPrefix(id)
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && bytes.Compare(k, upTo) <= 0; k, _ = c.Next() {
		n++
	}
	return n, nil
}

// numbered gives an event of an older file the number in its job.
func (tx *Tx) numbered(ev Event) (Event, error) {
	if ev.JobID == "" || ev.JobSeq > 0 {
		return ev, nil
	}
	n, err := tx.countIndex(ev.JobID, kv.IndexKey(ev.JobID, ev.Seq))
	ev.JobSeq = n
	return ev, err
}

// EventBounds says which numbers of the hive's sequence can be asked for.
type EventBounds struct {
	Newest uint64 // the highest number that was ever given out; 0: none
	// Pruned is the highest number that was ever removed; 0: none. Who has seen all
	// up to it has missed nothing. Lower numbers may still be there.
	Pruned uint64
}

// EventBounds returns the bounds as of this transaction.
func (tx *Tx) EventBounds() (EventBounds, error) {
	var b EventBounds
	bb, err := tx.kv.Bucket(kv.Events)
	if err == nil {
		b.Newest = bb.Sequence()
		err = kv.IgnoreMissing(tx.kv.Get(kv.Meta, []byte(kv.KeyPruned), &b.Pruned))
	}
	if err != nil {
		return EventBounds{}, fmt.Errorf("bounds of the events: %w", err)
	}
	return b, nil
}

// Events returns events with a number above after, ascending, at most limit
// (0: 256).
func (tx *Tx) Events(after uint64, limit int) ([]Event, error) {
	var events []Event
	for ev, err := range kv.All[Event](tx.kv, kv.Events, kv.Range{After: kv.BE64(after)}) {
		if err == nil {
			ev, err = tx.numbered(ev)
		}
		if err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		events = append(events, ev)
		// A page, so that no reader holds a transaction for long.
		if len(events) >= orDefault(limit) {
			break
		}
	}
	return events, nil
}

// JobEventSeq translates a job's own number of an event into the hive's, from where
// JobEvents continues: 0 for 0, and the job's newest for a number beyond it.
func (tx *Tx) JobEventSeq(id string, jobSeq uint64) (seq uint64, err error) {
	if jobSeq == 0 {
		return 0, nil
	}
	var n uint64
	for e, err := range tx.kv.Scan(kv.ByJob, kv.Range{Prefix: kv.IndexPrefix(id)}) {
		if err != nil {
			return 0, fmt.Errorf("event %d of %s: %w", jobSeq, id, err)
		}
		seq = binary.BigEndian.Uint64(kv.IndexSeq(e.Key))
		if n++; n == jobSeq {
			break
		}
	}
	return seq, nil
}

// JobEvents returns the events of a job with a number in the hive's sequence above
// after, ascending, at most limit (0: 256). A job without events, or without a
// record, has none.
func (tx *Tx) JobEvents(id string, after uint64, limit int) ([]Event, error) {
	return tx.indexed(kv.ByJob, id, after, limit)
}

// WorkerEvents is JobEvents for a worker.
func (tx *Tx) WorkerEvents(id string, after uint64, limit int) ([]Event, error) {
	return tx.indexed(kv.ByWorker, id, after, limit)
}

func (tx *Tx) indexed(b kv.Bucket, id string, after uint64, limit int) ([]Event, error) {
	var events []Event
	o := kv.Range{Prefix: kv.IndexPrefix(id), After: kv.IndexKey(id, after)}
	for e, err := range tx.kv.Scan(b, o) {
		if err != nil {
			return nil, fmt.Errorf("events of %s: %w", id, err)
		}
		var ev Event
		// The index has only numbers: an event is stored once.
		err := tx.kv.Get(kv.Events, kv.IndexSeq(e.Key), &ev)
		if err == nil {
			ev, err = tx.numbered(ev)
		}
		if err != nil {
			return nil, fmt.Errorf("event of %s: %w", id, err)
		}
		events = append(events, ev)
		if len(events) >= orDefault(limit) {
			break
		}
	}
	return events, nil
}

// PruneEvents removes at most limit events from before the given time that belong to no job
// that has a record, oldest first, and returns how many. The others go with their job. Those
// of a worker go whether it has a record or not: one that is started again and again has a
// few more each time, for as long as it lives.
//
// An event of a time to come was recorded while the clock was ahead. It is as old as the
// next one that is old; until there is one it stays, unless there are more of them than
// maxAhead.
func (tx *Tx) PruneEvents(before time.Time, limit int) (removed int, err error) {
	var ahead []Event
	now := tx.Now()
	for ev, err := range kv.All[Event](tx.kv, kv.Events, kv.Range{}) {
		if err != nil {
			return removed, fmt.Errorf("prune events: %w", err)
		}
		var old []Event
		switch {
		case ev.At.Before(before):
			old, ahead = append(ahead, ev), nil
		case !ev.At.After(now): // recorded in order, so the rest is younger
			return removed, nil
		case len(ahead) == maxAhead:
			old, ahead = ahead[:1], append(ahead[1:], ev)
		default:
			ahead = append(ahead, ev)
		}
		for _, ev := range old {
			if removed >= limit {
				return removed, nil
			}
			deleted, err := tx.deleteOwnerless(ev)
			if err != nil {
				return removed, fmt.Errorf("prune events: %w", err)
			}
			if deleted {
				removed++
			}
		}
	}
	return removed, nil
}

// maxAhead is how many events of a time to come one PruneEvents reads over.
const maxAhead = 1024

// deleteOwnerless removes an event, unless its job has a record.
func (tx *Tx) deleteOwnerless(ev Event) (deleted bool, err error) {
	owned, err := tx.kv.Has(kv.Jobs, []byte(ev.JobID))
	if err != nil || owned {
		return false, err
	}
	return true, tx.deleteEvent(ev)
}

// dropIndex removes all of id's entries in an index, and the events for which
// drop says so, with their other entries.
func (tx *Tx) dropIndex(b kv.Bucket, id string, drop func(Event) bool) error {
	for e, err := range tx.kv.Scan(b, kv.Range{Prefix: kv.IndexPrefix(id)}) {
		if err != nil {
			return err
		}
		var ev Event
		err := tx.kv.Get(kv.Events, kv.IndexSeq(e.Key), &ev)
		switch {
		// A salvaged file may lack the event; the entry goes all the same.
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case drop(ev):
			if err := tx.deleteEvent(ev); err != nil {
				return err
			}
		}
		if err := tx.kv.Delete(b, e.Key); err != nil {
			return err
		}
	}
	return nil
}

// deleteEvent removes an event and remembers that events up to it may be missing.
func (tx *Tx) deleteEvent(ev Event) error {
	b, err := tx.EventBounds()
	// In one transaction: a reader finds the event, or learns that it was removed.
	if err == nil && ev.Seq > b.Pruned {
		err = tx.kv.Put(kv.Meta, []byte(kv.KeyPruned), ev.Seq)
	}
	if err != nil {
		return err
	}
	for _, ix := range indexesOf(ev) {
		if err := tx.kv.Delete(ix.bucket, kv.IndexKey(ix.id, ev.Seq)); err != nil {
			return err
		}
	}
	return tx.kv.Delete(kv.Events, kv.BE64(ev.Seq))
}

type index struct {
	bucket kv.Bucket
	id     string
}

func indexesOf(ev Event) []index {
	var indexes []index
	if ev.JobID != "" {
		indexes = append(indexes, index{kv.ByJob, ev.JobID})
	}
	if ev.WorkerID != "" {
		indexes = append(indexes, index{kv.ByWorker, ev.WorkerID})
	}
	return indexes
}

func orDefault(limit int) int {
	if limit <= 0 {
		return defaultEvents
	}
	return limit
}
