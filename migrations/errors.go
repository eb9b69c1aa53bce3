package migrations

import (
	"errors"
	"fmt"
)

var (
	// ErrNewer: the file was written by a newer hive. The concrete error is a *NewerError.
	ErrNewer = errors.New("state file has a newer schema")
	// ErrForeign: the file is a bbolt file, but no hive made it.
	ErrForeign = errors.New("not a hive state file")
	// ErrDamaged: the record that holds the schema number cannot be read.
	ErrDamaged = errors.New("schema record is damaged")
	// ErrSteps: the slice of steps has a gap or is out of order, or a backup is needed and
	// there is no function to make it. A bug in the program.
	ErrSteps = errors.New("invalid migration steps")
)

// NewerError says which schema a file has and which one this build can use.
// errors.Is(err, ErrNewer) holds.
type NewerError struct {
	File      int // schema of the file
	Supported int // newest schema of this build
	// DowngradeHint says how to go back to the state before the upgrade, as a sentence
	// without its end; empty: not known.
	DowngradeHint string
}

func (e *NewerError) Error() string {
	hint := e.DowngradeHint
	if hint == "" {
		hint = "or restore the backup that was made before the upgrade"
	}
	return fmt.Sprintf("state file has schema %d, this build supports up to schema %d: "+
		"it was written by a newer hive; start that or a later version on it, %s", e.File, e.Supported, hint)
}

// Unwrap makes errors.Is(err, ErrNewer) true.
func (e *NewerError) Unwrap() error { return ErrNewer }
