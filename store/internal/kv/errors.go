package kv

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Sentinel errors; package store documents and exports them.
var (
	ErrNotFound = errors.New("no such record")
	ErrInvalid  = errors.New("invalid record")
	ErrReadOnly = errors.New("transaction is read-only")
	ErrTxDone   = errors.New("transaction has ended")
)

// CorruptError says that the state file is damaged, and where.
type CorruptError struct {
	Path   string
	Bucket string // empty: the structure of the file, not a record
	Key    string // a port, a number, an id; what has not the form of its bucket is in hexadecimal
	Reason string
}

func (e *CorruptError) Error() string {
	where := ""
	if e.Bucket != "" {
		where = ", bucket " + e.Bucket
	}
	if e.Key != "" {
		where += ", key " + e.Key
	}
	return fmt.Sprintf("state file %s is damaged%s: %s", e.Path, where, e.Reason)
}

// IgnoreMissing is for records that need not exist.
func IgnoreMissing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Protect turns a panic inside bbolt into a *CorruptError: bbolt asserts what it reads
// from the file, and a page that cannot be read is a fault.
func Protect(path string, fn func() error) (err error) {
	// It counts for this goroutine only, in which bbolt runs.
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if value := recover(); value != nil {
			err = &CorruptError{Path: path, Reason: fmt.Sprint(value)}
		}
	}()
	return fn()
}

// IsFault reports whether a recovered value is a memory fault, which here means
// that a page of the mapped file could not be read. See debug.SetPanicOnFault.
func IsFault(value any) bool {
	fault, ok := value.(interface{ Addr() uintptr })
	return ok && fault != nil
}
