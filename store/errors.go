package store

import (
	"errors"
	"fmt"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("no such record")
	// ErrLeaseConflict: the port is leased under another lease id.
	ErrLeaseConflict = errors.New("port is leased under another lease id")
	// ErrInvalid: the record breaks a rule of its type (a lease without a port, say).
	ErrInvalid = errors.New("invalid record")
	// ErrSameFile: a file was to be put in its own place.
	ErrSameFile = errors.New("that is the state file itself")
	// ErrReadOnly: a write inside View.
	ErrReadOnly = errors.New("transaction is read-only")
	// ErrTxDone: the Tx was used after the function it was made for had returned.
	ErrTxDone = errors.New("transaction has ended")
	// ErrDiskFull: there is not enough allocated space left for ordinary work.
	// Nothing was written. It goes away by itself when the disk has space again.
	ErrDiskFull = errors.New("disk full")
	// ErrClosed: the store is closed, or closing.
	ErrClosed = errors.New("store is closed")
	// ErrFailed: a commit failed. It may be on the disk all the same, so nothing
	// can be said about the file until it is opened again. It wraps the cause.
	ErrFailed = errors.New("store has failed")
	// ErrInconsistent: two records contradict each other (Check).
	ErrInconsistent = errors.New("records contradict each other")
	// ErrClaimed: another hive that runs now has the same state id: this
	// directory is a copy of its directory.
	ErrClaimed = errors.New("state is in use by a running hive")
)

// InconsistentError says which record contradicts another. errors.Is(err,
// ErrInconsistent) holds.
type InconsistentError struct {
	Bucket string
	Key    string // as in CorruptError
	Reason string
}

func (e *InconsistentError) Error() string { return ErrInconsistent.Error() + ": " + e.Reason }

// Unwrap makes errors.Is(err, ErrInconsistent) true.
func (e *InconsistentError) Unwrap() error { return ErrInconsistent }

// LockedError says that another process has the state file open.
type LockedError struct {
	Path string
	PID  int // the holder; 0 if the system does not say
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state file %s is held by a process that cannot be seen from here: is a hive already running on this directory, in another container perhaps?", e.Path)
	}
	return fmt.Sprintf("state file %s is held by process %d: is a hive already running on this directory?", e.Path, e.PID)
}

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

// OtherMachineError says that the state file was last used on another machine.
type OtherMachineError struct {
	Path     string
	Recorded string // machine id in the file
	This     string // machine id of this machine
}

func (e *OtherMachineError) Error() string {
	return fmt.Sprintf("state file %s belongs to machine %s, this is machine %s: "+
		"its workers cannot be verified from here; start with --take-over if that machine no longer uses it",
		e.Path, e.Recorded, e.This)
}
