package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
)

// unknownPlace is recorded as the identity of a file that was put in place by hand. No file
// has it, so the next start sees that it is not the file that was last used
// (Meta.Relocated): it makes a new state id, and nothing is killed in it.
func unknownPlace() disk.ID { return disk.ID{Born: 1} }

// Content is all that a state file is rebuilt from.
type Content struct {
	StateID     string // empty: a new one
	Secret      Secret // of the state id; nil: a new one
	Incarnation uint64
	MachineID   string
	CreatedAt   time.Time // zero: now
	Cursor      uint16
	Sequence    uint64 // of the events: the next one is above it
	Pruned      uint64 // events up to this number may be missing; not above Sequence

	Leases     []Lease // each once, however many ports it has
	Tombstones []Tombstone
	Workers    []Worker
	Names      []NamedPort
	Jobs       []Job
	Keys       []KeyedJob
	Events     []Event
}

// Rebuild writes a new state file from what is known, checks it, and puts it in the place
// of path. lock is that of the present file, which is kept as savedAs unless that is empty;
// nil: there is none, and one that is created meanwhile is a *LockedError. The new file is
// recognised as one that was put in place by hand (Meta.Relocated). After an error nothing
// was changed.
func Rebuild(ctx context.Context, path string, lock *FileLock, savedAs string, c Content) error {
	fresh, err := disk.TempBeside(path, "salvage")
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	defer disk.Discard(fresh)
	err = kv.Protect(fresh, func() error { return build(fresh, c) })
	if err == nil {
		err = checkWhole(ctx, fresh)
	}
	if err == nil {
		err = lock.replaceWith(fresh, path, savedAs)
	}
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return nil
}

// checkWhole checks a file that nobody else uses.
func checkWhole(ctx context.Context, path string) error {
	o, err := OpenOffline(path, false)
	if err != nil {
		return err
	}
	return errors.Join(o.Check(ctx), o.Close())
}

func build(path string, c Content) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrations.Apply(db, migrations.Steps(), nil); err != nil {
		return err
	}
	m := Meta{StateID: c.StateID, Incarnation: c.Incarnation, MachineID: c.MachineID, CreatedAt: c.CreatedAt}
	if m.StateID == "" {
		m.StateID = uuid.NewString()
	}
	if m.CreatedAt.IsZero() {
		m.CreatedAt = kv.Now()
	}
	if c.Secret == nil {
		c.Secret = newSecret()
	}
	// nowhere: the first start with it must not take the workers for its own.
	if err := writeMeta(db, path, m, c.Secret, unknownPlace()); err != nil {
		return err
	}
	return updateAlone(db, path, func(tx *Tx) error {
		return tx.fill(c)
	})
}

func (tx *Tx) fill(c Content) error {
	// With the PID mapping, which PutLease makes.
	for _, l := range c.Leases {
		if err := tx.PutLease(l); err != nil {
			return err
		}
	}
	for _, t := range c.Tombstones {
		if err := tx.kv.Put(kv.Ended, t.key(), t); err != nil {
			return err
		}
	}
	for _, w := range c.Workers {
		if err := tx.PutWorker(w); err != nil {
			return err
		}
	}
	for _, n := range c.Names {
		if err := tx.SetNamedPort(n.Name, n.Port); err != nil {
			return err
		}
	}
	for _, j := range c.Jobs {
		if err := tx.PutJob(j); err != nil {
			return err
		}
	}
	for _, k := range c.Keys {
		if err := tx.kv.Put(kv.Keys, []byte(k.Key), k.Keyed); err != nil {
			return err
		}
	}
	if err := tx.fillEvents(c); err != nil {
		return err
	}
	if c.Cursor == 0 {
		return nil
	}
	return tx.SetCursor(c.Cursor)
}

