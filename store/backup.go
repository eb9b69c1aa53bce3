package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/page"
)

// Backup writes a consistent copy of the state file to w and returns its
// length. The copy is first made in a temporary file beside the state file, so
// a slow w holds no transaction open; it needs that much space on the disk.
// Errors: ErrClosed, *CorruptError, the system's and w's.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
	// Beside the state file, where the caller has made sure of room; /tmp may be memory.
	spool, err := os.CreateTemp(filepath.Dir(s.path), ".backup-*")
	if err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	// Without a name it cannot be left behind by a crash. Systems that keep the
	// name of an open file get it removed at the end.
	early := os.Remove(spool.Name())
	defer func() {
		err = errors.Join(err, spool.Close())
		if early != nil {
			err = errors.Join(err, os.Remove(spool.Name()))
		}
	}()
	err = s.View(func(tx *Tx) error {
		_, err := tx.kv.Bolt().WriteTo(spool)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	// After the transaction: a slow client keeps no pages from being used again.
	if n, err = io.Copy(w, spool); err != nil {
		return n, fmt.Errorf("backup: %w", err)
	}
	return n, nil
}

// BackupTo writes a consistent copy of the state file to a new file: complete,
// checked and durable under its name, or not there. Errors: ErrClosed, what Check
// found, *CorruptError, fs.ErrExist, the system's.
func (s *Store) BackupTo(ctx context.Context, path string) error {
	_, err := writeChecked(ctx, path, false, func(f *os.File) error {
		// Without a temporary copy: the disk is fast enough for an open transaction.
		return s.View(func(tx *Tx) error {
			_, err := tx.kv.Bolt().WriteTo(f)
			return err
		})
	})
	return err
}

// Transaction is the number of the last transaction in the file: as long as it is
// the same nothing has changed.
func (s *Store) Transaction() (n uint64, err error) {
	err = s.View(func(tx *Tx) error {
		// bbolt writes the number of each transaction into its meta page.
		n = uint64(tx.kv.Bolt().ID())
		return nil
	})
	return n, err
}

// TransactionOf is Transaction of a file that nobody writes to, such as a backup. It
// reads the two meta pages only. Errors: *CorruptError, the system's.
func TransactionOf(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	n, err := page.Transaction(f, info.Size())
	if err != nil {
		return 0, asCorrupt(path, err)
	}
	return n, nil
}

// BackupOffline checks a state file that no hive has open and writes a copy of it,
// which is checked too, to a new file. Errors: *LockedError, what Check found,
// *CorruptError, migrations.ErrNewer, fs.ErrExist unless overwrite, the system's.
func BackupOffline(ctx context.Context, path, to string, overwrite bool) (v Overview, err error) {
	o, err := OpenOffline(path, false)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	// Before anything is written: a copy of a damaged file would take a good one's place.
	if err := o.Check(ctx); err != nil {
		return v, err
	}
	return writeChecked(ctx, to, overwrite, func(f *os.File) error {
		return o.View(func(tx *Tx) error {
			_, err := tx.kv.Bolt().WriteTo(f)
			return err
		})
	})
}

// BackupFrom writes what r yields, which is a state file, to a new file, and checks
// it. Errors: r's, and as of BackupOffline.
func BackupFrom(ctx context.Context, r io.Reader, to string, overwrite bool) (Overview, error) {
	return writeChecked(ctx, to, overwrite, func(f *os.File) error {
		_, err := io.Copy(f, r)
		return err
	})
}

func writeChecked(ctx context.Context, to string, overwrite bool, fill func(*os.File) error) (v Overview, err error) {
	if overwrite { // a file that is in use is not a backup: it may be the state file itself
		if info, err := os.Stat(to); err == nil && !info.Mode().IsRegular() {
			return v, fmt.Errorf("%s is not a regular file: give the name of a file, or a directory", to)
		}
		// Whoever holds its lock works with it.
		h, err := LockFile(to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
		if err := h.Release(); err != nil {
			return v, err
		}
	}
	err = disk.WriteFile(to, overwrite, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		// What was written is read back, under its temporary name.
		v, _, err = checked(ctx, f.Name())
		return err
	})
	return v, err
}

// StampFormat is the time in the name of a backup or of a file that was replaced, in UTC.
const StampFormat = "20060102T150405.000Z"
