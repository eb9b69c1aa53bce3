package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/migrations"
)

const (
	defaultLockTimeout = 5 * time.Second
	defaultPreallocate = 4 << 20
	maxPreallocate     = 256 << 20
	// initialMmapSize keeps bbolt from mapping the file again while it grows, for which a
	// writer must wait until all readers are done. It costs address space, not memory.
	initialMmapSize = 1 << 30
	retryInterval   = 10 * time.Millisecond
	// claimTimeout: a hive that is being killed may lose its lock a moment before its socket.
	claimTimeout = 500 * time.Millisecond
)

// Options says how to open a state file.
type Options struct {
	Path string // the file; created if it does not exist, its directory is not
	// LockTimeout is how long to wait for another process to release the file. 0: 5 s.
	LockTimeout time.Duration
	// Preallocate is how many bytes are kept allocated ahead of what the file
	// uses. Ordinary work is refused when less than half of it can be had.
	// 0: 4 MiB; at most 256 MiB.
	Preallocate int64
	// MachineID identifies this machine (machine-id(5)). Empty: not compared.
	MachineID string
	// TakeOver accepts a file of another machine and bumps the incarnation.
	TakeOver bool
	// BackupDir is where the backup before a migration goes; created if
	// necessary. Empty: "backups" beside the file.
	BackupDir string
	// OpenFile replaces os.OpenFile for the state file. For tests of faults.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)

	steps []migrations.Step // for tests; nil: those of this build
}

func (o Options) withDefaults() (Options, error) {
	if o.Path == "" {
		return o, errors.New("open the state file: no path")
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = defaultLockTimeout
	}
	if o.Preallocate <= 0 {
		o.Preallocate = defaultPreallocate
	}
	// Bounded: it is taken from the disk at once.
	o.Preallocate = min(o.Preallocate, maxPreallocate)
	if o.BackupDir == "" {
		o.BackupDir = filepath.Join(filepath.Dir(o.Path), "backups")
	}
	if o.OpenFile == nil {
		o.OpenFile = os.OpenFile
	}
	if o.steps == nil {
		o.steps = migrations.Steps()
	}
	return o, nil
}

// Open opens the state file, or creates it with mode 0600. In this order, and
// with nothing written before the last two: it takes the file lock; examines
// the structure of the file and verifies the checksums of meta, leases, workers,
// PIDs and names; compares the machine; claims the state id on this machine; migrates
// (with a backup first); records where the file is now.
//
// It blocks for up to Options.LockTimeout while another process holds the file,
// and ends early when ctx does. Errors: *LockedError, *CorruptError,
// *OtherMachineError, ErrClaimed, migrations.ErrNewer, migrations.ErrForeign,
// ctx's and the system's.
func Open(ctx context.Context, options Options) (*Store, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	db, file, err := openLocked(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	s := &Store{path: o.Path, db: db, file: file, failed: make(chan struct{}), commit: (*bbolt.Tx).Commit, counters: newCounters()}
	// bbolt may panic on what the examination has not seen.
	if err := protect(o.Path, func() error { return s.start(ctx, o) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open the state file: %w", err), s.claim.release(), db.Close())
	}
	// Last: up to here nobody can write.
	s.writer = newWriter(s)
	return s, nil
}

// openLocked retries until it has the lock. bbolt's own waiting knows no ctx and sleeps 50
// ms at a time.
func openLocked(ctx context.Context, o Options) (*bbolt.DB, *os.File, error) {
	deadline := time.Now().Add(o.LockTimeout)
	for {
		db, file, err := openOnce(o)
		// Only a lock is worth waiting for.
		if !errors.Is(err, errLocked) {
			return db, file, err
		}
		if !time.Now().Before(deadline) {
			return nil, nil, &LockedError{Path: o.Path, PID: lockHolder(o.Path)}
		}
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, nil, err
		}
	}
}

var errLocked = errors.New("the file is locked")

// openOnce opens the file with bbolt if nobody else has it. The file is
// examined before bbolt reads it: bbolt trusts what it reads, and some damage
// (a page that is its own child, a huge count) ends the process in a way that
// cannot be caught.
func openOnce(o Options) (*bbolt.DB, *os.File, error) {
	var file *os.File
	open := func(name string, flag int, perm os.FileMode) (*os.File, error) {
		f, err := o.OpenFile(name, flag, perm)
		if err != nil {
			return nil, err
		}
		file = f
		if err := lockAndExamine(f, o.Path); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	var db *bbolt.DB
	err := protect(o.Path, func() (err error) {
		db, err = bbolt.Open(o.Path, 0o600, &bbolt.Options{
			Timeout:         time.Nanosecond, // one attempt
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: initialMmapSize,
			OpenFile:        open,
		})
		return err
	})
	switch {
	case err == nil:
		// bbolt lengthens the file by this much, which is what is allocated ahead.
		db.AllocSize = int(o.Preallocate)
		return db, file, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, errLocked
	case damaged(err):
		if file != nil {
			// bbolt does neither if it panicked; an error means that it did.
			_ = unlock(file)
			_ = file.Close()
		}
		return nil, nil, asCorrupt(o.Path, err)
	}
	return nil, nil, err
}

func lockAndExamine(f *os.File, path string) error {
	locked, err := lock(f)
	if err != nil {
		return err
	}
	if !locked {
		return errLocked
	}
	// While we waited, the file may have been replaced by another (a restore):
	// the lock is then on one that nobody will ever find again.
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(ours, there) {
		return errLocked
	}
	if !canExamine {
		return nil
	}
	return examine(f, path)
}

func damaged(err error) bool {
	var corrupt *CorruptError
	return errors.As(err, &corrupt) || errors.Is(err, berrors.ErrInvalid) ||
		errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch)
}

func asCorrupt(path string, err error) error {
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return err
	}
	return &CorruptError{Path: path, Reason: err.Error()}
}

