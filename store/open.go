package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
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

// Open opens the state file, or creates it with mode 0600. One of 0 bytes is damaged: hive
// never leaves one. In this order, and
// with nothing written before the last two: it takes the file lock; examines
// the structure of the file and verifies the checksums of meta, leases, workers,
// PIDs and names, and the number of the last event; compares the machine; claims the state id on this machine; migrates
// (with a backup first); records where the file is now.
//
// It blocks for up to Options.LockTimeout while another process holds the file,
// and ends early when ctx does. Errors: *LockedError, *CorruptError, *NotRegularError,
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
	if err := kv.Protect(o.Path, func() error { return s.start(ctx, o) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open the state file: %w", err), s.claim.Release(), db.Close())
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
			return nil, nil, &LockedError{Path: o.Path, PID: disk.LockHolder(o.Path)}
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
	if err := create(o.Path); err != nil {
		return nil, nil, err
	}
	var file *os.File
	open := func(name string, flag int, _ os.FileMode) (*os.File, error) {
		f, err := disk.OpenRegular(name, flag&^os.O_CREATE, o.OpenFile) // bbolt's would be empty for a moment
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
	err := kv.Protect(o.Path, func() (err error) {
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
			_ = disk.Unlock(file)
			_ = file.Close()
		}
		return nil, nil, asCorrupt(o.Path, err)
	}
	return nil, nil, err
}

// create makes the file if there is none: whole, or not at all. A hive that was killed
// while it made one would else leave an empty file, which could as well be all that is
// left of the records of living workers.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil //nolint:nilerr // whoever opens it finds out
	}
	err := disk.WriteFile(path, false, func(f *os.File) error {
		db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		return db.Close()
	})
	if errors.Is(err, fs.ErrExist) { // another hive was faster
		return nil
	}
	return err
}

func lockAndExamine(f *os.File, path string) error {
	locked, err := disk.Lock(f)
	if err != nil {
		return err
	}
	if !locked {
		return errLocked
	}
	// While we waited, the file may have been replaced by another (a restore):
	// the lock is then on one that nobody will ever find again.
	if !disk.Named(f, path) {
		return errLocked
	}
	if !disk.CanExamine {
		return nil
	}
	return examine(f, path)
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
