package kv

import (
	"bytes"
	"iter"

	"go.etcd.io/bbolt"
)

// Entry is one verified key and payload. Both are valid only inside the
// transaction and must not be handed out of package store.
type Entry struct {
	Key     []byte
	Payload []byte
}

// Range bounds a scan. The zero value is the whole bucket, ascending.
type Range struct {
	Prefix  []byte // only keys that begin with it; not together with Reverse
	After   []byte // start behind this key (before it, if newest first)
	Reverse bool
}

// Scan yields the records of a bucket in key order. The first bad one is
// yielded as an error and ends the scan.
//
// The loop's body may write to the bucket: a bbolt cursor skips records when
// something is deleted under it, so the scan finds its place again by key.
func (tx *Tx) Scan(b Bucket, r Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		bb, err := tx.Bucket(b)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		c := bb.Cursor()
		k, v := r.first(c)
		for k != nil && bytes.HasPrefix(k, r.Prefix) {
			payload, err := Unseal(b, k, v)
			if err != nil {
				yield(Entry{}, tx.Corrupt(b, k, err.Error()))
				return
			}
			writes := tx.writes()
			if !yield(Entry{Key: k, Payload: payload}, nil) {
				return
			}
			if tx.btx == nil {
				yield(Entry{}, ErrTxDone)
				return
			}
			if tx.writes() == writes {
				k, v = r.next(c, k)
				continue
			}
			c = bb.Cursor()
			k, v = r.behind(c, k)
		}
	}
}

// All is Scan with each record decoded.
func All[T any](tx *Tx, b Bucket, r Range) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for e, err := range tx.Scan(b, r) {
			var record T
			if err == nil {
				err = tx.Decode(b, e.Key, e.Payload, &record)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// writes counts, so that a scan notices that it must seek again.
func (tx *Tx) writes() int {
	if tx.undo == nil {
		return 0
	}
	return tx.undo.count
}

func (r Range) first(c *bbolt.Cursor) (k, v []byte) {
	switch {
	case r.After != nil:
		return r.behind(c, r.After)
	case r.Reverse:
		return last(c)
	}
	return c.Seek(r.Prefix)
}

func (r Range) next(c *bbolt.Cursor, key []byte) (k, v []byte) {
	if r.Reverse {
		return before(c, key)
	}
	return c.Next()
}

// behind places c on the neighbour of key, which itself may be gone.
func (r Range) behind(c *bbolt.Cursor, key []byte) (k, v []byte) {
	k, v = c.Seek(key)
	switch {
	case r.Reverse && k == nil:
		return last(c) // nothing is at key or behind it
	case r.Reverse:
		return before(c, key)
	case k != nil && bytes.Equal(k, key):
		return c.Next()
	}
	return k, v
}

// LastKey is the highest key of a bucket; nil if it is empty.
func (tx *Tx) LastKey(b Bucket) ([]byte, error) {
	bb, err := tx.Bucket(b)
	if err != nil {
		return nil, err
	}
	k, _ := last(bb.Cursor())
	return k, nil
}

// KeyBefore is the highest key of a bucket that is lower than key, which need not be there;
// nil if there is none.
func (tx *Tx) KeyBefore(b Bucket, key []byte) ([]byte, error) {
	bb, err := tx.Bucket(b)
	if err != nil {
		return nil, err
	}
	k, _ := Range{Reverse: true}.behind(bb.Cursor(), key)
	return k, nil
}

// Deletes leave empty pages until the commit, and bbolt 1.5 steps over them forwards only:
// Last does not return if all pages are empty, and Prev ends on the first empty one. The
// first key, which is found forwards, tells whether there is anything to go back to.

func last(c *bbolt.Cursor) (k, v []byte) {
	if k, _ := c.First(); k == nil {
		return nil, nil
	}
	return c.Last()
}

// before moves c, which is on a key that is not lower than key, to the next lower one.
func before(c *bbolt.Cursor, key []byte) (k, v []byte) {
	if k, v = c.Prev(); k != nil {
		return k, v
	}
	first, _ := c.Bucket().Cursor().First()
	// There is one, so the steps over empty pages come to an end.
	for k == nil && first != nil && bytes.Compare(first, key) < 0 {
		k, v = c.Prev()
	}
	return k, v
}
