package launch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/store/nospace"
)

// openTimeout is how long it may take to enter a working directory and to execute a
// program: on a file system that hangs, or that the user of the worker has made hang.
const openTimeout = 30 * time.Second

// Open lets a program run. Not with a job's context: between the byte and the execve
// nobody could say whether the program runs. When openTimeout is over it is ended,
// whatever it is.
func Open(gated *proc.Gated) (*proc.Process, error) {
	p, err := openWithin(gated, openTimeout)
	if errors.Is(err, context.DeadlineExceeded) { // hive itself may have been frozen meanwhile
		p, err = openWithin(gated, time.Second)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		gated.Abort()
		return nil, fmt.Errorf("not executed within %s", openTimeout)
	}
	return p, err
}

// StartFailed is the failed job for a program, or the command key, that could not be started.
func StartFailed(what string, rec store.Worker, err error) *errdefs.Failure {
	// Only of the log: a kernel that can make no more cgroups says the same.
	if errors.Is(err, proc.ErrLog) && nospace.Is(err) {
		return errdefs.Fail(errdefs.CodeDiskFull, "%s: no log can be made for worker %s: %s", what, rec.WorkerID, nospace.Why(filepath.Dir(rec.Log), err))
	}
	return errdefs.Fail(errdefs.CodeExecFailed, "%s: %v", what, err)
}

func openWithin(gated *proc.Gated, d time.Duration) (*proc.Process, error) {
	// Not with hive's context: a hive that took its own closing for a failed execve would record the
	// end of a program that runs, and leave it behind.
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return gated.Open(ctx)
}
