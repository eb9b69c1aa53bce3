package store

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// Keys of the bucket meta. "schema" is written by package migrations only.
const (
	metaSchema      = "schema"
	metaStateID     = "state_id"
	metaIncarnation = "incarnation"
	metaMachineID   = "machine_id"
	metaFile        = "file"
	metaCreatedAt   = "created_at"
	metaCursor      = "cursor"
	metaPruned      = "pruned"
	metaQueen       = "queen"
	metaSecret      = "secret"
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
}

// fileID is what tells a file from its copies. Born is its time of creation in
// nanoseconds since 1970; 0 if the file system keeps none.
type fileID struct {
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born int64  `json:"born,omitempty"`
}

// same compares what both sides know. Where files have no identity (other
// systems than Linux) every file is the same.
func (f fileID) same(g fileID) bool {
	if f == (fileID{}) || g == (fileID{}) {
		return true
	}
	if f.Born != 0 && g.Born != 0 && f.Born != g.Born {
		return false
	}
	return f.Dev == g.Dev && f.Ino == g.Ino
}

// recorded is what the file says about itself.
type recorded struct {
	stateID     string
	incarnation uint64
	machineID   string
	file        fileID
	createdAt   time.Time
	secret      Secret // nil: the file has none yet
	fresh       bool   // a file that was created and never used
}

// readMeta reads what the file says about itself. A file without a state id and without
// records is one whose first start ended before it wrote them.
func (tx *Tx) readMeta() (recorded, error) {
	var r recorded
	err := tx.get(bucketMeta, []byte(metaStateID), &r.stateID)
	if errors.Is(err, ErrNotFound) {
		return tx.freshMeta()
	}
	fields := []struct {
		key string
		to  any
	}{
		{metaIncarnation, &r.incarnation},
		{metaMachineID, &r.machineID},
		{metaFile, &r.file},
		{metaCreatedAt, &r.createdAt},
	}
	for _, f := range fields {
		if err == nil {
			err = tx.get(bucketMeta, []byte(f.key), f.to)
		}
		// A file with a state id was written with all of these.
		if errors.Is(err, ErrNotFound) {
			err = tx.corrupt(bucketMeta, []byte(f.key), "the record is missing")
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
	for _, b := range buckets() {
		bb, err := tx.open(b)
		if err != nil {
			return recorded{}, err
		}
		for k, _ := bb.Cursor().First(); k != nil; k = nil {
			// There are records, so the state id was lost: a new one would disown the workers.
			if b != bucketMeta || string(k) != metaSchema {
				return recorded{}, tx.corrupt(bucketMeta, []byte(metaStateID), "the record is missing")
			}
		}
	}
	return recorded{fresh: true, createdAt: tx.now}, nil
}

// plan decides what a start does with what the file says. The returned Meta and Secret are
// what must be written, if they differ. A new state id has a new secret: whoever has the
// file that this one is a copy of does not know it.
func (r recorded) plan(o Options, here fileID) (Meta, Secret, error) {
	m := Meta{
		StateID: r.stateID, Incarnation: r.incarnation, MachineID: r.machineID,
		Dev: here.Dev, Ino: here.Ino, CreatedAt: r.createdAt,
	}
	if r.fresh {
		m.Incarnation = 1
	}
	// Identities of another machine's processes prove nothing here.
	if o.MachineID != "" && r.machineID != "" && o.MachineID != r.machineID {
		if !o.TakeOver {
			return Meta{}, nil, &OtherMachineError{Path: o.Path, Recorded: r.machineID, This: o.MachineID}
		}
		m.Incarnation++
	}
	if o.MachineID != "" {
		m.MachineID = o.MachineID
	}
	m.Relocated = !r.fresh && !r.file.same(here)
	secret := r.secret
	// A new secret: the original's workers are proven to the original only.
	if r.fresh || m.Relocated || secret == nil {
		secret = newSecret()
	}
	// A new id: the original's workers are not the copy's.
	if r.fresh || m.Relocated {
		id, err := uuid.NewRandom()
		if err != nil {
			return Meta{}, nil, fmt.Errorf("make a state id: %w", err)
		}
		m.StateID = id.String()
	}
	return m, secret, nil
}

// writeMeta records m, its secret and here in one transaction.
func writeMeta(db *bbolt.DB, path string, m Meta, secret Secret, here fileID) error {
	// Past the writer, which is not there yet.
	return db.Update(func(btx *bbolt.Tx) error {
		tx := &Tx{btx: btx, undo: &undoLog{}, now: transactionTime(), path: path}
		defer tx.end()
		for _, f := range []struct {
			key   string
			value any
		}{
			{metaStateID, m.StateID},
			{metaIncarnation, m.Incarnation},
			{metaMachineID, m.MachineID},
			{metaFile, here},
			{metaCreatedAt, m.CreatedAt},
			{metaSecret, []byte(secret)},
		} {
			if err := tx.put(bucketMeta, []byte(f.key), f.value); err != nil {
				return fmt.Errorf("write meta/%s: %w", f.key, err)
			}
		}
		return nil
	})
}

// SyncDir makes the names in a directory durable. It blocks on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Unclaimed returns ErrClaimed if a hive of this state runs on this machine, as far
// as that can be seen (see the package's caveats).
func Unclaimed(stateID string) error {
	c, err := newClaim(stateID)
	if err != nil {
		return err
	}
	return c.release()
}
