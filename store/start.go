package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/space"
)

// start does what Open says, with the file locked.
func (s *Store) start(ctx context.Context, o Options) error {
	here, err := disk.Identify(s.file)
	if err != nil {
		return err
	}
	// Before anything is written, which would write that page anew.
	lost, err := metaPageLost(s.file)
	if err != nil {
		return err
	}
	// Whatever can refuse the file comes before anything is written.
	before, version, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	if last := len(o.steps); version > last {
		return &migrations.NewerError{File: version, Supported: last, DowngradeHint: downgradeHint(o, last)}
	}
	s.meta, s.secret, err = before.plan(o, here)
	if err != nil {
		return err
	}
	s.meta.MetaPageLost = lost
	old, err := s.takeClaims(ctx, before)
	if err != nil {
		return err
	}
	defer func() { _ = old.Release() }() // a socket that was never connected: closing cannot lose anything
	// After the claims: the copy of a running hive's directory is refused unchanged.
	if err := s.migrate(o, version); err != nil {
		return err
	}
	// Last: if a start fails before this, the next one is the first with a copied file again.
	if err := s.record(before, here); err != nil {
		return err
	}
	s.meta.Schema = len(o.steps)
	return s.measure(o)
}

// inspect reads the file without writing. Version 0 is a new file.
func (s *Store) inspect(ctx context.Context) (r recorded, version int, err error) {
	err = s.db.View(func(btx *bbolt.Tx) error {
		version, err = migrations.Version(btx)
		switch {
		case errors.Is(err, migrations.ErrDamaged):
			return &CorruptError{Path: s.path, Bucket: string(kv.Meta), Key: kv.KeySchema, Reason: err.Error()}
		case errors.Is(err, migrations.ErrForeign):
			return fmt.Errorf("%s: %w", s.path, err)
		case err != nil:
			return err
		}
		tx := &Tx{kv: kv.Reading(btx, s.path)}
		defer tx.kv.End()
		if version == 0 {
			r = recorded{fresh: true, createdAt: tx.Now()}
			return nil
		}
		// A newer schema is refused by the caller: this build cannot verify its records.
		if version > migrations.Current() {
			return nil
		}
		// What recovery goes by. Jobs and events may be many, and are verified when they are read.
		for _, b := range []kv.Bucket{kv.Meta, kv.Leases, kv.PIDs, kv.Workers, kv.Names} {
			if err := tx.verify(ctx, b); err != nil {
				return err
			}
		}
		if err := tx.verifySequence(); err != nil {
			return err
		}
		r, err = tx.readMeta()
		return err
	})
	return r, version, err
}

// verifySequence returns an error if a number of an event could be given out twice: bbolt keeps
// the last one without a checksum. One that is too high does no harm.
func (tx *Tx) verifySequence() error {
	last, err := tx.kv.LastKey(kv.Events)
	if err != nil {
		return err
	}
	b, err := tx.EventBounds()
	if err != nil {
		return err
	}
	if bytes.Compare(last, kv.BE64(b.Newest)) > 0 || b.Pruned > b.Newest {
		return tx.kv.Corrupt(kv.Events, last, fmt.Sprintf("the sequence is behind it, at %d", b.Newest))
	}
	return nil
}

// plan decides what a start does with what the file says. The returned Meta and Secret are
// what must be written, if they differ. A new state id has a new secret: whoever has the
// file that this one is a copy of does not know it.
func (r recorded) plan(o Options, here disk.ID) (Meta, Secret, error) {
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
	m.Relocated = !r.fresh && !r.file.Same(here)
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

// takeClaims claims the state id that this start will use; it stays in s. Of a relocated
// file the old id is tried first, and returned to be released when the new one is recorded:
// if it is held, this is a copy of the directory of a hive that runs, and two would believe
// to own the same workers.
func (s *Store) takeClaims(ctx context.Context, before recorded) (old *disk.Claim, err error) {
	if s.meta.Relocated {
		if old, err = waitClaim(ctx, before.stateID); err != nil {
			return nil, err
		}
	}
	// Held until Close: as long, a copy of this directory is refused.
	s.claim, err = waitClaim(ctx, s.meta.StateID)
	if err != nil {
		return nil, errors.Join(err, old.Release())
	}
	return old, nil
}

func waitClaim(ctx context.Context, stateID string) (*disk.Claim, error) {
	deadline := time.Now().Add(claimTimeout)
	for {
		c, err := disk.NewClaim(stateID)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrClaimed) {
			return nil, err
		}
		if !time.Now().Before(deadline) {
			return nil, fmt.Errorf("state id %s: %w: this directory is a copy of that hive's directory", stateID, err)
		}
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, err
		}
	}
}

// record writes what is new about the file, if anything is.
func (s *Store) record(before recorded, here disk.ID) error {
	m := s.meta
	if here == (disk.ID{}) {
		here = before.file // not known on this system: keep what Linux wrote
	}
	if !before.fresh && m.StateID == before.stateID && m.MachineID == before.machineID &&
		m.Incarnation == before.incarnation && here == before.file && before.secret != nil {
		return nil
	}
	return writeMeta(s.db, s.path, m, s.secret, here)
}

// measure starts the accounting of space.
func (s *Store) measure(o Options) error {
	return s.db.View(func(btx *bbolt.Tx) error {
		s.length.Store(btx.Size())
		s.space = space.New(s.file, int64(s.db.Info().PageSize), o.Preallocate, btx.Size())
		return nil
	})
}
