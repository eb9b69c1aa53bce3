package hive

import (
	"errors"
	"time"

	"rbeehive/hive/doctor"
	"rbeehive/store"
)

// examine makes the full check of the file, and keeps what it found for Doctor.
// It blocks for as long as the file is large, and writers wait for part of it.
func (h *Hive) examine() {
	begun := time.Now()
	err := h.store.Check(h.ctx)
	if h.ctx.Err() != nil || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		return // it was not finished
	}
	h.examined.Store(&doctor.Examination{At: begun, Err: err})
	if err != nil {
		h.cfg.Log.WithError(err).Error("the state file is damaged: stop hive and look at it before it is relied on")
	}
}
