package db

import (
	"errors"

	"rbeehive/hive/trust"
)

// A state file says which processes are hive's and what is started again, and these
// commands write to where it is. In a directory that another user can change, root
// would write to wherever that user's links lead, and believe what that user has put
// there.

// checkDir refuses a state directory, or a state file in it, that is not believed.
func checkDir(dir string) error {
	const hint = "do it as the user that hive runs as (sudo -u USER); or "
	return refuse(hint, trust.Dir(dir), trust.File(State(dir)))
}

// checkDest refuses a file to be written that another user could exchange, or that is
// another user's.
func checkDest(dest string) error {
	return refuse("", trust.Parent(dest), trust.File(dest))
}

// checkSource refuses a backup that another user could have changed.
func checkSource(file string) error { return refuse("", trust.File(file)) }

// refuse is the *Refusal for the first of the errors that is a *trust.Error; nil if none
// is: what comes next says better what else is wrong, such as that nothing is there.
func refuse(hint string, errs ...error) error {
	for _, err := range errs {
		if e, ok := errors.AsType[*trust.Error](err); ok {
			return &Refusal{Text: e.Path + " " + e.Reason, Hint: hint + e.Mend}
		}
	}
	return nil
}
