package migrations

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// Step leads from schema To-1 to schema To.
type Step struct {
	To   int    // the schema the step ends at
	Name string // what it does, for error messages
	// Run makes the change. It runs inside the transaction that also writes the
	// new number; it must not commit or roll back, and must not keep tx.
	Run func(tx *bbolt.Tx) error
}

// Steps returns all steps of this build, oldest first. The slice is the caller's.
func Steps() []Step {
	return []Step{
		{To: 1, Name: "create the buckets", Run: createSchema1},
	}
}

// Current returns the newest schema of this build.
func Current() int {
	steps := Steps()
	return steps[len(steps)-1].To
}

// Apply brings db to the schema of the last step. If the file has data (its
// schema is above 0) and there is something to do, backup is called first, with
// a read-only transaction on the file as it is and its schema; nothing is
// changed unless it returns nil. Each step is one transaction.
//
// Apply blocks for as long as the steps write. It must be the only user of db.
// Errors: ErrNewer (a *NewerError), ErrForeign, ErrDamaged, ErrSteps, what a
// step or backup returned, and bbolt's own when a commit fails; after the last
// the file is at the schema before or after that step, and Apply can be called
// again on a newly opened file.
func Apply(db *bbolt.DB, steps []Step, backup func(tx *bbolt.Tx, from int) error) error {
	if err := checkSteps(steps); err != nil {
		return err
	}
	from := 0
	err := db.View(func(tx *bbolt.Tx) (err error) {
		from, err = Version(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	last := steps[len(steps)-1].To
	// Not written to: it may hold what this build would break.
	if from > last {
		return &NewerError{File: from, Supported: last}
	}
	if from == last {
		return nil
	}
	// Before the first step, since there is no way down.
	if err := backupFirst(db, from, backup); err != nil {
		return err
	}
	for _, step := range steps[from:] {
		if err := apply(db, step); err != nil {
			return fmt.Errorf("migrate to schema %d (%s): %w", step.To, step.Name, err)
		}
	}
	return nil
}

// checkSteps demands 1, 2, 3...: with a gap, steps[from:] would skip or repeat a step.
func checkSteps(steps []Step) error {
	if len(steps) == 0 {
		return fmt.Errorf("no steps: %w", ErrSteps)
	}
	for i, step := range steps {
		if step.To != i+1 || step.Run == nil {
			return fmt.Errorf("step %d (%s) at place %d: %w", step.To, step.Name, i+1, ErrSteps)
		}
	}
	return nil
}

func backupFirst(db *bbolt.DB, from int, backup func(*bbolt.Tx, int) error) error {
	// A new file has nothing to keep.
	if from == 0 {
		return nil
	}
	if backup == nil {
		return fmt.Errorf("no backup function: %w", ErrSteps)
	}
	err := db.View(func(tx *bbolt.Tx) error { return backup(tx, from) })
	if err != nil {
		return fmt.Errorf("backup before the migration from schema %d: %w", from, err)
	}
	return nil
}

func apply(db *bbolt.DB, step Step) error {
	return db.Update(func(tx *bbolt.Tx) error {
		if err := step.Run(tx); err != nil {
			return err
		}
		// In the step's own transaction: a crash leaves the file before the step or after it.
		return putVersion(tx, step.To)
	})
}
