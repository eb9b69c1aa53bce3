package kv

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// undoLog remembers the first old value of every key that one closure writes, so that this
// closure can be undone while the others of its transaction stay. bbolt can only roll back
// a whole transaction.
type undoLog struct {
	old   []oldValue
	seen  map[string]struct{}
	seqs  []oldSequence
	bytes int // of keys and values written, for the estimate of pages
	count int // writes, so that a scan notices that it must seek again
}

type oldValue struct {
	bucket Bucket
	key    []byte
	value  []byte // nil: the key did not exist
}

type oldSequence struct {
	bucket Bucket
	seq    uint64
}

// remember must be called before each write of key.
func (u *undoLog) remember(bb *bbolt.Bucket, b Bucket, key []byte) {
	u.count++
	id := string(b) + "\x00" + string(key)
	// Only the first old value is from before the closure.
	if _, ok := u.seen[id]; ok {
		return
	}
	if u.seen == nil {
		u.seen = make(map[string]struct{}, 8)
	}
	u.seen[id] = struct{}{}
	// Copies: bbolt's own bytes change with the next write.
	u.old = append(u.old, oldValue{bucket: b, key: bytes.Clone(key), value: bytes.Clone(bb.Get(key))})
}

// rememberSequence must be called before each change of the bucket's sequence.
func (u *undoLog) rememberSequence(bb *bbolt.Bucket, b Bucket) {
	u.count++
	for _, s := range u.seqs {
		if s.bucket == b {
			return
		}
	}
	u.seqs = append(u.seqs, oldSequence{bucket: b, seq: bb.Sequence()})
}

// undo restores everything. An error means that the transaction as a whole is in an unknown
// state and must not be committed.
func (u *undoLog) undo(btx *bbolt.Tx) error {
	// In any order: each key is in the log once.
	for _, o := range u.old {
		bb := btx.Bucket([]byte(o.bucket))
		var err error
		if o.value == nil {
			err = bb.Delete(o.key)
		} else {
			err = bb.Put(o.key, o.value)
		}
		if err != nil {
			return fmt.Errorf("undo %s/%s: %w", o.bucket, KeyText(o.key), err)
		}
	}
	for _, s := range u.seqs {
		if err := btx.Bucket([]byte(s.bucket)).SetSequence(s.seq); err != nil {
			return fmt.Errorf("undo the sequence of %s: %w", s.bucket, err)
		}
	}
	return nil
}
