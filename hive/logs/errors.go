package logs

import (
	"errors"
	"syscall"
)

// Errors of this package. They are wrapped with detail; test them with errors.Is.
var (
	// ErrGone: there is no such log any more.
	ErrGone = errors.New("the file is gone")

	// errNoSpace: there is no room for a copy.
	errNoSpace = errors.New("no room on the disk")
	// errOutgrown: the worker writes faster than its log is copied, or made a hole.
	errOutgrown = errors.New("it grew faster than it could be copied")
)

// isNoSpace reports whether a copy failed because there is no room for it.
func isNoSpace(err error) bool {
	return errors.Is(err, errNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
