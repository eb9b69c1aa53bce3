package harness

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTimeout says that a condition was not met in time.
var ErrTimeout = errors.New("condition not met")

// pollInterval is the pause between two checks of a condition.
const pollInterval = 20 * time.Millisecond

// Eventually waits until check has nothing to object to. It ends early with an error
// of check's own or with ctx, and at the timeout with ErrTimeout and the last
// objection. With a timeout of 0 it checks once.
func Eventually(ctx context.Context, timeout time.Duration, check func() (objection string, err error)) error {
	for deadline := time.Now().Add(timeout); ; {
		objection, err := check()
		switch {
		case err != nil || objection == "":
			return err
		case !time.Now().Before(deadline):
			return fmt.Errorf("%w within %s: %s", ErrTimeout, timeout, objection)
		case !Sleep(ctx, pollInterval):
			return ctx.Err()
		}
	}
}

// Sleep reports whether d has passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
