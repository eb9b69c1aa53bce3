package kv

import (
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// View runs fn in a transaction that reads. A page that cannot be read is a *CorruptError;
// a panic of fn itself is the caller's, and so is its error.
func View(db *bbolt.DB, path string, fn func(*Tx) error) (err error) {
	// A page that cannot be read is then a panic here, not the end of the process.
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	tx := Reading(nil, path)
	defer func() {
		tx.End()
		value := recover()
		switch {
		case value == nil:
		case IsFault(value):
			err = &CorruptError{Path: path, Reason: fmt.Sprint(value)}
		default:
			panic(value)
		}
	}()
	return db.View(func(btx *bbolt.Tx) error {
		tx.btx = btx
		return fn(tx)
	})
}
