package store

import (
	"fmt"
	"time"

	"rbeehive/store/internal/kv"
)

// Cursor returns where the sequential policy continues; 0 if it was never set.
func (tx *Tx) Cursor() (uint16, error) {
	var port uint16
	if err := kv.IgnoreMissing(tx.kv.Get(kv.Meta, []byte(kv.KeyCursor), &port)); err != nil {
		return 0, fmt.Errorf("cursor: %w", err)
	}
	return port, nil
}

// SetCursor records where the sequential policy continues.
func (tx *Tx) SetCursor(port uint16) error {
	if err := tx.kv.Put(kv.Meta, []byte(kv.KeyCursor), port); err != nil {
		return fmt.Errorf("set the cursor: %w", err)
	}
	return nil
}

// Queen returns the URL of the queen that introduced itself last; empty if none did.
func (tx *Tx) Queen() (string, error) {
	var url string
	if err := kv.IgnoreMissing(tx.kv.Get(kv.Meta, []byte(kv.KeyQueen), &url)); err != nil {
		return "", fmt.Errorf("queen: %w", err)
	}
	return url, nil
}

// SetQueen records the URL of the queen that introduced itself last.
func (tx *Tx) SetQueen(url string) error {
	if err := tx.kv.Put(kv.Meta, []byte(kv.KeyQueen), url); err != nil {
		return fmt.Errorf("set the queen: %w", err)
	}
	return nil
}

// Run is one run of a hive on this file, from its recovery on.
type Run struct {
	PID       int       `json:"pid"` // in its PID namespace
	BootID    string    `json:"boot_id"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	// OOMKills is how many processes the kernel had killed for lack of memory since it was
	// booted (oom_kill of /proc/vmstat).
	OOMKills uint64 `json:"oom_kills"`
}

// LastRun returns the run that has not recorded its end; zero if the last one has.
func (tx *Tx) LastRun() (Run, error) {
	var run Run
	if err := kv.IgnoreMissing(tx.kv.Get(kv.Meta, []byte(kv.KeyRun), &run)); err != nil {
		return Run{}, fmt.Errorf("last run: %w", err)
	}
	return run, nil
}

// SetRun records a run, or with nil that it has ended.
func (tx *Tx) SetRun(run *Run) error {
	err := tx.kv.Delete(kv.Meta, []byte(kv.KeyRun))
	if run != nil {
		err = tx.kv.Put(kv.Meta, []byte(kv.KeyRun), run)
	}
	if err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	return nil
}
