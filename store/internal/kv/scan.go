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
				k, v = r.next(c)
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
		return c.Last()
	}
	return c.Seek(r.Prefix)
}

func (r Range) next(c *bbolt.Cursor) (k, v []byte) {
	if r.Reverse {
		return c.Prev()
	}
	return c.Next()
}

// behind places c on the neighbour of key, which itself may be gone.
func (r Range) behind(c *bbolt.Cursor, key []byte) (k, v []byte) {
	k, v = c.Seek(key)
	if !r.Reverse {
		if k != nil && bytes.Equal(k, key) {
			return c.Next()
		}
		return k, v
	}
	// Nothing is behind key, so the last one is before it.
	if k == nil {
		k, v = c.Last()
		if k != nil && bytes.Compare(k, key) >= 0 {
			return c.Prev()
		}
		return k, v
	}
	return c.Prev()
}