// start does what Open says, with the file locked.
func (s *Store) start(ctx context.Context, o Options) error {
	here, err := identify(s.file)
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
	old, err := s.takeClaims(ctx, before)
	if err != nil {
		return err
	}
	defer func() { _ = old.release() }() // a socket that was never connected: closing cannot lose anything
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
			return &CorruptError{Path: s.path, Bucket: string(bucketMeta), Key: metaSchema, Reason: err.Error()}
		case err != nil:
			return err
		}
		tx := &Tx{btx: btx, now: transactionTime(), path: s.path}
		defer tx.end()
		if version == 0 {
			r = recorded{fresh: true, createdAt: tx.now}
			return nil
		}
		// A newer schema is refused by the caller: this build cannot verify its records.
		if version > migrations.Current() {
			return nil
		}
		// What recovery goes by. Jobs and events may be many, and are verified when they are read.
		for _, b := range []bucket{bucketMeta, bucketLeases, bucketPIDs, bucketWorkers, bucketNames} {
			if err := tx.verify(ctx, b); err != nil {
				return err
			}
		}
		r, err = tx.readMeta()
		return err
	})
	return r, version, err
}

// takeClaims claims the state id that this start will use; it stays in s. Of a relocated
// file the old id is tried first, and returned to be released when the new one is recorded:
// if it is held, this is a copy of the directory of a hive that runs, and two would believe
// to own the same workers.
func (s *Store) takeClaims(ctx context.Context, before recorded) (old *claim, err error) {
	if s.meta.Relocated {
		if old, err = waitClaim(ctx, before.stateID); err != nil {
			return nil, err
		}
	}
	// Held until Close: as long, a copy of this directory is refused.
	s.claim, err = waitClaim(ctx, s.meta.StateID)
	if err != nil {
		return nil, errors.Join(err, old.release())
	}
	return old, nil
}

func waitClaim(ctx context.Context, stateID string) (*claim, error) {
	deadline := time.Now().Add(claimTimeout)
	for {
		c, err := newClaim(stateID)
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

// migrate brings the file to the newest schema. A new file's name is made durable, which
// bbolt does not do.
func (s *Store) migrate(o Options, version int) error {
	backup := func(btx *bbolt.Tx, from int) error { return backupBefore(btx, o.BackupDir, from) }
	if err := migrations.Apply(s.db, o.steps, backup); err != nil {
		return err
	}
	if version > 0 {
		return nil
	}
	// Else the file could be gone after a power cut, with all that was committed.
	if err := SyncDir(filepath.Dir(o.Path)); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// record writes what is new about the file, if anything is.
func (s *Store) record(before recorded, here fileID) error {
	m := s.meta
	if here == (fileID{}) {
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
		s.space = newSpace(s.file, int64(s.db.Info().PageSize), o.Preallocate, btx.Size())
		return nil
	})
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
