package store

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
)

// Meta describes an open state file.
type Meta struct {
	Schema int
	// StateID names this state among all; workers carry it as a stamp. A copy
	// gets a new one when it is first opened.
	StateID string
	// Incarnation counts how often the state was put in place by hand: restored,
	// salvaged or taken over from another machine. It begins at 1.
	Incarnation uint64
	MachineID   string // machine that used it last; empty if never given
	Dev, Ino    uint64 // of the file; 0 where the system does not say
	CreatedAt   time.Time
	// Relocated: the file is not the one that was last used under its state id,
	// but a copy or a restored backup. The processes it names may belong to
	// another hive, so nothing may be killed in this start.
	Relocated bool
	// MetaPageLost: one of the two pages that lead to a transaction could not be read when the
	// file was opened. If it was that of the newest, all that this one did is missing: a power
	// cut leaves it so, and nobody was told yet that it was done; or it was damaged since.
	MetaPageLost bool
}

// recorded is what the file says about itself.
type recorded struct {
	stateID     string
	incarnation uint64
	machineID   string
	file        disk.ID
	createdAt   time.Time
	secret      Secret // nil: the file has none yet
	fresh       bool   // a file that was created and never used
}

// readMeta reads what the file says about itself. A file without a state id and without
// records is one whose first start ended before it wrote them.
func (tx *Tx) readMeta() (recorded, error) {
	var r recorded
	err := tx.kv.Get(kv.Meta, []byte(kv.KeyStateID), &r.stateID)
	if errors.Is(err, ErrNotFound) {
		return tx.freshMeta()
	}
	fields := []struct {
		key string
		to  any
	}{
		{kv.KeyIncarnation, &r.incarnation},
		{kv.KeyMachineID, &r.machineID},
		{kv.KeyFile, &r.file},
		{kv.KeyCreatedAt, &r.createdAt},
	}
	for _, f := range fields {
		if err == nil {
			err = tx.kv.Get(kv.Meta, []byte(f.key), f.to)
		}
		// A file with a state id was written with all of these.
		if errors.Is(err, ErrNotFound) {
			err = tx.kv.Corrupt(kv.Meta, []byte(f.key), "the record is missing")
		}
	}
	if err == nil {
		r.secret, err = tx.secret()
	}
	if err != nil {
		return recorded{}, err
	}
	return r, nil
}

func (tx *Tx) freshMeta() (recorded, error) {
	for _, b := range kv.Buckets() {
		bb, err := tx.kv.Bucket(b)
		if err != nil {
			return recorded{}, err
		}
		for k, _ := bb.Cursor().First(); k != nil; k = nil {
			// There are records, so the state id was lost: a new one would disown the workers.
			if b != kv.Meta || string(k) != kv.KeySchema {
				return recorded{}, tx.kv.Corrupt(kv.Meta, []byte(kv.KeyStateID), "the record is missing")
			}
		}
	}
	return recorded{fresh: true, createdAt: tx.Now()}, nil
}

// writeMeta records m, its secret and here in one transaction.
func writeMeta(db *bbolt.DB, path string, m Meta, secret Secret, here disk.ID) error {
	// Past the writer, which is not there yet.
	return updateAlone(db, path, func(tx *Tx) error {
		for _, f := range []struct {
			key   string
			value any
		}{
			{kv.KeyStateID, m.StateID},
			{kv.KeyIncarnation, m.Incarnation},
			{kv.KeyMachineID, m.MachineID},
			{kv.KeyFile, here},
			{kv.KeyCreatedAt, m.CreatedAt},
			{kv.KeySecret, []byte(secret)},
		} {
			if err := tx.kv.Put(kv.Meta, []byte(f.key), f.value); err != nil {
				return fmt.Errorf("write meta/%s: %w", f.key, err)
			}
		}
		return nil
	})
}
