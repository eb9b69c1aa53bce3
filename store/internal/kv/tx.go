package kv

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Tx is a transaction on sealed records. It is not safe for concurrent use; after End its
// methods return ErrTxDone. Several can write in one bbolt transaction, one after the
// other, and each can be undone alone.
type Tx struct {
	btx  *bbolt.Tx
	undo *undoLog // nil: it only reads
	now  time.Time
	path string
}

// Reading returns a transaction that only reads. path is for errors.
func Reading(btx *bbolt.Tx, path string) *Tx { return &Tx{btx: btx, now: Now(), path: path} }

// Writing returns a transaction that can write, at the given time.
func Writing(btx *bbolt.Tx, path string, now time.Time) *Tx {
	return &Tx{btx: btx, undo: &undoLog{}, now: now, path: path}
}

// Update runs fn in a bbolt transaction of its own and commits it: past the store's writer,
// for a file that nobody else uses yet.
func Update(db *bbolt.DB, path string, fn func(*Tx) error) error {
	return db.Update(func(btx *bbolt.Tx) error {
		tx := Writing(btx, path, Now())
		defer tx.End()
		return fn(tx)
	})
}

// Now is the time of a transaction that begins now: in UTC, cut to milliseconds, which is
// what the API shows.
func Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Now is the time of the transaction.
func (tx *Tx) Now() time.Time { return tx.now }

// Bolt is the transaction of bbolt; nil after End.
func (tx *Tx) Bolt() *bbolt.Tx { return tx.btx }

// Writable reports whether it can write.
func (tx *Tx) Writable() bool { return tx.undo != nil }

// End makes every later use of tx fail.
func (tx *Tx) End() { tx.btx = nil }

// Bucket returns the bucket of bbolt, or the error that says why it cannot be used.
func (tx *Tx) Bucket(b Bucket) (*bbolt.Bucket, error) {
	if tx.btx == nil {
		return nil, ErrTxDone
	}
	bb := tx.btx.Bucket([]byte(b))
	if bb == nil {
		return nil, tx.Corrupt(b, nil, "the bucket is missing")
	}
	return bb, nil
}

// Corrupt is the error that says that a record of this file is damaged.
func (tx *Tx) Corrupt(b Bucket, key []byte, reason string) error {
	return &CorruptError{Path: tx.path, Bucket: string(b), Key: KeyName(b, key), Reason: reason}
}

// Get decodes the record into v, which shares no memory with the file. Errors: ErrNotFound.
func (tx *Tx) Get(b Bucket, key []byte, v any) error {
	bb, err := tx.Bucket(b)
	if err != nil {
		return err
	}
	value := bb.Get(key)
	if value == nil {
		return ErrNotFound
	}
	payload, err := Unseal(b, key, value)
	if err != nil {
		return tx.Corrupt(b, key, err.Error())
	}
	// Decoded here: the bytes are the mapping's, and end with the transaction.
	return tx.Decode(b, key, payload, v)
}

// Decode decodes a payload that Scan has yielded.
func (tx *Tx) Decode(b Bucket, key, payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return tx.Corrupt(b, key, err.Error())
	}
	return nil
}

// Put writes v under key, and the undo log keeps what was there. Errors: ErrReadOnly,
// ErrInvalid for what is no JSON or no key for bbolt.
func (tx *Tx) Put(b Bucket, key []byte, v any) error {
	bb, err := tx.Bucket(b)
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
		// bbolt's complaint about a key or value: empty, or too large.
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// Delete removes key; it need not exist. Errors: ErrReadOnly.
func (tx *Tx) Delete(b Bucket, key []byte) error {
	bb, err := tx.Bucket(b)
	if err != nil {
		return err
	}
	if tx.undo == nil {
		return ErrReadOnly
	}
	tx.undo.remember(bb, b, key)
	return bb.Delete(key)
}

// Has reports whether key exists, without reading its value.
func (tx *Tx) Has(b Bucket, key []byte) (bool, error) {
	bb, err := tx.Bucket(b)
	if err != nil {
		return false, err
	}
	return bb.Get(key) != nil, nil
}

// Count counts the records of a bucket, without reading them.
func (tx *Tx) Count(b Bucket) (n int, err error) {
	bb, err := tx.Bucket(b)
	if err != nil {
		return 0, err
	}
	c := bb.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	return n, nil
}

// NextSequence takes the next number of a bucket; undone, it was never taken. Errors:
// ErrReadOnly.
func (tx *Tx) NextSequence(b Bucket) (uint64, error) {
	bb, err := tx.Bucket(b)
	if err != nil {
		return 0, err
	}
	if tx.undo == nil {
		return 0, ErrReadOnly
	}
	tx.undo.rememberSequence(bb, b)
	return bb.NextSequence()
}

// SetSequence sets the sequence of a bucket, for Undo like a write. Errors: ErrReadOnly.
func (tx *Tx) SetSequence(b Bucket, seq uint64) error {
	bb, err := tx.Bucket(b)
	if err != nil {
		return err
	}
	if tx.undo == nil {
		return ErrReadOnly
	}
	tx.undo.rememberSequence(bb, b)
	return bb.SetSequence(seq)
}

// Undo restores what the transaction has written, also after End. An error means that the
// bbolt transaction as a whole is in an unknown state and must not be committed.
func (tx *Tx) Undo(btx *bbolt.Tx) error { return tx.undo.undo(btx) }

// Written is how many keys and sequences the transaction has changed, and how many bytes
// of keys and values it has written.
func (tx *Tx) Written() (keys, bytes int64) {
	return int64(len(tx.undo.old) + len(tx.undo.seqs)), int64(tx.undo.bytes)
}
