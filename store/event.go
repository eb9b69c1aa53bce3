package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// defaultEvents is how many events are returned when no limit is given. Streams
// replay in pages of this size: a transaction that stays open while a slow
// client reads makes the file grow.
const defaultEvents = 256

// indexValue is what an index entry holds: nothing, in an envelope, so that its
// key is covered by a checksum.
type indexValue struct{}

// AppendEvent writes ev with the next number of the hive's one sequence and
// returns it as written. At is set to the transaction's time if it is zero. A
// number is never used again, also not after events were pruned.
// Errors: ErrInvalid if Data is no JSON or an id holds a zero byte.
func (tx *Tx) AppendEvent(ev Event) (Event, error) {
	seq, err := tx.nextSeq()
	if err != nil {
		return Event{}, fmt.Errorf("append an event: %w", err)
	}
	ev.Seq = seq
	if ev.At.IsZero() {
		ev.At = tx.now
	}
	if err := tx.put(bucketEvents, be64(seq), ev); err != nil {
		return Event{}, fmt.Errorf("append an event: %w", err)
	}
	for _, ix := range indexesOf(ev) {
		if strings.IndexByte(ix.id, 0) >= 0 {
			return Event{}, fmt.Errorf("append an event: %w: id %q", ErrInvalid, ix.id)
		}
		if err := tx.put(ix.bucket, indexKey(ix.id, seq), indexValue{}); err != nil {
			return Event{}, fmt.Errorf("append an event: %w", err)
		}
	}
	return ev, nil
}

// nextSeq takes the next number. The sequence is bbolt's and has no checksum,
// so it is held against the newest event: a number used twice would overwrite one.
func (tx *Tx) nextSeq() (uint64, error) {
	bb, err := tx.open(bucketEvents)
	if err != nil {
		return 0, err
	}
	if tx.undo == nil {
		return 0, ErrReadOnly
	}
	tx.undo.rememberSequence(bb, bucketEvents)
	seq, err := bb.NextSequence()
	if err != nil {
		return 0, err
	}
	if last, _ := bb.Cursor().Last(); last != nil && bytes.Compare(last, be64(seq)) >= 0 {
		return 0, tx.corrupt(bucketEvents, last, fmt.Sprintf("the sequence is behind it, at %d", seq))
	}
	return seq, nil
}

// Events returns events with a number above after, ascending, at most limit
// (0: 256).
func (tx *Tx) Events(after uint64, limit int) ([]Event, error) {
	var events []Event
	for ev, err := range decodeAll[Event](tx, bucketEvents, scanOptions{after: be64(after)}) {
		if err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		events = append(events, ev)
		if len(events) >= orDefault(limit) {
			break
		}
	}
	return events, nil
}

// NewestEvent returns the event with the highest number. Errors: ErrNotFound.
func (tx *Tx) NewestEvent() (Event, error) {
	for ev, err := range decodeAll[Event](tx, bucketEvents, scanOptions{reverse: true}) {
		return ev, err
	}
	return Event{}, fmt.Errorf("newest event: %w", ErrNotFound)
}

// JobEvents returns the events of a job with a number above after, ascending,
// at most limit (0: 256). A job without events, or without a record, has none.
func (tx *Tx) JobEvents(id string, after uint64, limit int) ([]Event, error) {
	return tx.indexed(bucketByJob, id, after, limit)
}

// WorkerEvents is JobEvents for a worker.
func (tx *Tx) WorkerEvents(id string, after uint64, limit int) ([]Event, error) {
	return tx.indexed(bucketByWorker, id, after, limit)
}

func (tx *Tx) indexed(b bucket, id string, after uint64, limit int) ([]Event, error) {
	var events []Event
	o := scanOptions{prefix: indexPrefix(id), after: indexKey(id, after)}
	for e, err := range tx.scan(b, o) {
		if err != nil {
			return nil, fmt.Errorf("events of %s: %w", id, err)
		}
		var ev Event
		if err := tx.get(bucketEvents, indexSeq(e.key), &ev); err != nil {
			return nil, fmt.Errorf("event of %s: %w", id, err)
		}
		events = append(events, ev)
		if len(events) >= orDefault(limit) {
			break
		}
	}
	return events, nil
}

// PruneEvents removes at most limit events from before the given time that
// belong to no job and no worker that has a record, oldest first, and
// returns how many. The others go with their job or worker.
func (tx *Tx) PruneEvents(before time.Time, limit int) (int, error) {
	removed := 0
	for ev, err := range decodeAll[Event](tx, bucketEvents, scanOptions{}) {
		if err != nil {
			return removed, fmt.Errorf("prune events: %w", err)
		}
		if removed >= limit || !ev.At.Before(before) {
			break
		}
		owned, err := tx.owned(ev)
		if err == nil && !owned {
			err = tx.deleteEvent(ev)
		}
		if err != nil {
			return removed, fmt.Errorf("prune events: %w", err)
		}
		if !owned {
			removed++
		}
	}
	return removed, nil
}

// owned reports whether the event's job or worker has a record.
func (tx *Tx) owned(ev Event) (bool, error) {
	job, err := tx.has(bucketJobs, []byte(ev.JobID))
	if err != nil || job {
		return job, err
	}
	return tx.has(bucketWorkers, []byte(ev.WorkerID))
}

// dropIndex removes all of id's entries in an index, and the events for which
// drop says so, with their other entries.
func (tx *Tx) dropIndex(b bucket, id string, drop func(Event) bool) error {
	for e, err := range tx.scan(b, scanOptions{prefix: indexPrefix(id)}) {
		if err != nil {
			return err
		}
		var ev Event
		err := tx.get(bucketEvents, indexSeq(e.key), &ev)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case drop(ev):
			if err := tx.deleteEvent(ev); err != nil {
				return err
			}
		}
		if err := tx.del(b, e.key); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) deleteEvent(ev Event) error {
	for _, ix := range indexesOf(ev) {
		if err := tx.del(ix.bucket, indexKey(ix.id, ev.Seq)); err != nil {
			return err
		}
	}
	return tx.del(bucketEvents, be64(ev.Seq))
}

type index struct {
	bucket bucket
	id     string
}

func indexesOf(ev Event) []index {
	var indexes []index
	if ev.JobID != "" {
		indexes = append(indexes, index{bucketByJob, ev.JobID})
	}
	if ev.WorkerID != "" {
		indexes = append(indexes, index{bucketByWorker, ev.WorkerID})
	}
	return indexes
}

// indexPrefix ends with a zero byte: without it the entries of worker "a-1"
// would be found among those of "a".
func indexPrefix(id string) []byte { return append([]byte(id), 0) }

func indexKey(id string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(indexPrefix(id), seq)
}

func indexSeq(key []byte) []byte { return key[max(0, len(key)-8):] }

func orDefault(limit int) int {
	if limit <= 0 {
		return defaultEvents
	}
	return limit
}
