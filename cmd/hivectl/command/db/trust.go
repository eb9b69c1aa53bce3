package db

import (
	"errors"

	"rbeehive/hive/trust"
)

// A state file says which processes are hive's and what is restarted, and these commands
// write to its directory. In a directory that another user can change, root would write to
// wherever that user's links lead, and trust what that user has put there.

// checkDir refuses a state directory, or a state file in it, that is not trusted.
func checkDir(dir string) error {
	const hint = "run it as the user that hive runs as (sudo -u USER); or "
	return trustRefusal(hint, trust.Dir(dir), trust.File(State(dir)))
}

// checkDest refuses a destination that another user could replace or owns.
func checkDest(dest string) error {
	return trustRefusal("", trust.Parent(dest), trust.File(dest))
}

// checkSource refuses a backup that another user could have changed.
func checkSource(file string) error { return trustRefusal("", trust.File(file)) }

// trustRefusal is the *Refusal for the first of the errors that is a *trust.Error; nil if
// none is: the caller reports other errors, such as a missing file, better.
func trustRefusal(hint string, errs ...error) error {
	for _, err := range errs {
		if e, ok := errors.AsType[*trust.Error](err); ok {
			return &Refusal{Text: e.Path + " " + e.Reason, Hint: hint + e.Remedy}
		}
	}
	return nil
}
