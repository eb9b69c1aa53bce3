package store

import (
	"errors"
	"fmt"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = kv.ErrNotFound
	// ErrLeaseConflict: the port is leased under another lease id.
	ErrLeaseConflict = errors.New("port is leased under another lease id")
	// ErrInvalid: the record breaks a rule of its type (a lease without a port, say).
	ErrInvalid = kv.ErrInvalid
	// ErrSameFile: a file was to be put in its own place.
	ErrSameFile = errors.New("that is the state file itself")
	// ErrReadOnly: a write inside View.
	ErrReadOnly = kv.ErrReadOnly
	// ErrTxDone: the Tx was used after the function it was made for had returned.
	ErrTxDone = kv.ErrTxDone
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
	// ErrUnused: the file has no records yet. A hive that was ended in its first start has left
	// it, and the next one goes on with it.
	ErrUnused = errors.New("the state file is new, it has no records yet")
	// ErrClaimed: another hive that runs now has the same state id: this
	// directory is a copy of its directory.
	ErrClaimed = disk.ErrClaimed
)

// CorruptError says that the state file is damaged, and where: Path, Bucket (empty: the
// structure of the file, not a record), Key (a port, a number, an id; what has not the form
// of its bucket is in hexadecimal), Reason.
type CorruptError = kv.CorruptError

// LockedError says that another process has the state file open: Path, and PID of the
// holder; 0 if the system does not say.
type LockedError = disk.LockedError

// NotRegularError says that there is something else than a file at the path of the state
// file: Path, and Kind ("a fifo").
type NotRegularError = disk.NotRegularError

// Regular returns a *NotRegularError if there is anything but a regular file, or a link to
// one, at path, and opens nothing. Errors besides: the system's.
func Regular(path string) error { return disk.Regular(path) }

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
