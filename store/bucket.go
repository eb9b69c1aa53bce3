package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"
)

// bucket is the name of a top-level bucket. There are no nested ones: the undo
// log knows keys, not buckets.
type bucket string

const (
	bucketMeta     bucket = "meta"
	bucketLeases   bucket = "leases"
	bucketPIDs     bucket = "pids"
	bucketEnded    bucket = "ended"
	bucketWorkers  bucket = "workers"
	bucketNames    bucket = "names"
	bucketJobs     bucket = "jobs"
	bucketEvents   bucket = "events"
	bucketByJob    bucket = "byjob"
	bucketByWorker bucket = "byworker"
	bucketKeys     bucket = "keys"
)

func buckets() []bucket {
	return []bucket{
		bucketMeta, bucketLeases, bucketPIDs, bucketEnded, bucketWorkers, bucketNames,
		bucketJobs, bucketEvents, bucketByJob, bucketByWorker, bucketKeys,
	}
}

// entry is one verified key and payload. Both are valid only inside the
// transaction and are never handed out of this package.
type entry struct {
	key     []byte
	payload []byte
}

// open returns the bucket, or the error that says why it cannot be used.
func (tx *Tx) open(b bucket) (*bbolt.Bucket, error) {
	if tx.btx == nil {
		return nil, ErrTxDone
	}
	bb := tx.btx.Bucket([]byte(b))
	if bb == nil {
		return nil, tx.corrupt(b, nil, "the bucket is missing")
	}
	return bb, nil
}

func (tx *Tx) corrupt(b bucket, key []byte, reason string) error {
	return &CorruptError{Path: tx.path, Bucket: string(b), Key: keyName(b, key), Reason: reason}
}

// get decodes the record into v, which shares no memory with the file.
func (tx *Tx) get(b bucket, key []byte, v any) error {
	bb, err := tx.open(b)
	if err != nil {
		return err
	}
	value := bb.Get(key)
	if value == nil {
		return ErrNotFound
	}
	payload, err := unseal(b, key, value)
	if err != nil {
		return tx.corrupt(b, key, err.Error())
	}
	// Decoded here: the bytes are the mapping's, and end with the transaction.
	return tx.decode(b, key, payload, v)
}

func (tx *Tx) decode(b bucket, key, payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return tx.corrupt(b, key, err.Error())
	}
	return nil
}

// put writes v under key, and the undo log keeps what was there.
func (tx *Tx) put(b bucket, key []byte, v any) error {
	bb, err := tx.open(b)
	if err != nil {
		return err
	}
	if tx.undo == nil {
		return ErrReadOnly
	}
	value, err := seal(b, key, v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	tx.undo.remember(bb, b, key)
	tx.undo.bytes += len(key) + len(value)
	if err := bb.Put(key, value); err != nil {
		return invalid(err)
	}
	return nil
}

// invalid makes bbolt's complaint about a key or value (empty, too large) ours.
func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

// del removes key; it need not exist.
func (tx *Tx) del(b bucket, key []byte) error {
	bb, err := tx.open(b)
	if err != nil {
		return err
	}
	if tx.undo == nil {
		return ErrReadOnly
	}
	tx.undo.remember(bb, b, key)
	return bb.Delete(key)
}

// has reports whether key exists, without reading its value.
func (tx *Tx) has(b bucket, key []byte) (bool, error) {
	bb, err := tx.open(b)
	if err != nil {
		return false, err
	}
	return bb.Get(key) != nil, nil
}

// scanOptions bounds a scan. The zero value is the whole bucket, ascending.
type scanOptions struct {
	prefix  []byte // only keys that begin with it; not together with reverse
	after   []byte // start behind this key (before it, if newest first)
	reverse bool
}

// scan yields the records of a bucket in key order. The first bad one is
// yielded as an error and ends the scan.
//
// The loop's body may write to the bucket: a bbolt cursor skips records when
// something is deleted under it, so the scan finds its place again by key.
func (tx *Tx) scan(b bucket, o scanOptions) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		bb, err := tx.open(b)
		if err != nil {
			yield(entry{}, err)
			return
		}
		c := bb.Cursor()
		k, v := o.first(c)
		for k != nil && bytes.HasPrefix(k, o.prefix) {
			payload, err := unseal(b, k, v)
			if err != nil {
				yield(entry{}, tx.corrupt(b, k, err.Error()))
				return
			}
			writes := tx.writes()
			if !yield(entry{key: k, payload: payload}, nil) {
				return
			}
			if tx.btx == nil {
				yield(entry{}, ErrTxDone)
				return
			}
			if tx.writes() == writes {
				k, v = o.next(c)
				continue
			}
			c = bb.Cursor()
			k, v = o.behind(c, k)
		}
	}
}

func (o scanOptions) first(c *bbolt.Cursor) (k, v []byte) {
	switch {
	case o.after != nil:
		return o.behind(c, o.after)
	case o.reverse:
		return c.Last()
	}
	return c.Seek(o.prefix)
}

func (o scanOptions) next(c *bbolt.Cursor) (k, v []byte) {
	if o.reverse {
		return c.Prev()
	}
	return c.Next()
}

// behind places c on the neighbour of key, which itself may be gone.
func (o scanOptions) behind(c *bbolt.Cursor, key []byte) (k, v []byte) {
	k, v = c.Seek(key)
	if !o.reverse {
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

// decodeAll turns a scan into typed records.
func decodeAll[T any](tx *Tx, b bucket, o scanOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for e, err := range tx.scan(b, o) {
			var record T
			if err == nil {
				err = tx.decode(b, e.key, e.payload, &record)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// ignoreMissing is for records that need not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
