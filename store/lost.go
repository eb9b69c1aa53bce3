package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
)

// checkName returns an error if the path of the state file names it no more: it was removed
// or replaced, and what is committed goes into a file that nobody will ever open again. What
// the store has is then written back, or beside the other file. Only the writer calls it,
// without a transaction. It costs two stat(2), and is done twice for
// each commit.
func (s *Store) checkName() error {
	ours, err := s.file.Stat()
	if err != nil {
		return nil //nolint:nilerr // that says nothing of the path
	}
	there, err := os.Stat(s.path)
	switch {
	case err == nil && os.SameFile(ours, there):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := s.writeBack(s.path); err != nil {
			return fmt.Errorf("%s was removed while hive had it open, and could not be written back: %w; `hivectl db salvage` finds the workers that live", s.path, err)
		}
		return fmt.Errorf("%s was removed while hive had it open: it has been written back, and the next start of hive goes on with it", s.path)
	case err != nil:
		return nil // it cannot be seen, and the commit has succeeded
	}
	saved := fmt.Sprintf("%s.replaced-%s", s.path, time.Now().UTC().Format("20060102T150405.000"))
	if err := s.writeBack(saved); err != nil {
		return fmt.Errorf("%s was replaced by another file while hive had it open, and what hive had could not be saved: %w", s.path, err)
	}
	return fmt.Errorf("%s was replaced by another file while hive had it open: what hive had is saved as %s; put it back before the next start of hive, or its workers are unknown to that", s.path, saved)
}

// checkLength fails the store if its file has become too short for what is in it: another
// program has cut it off or emptied it. A page that is gone is a fault for bbolt, and one of
// its meta pages a fault with its locks held, for which all that follows would wait for ever.
// It costs one stat(2).
func (s *Store) checkLength() error {
	info, err := s.file.Stat()
	// A file that was closed is bbolt's to report.
	if err != nil || info.Size() >= s.length.Load() {
		return nil //nolint:nilerr // that says nothing of its length
	}
	return s.fail(&CorruptError{Path: s.path, Reason: fmt.Sprintf("it was cut off while hive had it open: %d bytes are left of %d; `hivectl db salvage` makes it anew from these, the newest backup and the workers that live", info.Size(), s.length.Load())})
}

// writeBack writes what the store has to a new file, which is its successor: not a copy that
// was put in place by hand.
func (s *Store) writeBack(path string) error {
	// All of the directory may have been removed; not what it is in.
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return disk.WriteFile(path, false, func(f *os.File) error {
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		// Nobody writes: this is the writer's goroutine. bbolt's own copy opens the path.
		if _, err := io.Copy(f, io.NewSectionReader(s.file, 0, info.Size())); err != nil {
			return err
		}
		return succeed(f)
	})
}

// succeed records in a copy of a state file that it is where that was.
func succeed(f *os.File) (err error) {
	here, err := disk.Identify(f)
	if err != nil || here == (disk.ID{}) {
		return err
	}
	return kv.Protect(f.Name(), func() (err error) {
		db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return updateAlone(db, f.Name(), func(tx *Tx) error {
			return tx.kv.Put(kv.Meta, []byte(kv.KeyFile), here)
		})
	})
}
