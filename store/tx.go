package store

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/store/internal/kv"
)

// Tx is a transaction on the records. It exists only inside the function given
// to View, Update or UpdateReserved and is not safe for concurrent use; used
// later, its methods return ErrTxDone. What its methods return are copies.
//
// Errors of all methods: ErrTxDone, *CorruptError when a record is damaged, and
// of those that write ErrReadOnly (inside View) and ErrInvalid.
type Tx struct{ kv *kv.Tx }

// Now is the time of the transaction: one for all that it does, in UTC, cut to
// milliseconds, which is what the API shows. Times in records are kept as given.
func (tx *Tx) Now() time.Time { return tx.kv.Now() }

// viewOf is View of a file.
func viewOf(db *bbolt.DB, path string, fn func(*Tx) error) (err error) {
	err = kv.View(db, path, func(tx *kv.Tx) error { return fn(&Tx{kv: tx}) })
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("view: %w", ErrClosed)
	}
	return err
}

// updateAlone runs fn in a transaction of its own and commits it: past the writer, for a
// file that nobody else uses yet.
func updateAlone(db *bbolt.DB, path string, fn func(*Tx) error) error {
	return kv.Update(db, path, func(tx *kv.Tx) error { return fn(&Tx{kv: tx}) })
}
