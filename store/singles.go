package store

import (
	"fmt"

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
