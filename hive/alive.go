package hive

import (
	"context"
	"errors"

	"rbeehive/store"
)

// Alive returns nil if the hive can do its work: its tables can be locked, and the
// writer of the state file takes a request and answers it. Nothing is written, and
// no disk is waited for but by what is written already. It blocks for as long as
// the hive is stuck, also beyond the end of ctx; who wants to know when that is too
// long must wait for it in another goroutine. Safe for concurrent use until Close.
func (h *Hive) Alive(ctx context.Context) error {
	h.supervisor.Alive()
	h.jobs.Alive()
	if h.run.Closing() {
		return nil // what it ends with is waited for elsewhere
	}
	// Through the writer: a commit that hangs shows nowhere else.
	err := h.store.Update(ctx, func(*store.Tx) error { return nil })
	if errors.Is(err, store.ErrDiskFull) {
		return nil // it has answered
	}
	return err
}