// fillEvents writes events with the numbers that they had. Those in their jobs are made
// again: they have no gaps, and some events may be missing.
func (tx *Tx) fillEvents(c Content) error {
	// In order, as their numbers in jobs are.
	slices.SortFunc(c.Events, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	counts := map[string]uint64{}
	for _, ev := range c.Events {
		ev.JobSeq = 0
		if ev.JobID != "" {
			counts[ev.JobID]++
			ev.JobSeq = counts[ev.JobID]
		}
		if err := tx.kv.Put(kv.Events, kv.BE64(ev.Seq), ev); err != nil {
			return err
		}
		for _, ix := range indexesOf(ev) {
			if err := tx.kv.Put(ix.bucket, kv.IndexKey(ix.id, ev.Seq), indexValue{}); err != nil {
				return err
			}
		}
		c.Sequence = max(c.Sequence, ev.Seq)
	}
	// Beyond all that was found: no lost event's number is used again.
	err := tx.kv.SetSequence(kv.Events, c.Sequence)
	if err == nil && c.Pruned > 0 {
		err = tx.kv.Put(kv.Meta, []byte(kv.KeyPruned), c.Pruned)
	}
	return err
}

// Restored says what a restore has done, or would do.
type Restored struct {
	From    Overview // of the file that was put in place
	Schema  int
	Before  *Overview // of the file that was there; nil: there was none, or it is damaged
	Damage  error     // why the file that was there cannot be read
	SavedAs string    // where it was saved; empty: there was none
}

// Restore puts a copy of the state file from in the place of path. It holds the lock of
// path meanwhile; the present file is kept as savedAs. The file is checked completely
// before anything is changed. The next start of hive sees that the file was put in place by
// hand (Meta.Relocated), and the incarnation records it permanently.
//
// With dryRun it does everything except the replacement. Errors: *LockedError, what Check
// found, *CorruptError, ErrSameFile, migrations.ErrNewer and ErrForeign, the system's.
func Restore(ctx context.Context, from, path, savedAs string, dryRun bool) (r Restored, err error) {
	lock, err := LockFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := distinct(from, path); err != nil {
		return r, err
	}
	// On the same file system, so that a rename can put it in place.
	fresh, err := disk.TempBeside(path, "restore")
	if err != nil {
		return r, err
	}
	defer disk.Discard(fresh)
	if err := copyFile(from, fresh); err != nil {
		return r, err
	}
	if r.From, r.Schema, err = checked(ctx, fresh); err != nil {
		return r, err
	}
	if lock != nil {
		r.SavedAs = savedAs
		r.Before, r.Damage = lock.overview()
	}
	if dryRun {
		return r, nil
	}
	if err := kv.Protect(fresh, func() error { return markRelocated(fresh) }); err != nil {
		return r, err
	}
	return r, lock.replaceWith(fresh, path, r.SavedAs)
}

// distinct refuses to put a file in its own place.
func distinct(from, path string) error {
	one, err := os.Stat(from)
	if err != nil {
		return err
	}
	if other, err := os.Stat(path); err == nil && os.SameFile(one, other) {
		return fmt.Errorf("%s: %w", from, ErrSameFile)
	}
	return nil
}

// copyFile copies what another may have open to read, as it is at one moment.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := disk.LockHere(src, from, false); err != nil {
		return err
	}
	return disk.WriteFile(to, true, func(dst *os.File) error {
		_, err := dst.ReadFrom(src)
		return err
	})
}

func checked(ctx context.Context, path string) (v Overview, schema int, err error) {
	o, err := OpenOffline(path, false)
	if err != nil {
		return v, 0, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := o.Check(ctx); err != nil {
		return v, 0, err
	}
	v, err = o.Overview()
	return v, o.Schema(), err
}

// overview describes the locked file, as far as it can be read.
func (h *FileLock) overview() (*Overview, error) {
	g, err := Gather(h.file, false)
	if err != nil {
		return nil, err
	}
	v := &Overview{Bytes: g.Bytes}
	for _, w := range g.Workers {
		if w.Source == FromTree && !w.Record.State.Ended() {
			v.Live++
		}
	}
	for _, e := range g.Events {
		if e.Source == FromTree && e.Record.At.After(v.Newest) {
			v.Newest = e.Record.At
		}
	}
	if len(g.Damage) > 0 {
		return v, fmt.Errorf("%s", g.Damage[0])
	}
	return v, nil
}

// markRelocated records in a file that was put in place by hand that it was. A file with an
// older schema is migrated first by the next start, which sees another inode.
func markRelocated(path string) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	// Durable before it gets the name.
	defer func() { err = errors.Join(err, db.Sync(), db.Close()) }()
	return updateAlone(db, path, func(tx *Tx) error {
		var n uint64
		if err := kv.IgnoreMissing(tx.kv.Get(kv.Meta, []byte(kv.KeyIncarnation), &n)); err != nil {
			return err
		}
		if err := tx.kv.Put(kv.Meta, []byte(kv.KeyIncarnation), n+1); err != nil {
			return err
		}
		return tx.kv.Put(kv.Meta, []byte(kv.KeyFile), unknownPlace())
	})
}
