package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the state file to w and returns its
// length. The copy is first made in a temporary file beside the state file, so
// a slow w holds no transaction open; it needs that much space on the disk.
// Errors: ErrClosed, *CorruptError, the system's and w's.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
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
		_, err := tx.btx.WriteTo(spool)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	if n, err = io.Copy(w, spool); err != nil {
		return n, fmt.Errorf("backup: %w", err)
	}
	return n, nil
}

// backupBefore keeps the file as it is before a migration from the given
// schema: complete under its final name, or not there at all.
func backupBefore(btx *bbolt.Tx, dir string, from int) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".migration-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	if err := fill(temp, btx); err != nil {
		return err
	}
	name := fmt.Sprintf("hive-schema%d-%s.db", from, time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.Rename(temp.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func fill(f *os.File, btx *bbolt.Tx) error {
	if _, err := btx.WriteTo(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
