package store

import (
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Tx is a transaction on the records. It exists only inside the function given
// to View, Update or UpdateReserved and is not safe for concurrent use; used
// later, its methods return ErrTxDone. What its methods return are copies.
//
// Errors of all methods: ErrTxDone, *CorruptError when a record is damaged, and
// of those that write ErrReadOnly (inside View) and ErrInvalid.
type Tx struct {
	btx  *bbolt.Tx
	undo *undoLog // nil in View
	now  time.Time
	path string
}

// Now is the time of the transaction: one for all that it does, in UTC, cut to
// milliseconds, which is what the API shows. Times in records are kept as given.
func (tx *Tx) Now() time.Time { return tx.now }

// Cursor returns where the sequential policy continues; 0 if it was never set.
func (tx *Tx) Cursor() (uint16, error) {
	var port uint16
	if err := ignoreMissing(tx.get(bucketMeta, []byte(metaCursor), &port)); err != nil {
		return 0, fmt.Errorf("cursor: %w", err)
	}
	return port, nil
}

// SetCursor records where the sequential policy continues.
func (tx *Tx) SetCursor(port uint16) error {
	if err := tx.put(bucketMeta, []byte(metaCursor), port); err != nil {
		return fmt.Errorf("set the cursor: %w", err)
	}
	return nil
}

// Queen returns the URL of the queen that introduced itself last; empty if none did.
func (tx *Tx) Queen() (string, error) {
	var url string
	if err := ignoreMissing(tx.get(bucketMeta, []byte(metaQueen), &url)); err != nil {
		return "", fmt.Errorf("queen: %w", err)
	}
	return url, nil
}

// SetQueen records the URL of the queen that introduced itself last.
func (tx *Tx) SetQueen(url string) error {
	if err := tx.put(bucketMeta, []byte(metaQueen), url); err != nil {
		return fmt.Errorf("set the queen: %w", err)
	}
	return nil
}

func (tx *Tx) writes() int {
	if tx.undo == nil {
		return 0
	}
	return tx.undo.count
}

// end makes every later use of tx fail.
func (tx *Tx) end() { tx.btx = nil }

func transactionTime() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
