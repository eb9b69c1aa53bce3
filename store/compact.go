package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
)

// compactStep bounds the transactions of a compaction, in bytes.
const compactStep = 8 << 20

// Compact rewrites the state file without its free pages, and returns its length before
// and after. The new file is checked, and compared with the old one record by record,
// before it takes its place; the old one is then gone. A hive that starts on it continues
// as with the old file. Errors, with nothing changed: *LockedError, what Check found,
// *CorruptError, migrations.ErrNewer, the system's.
func Compact(ctx context.Context, path string) (before, after int64, err error) {
	// Exclusive: nobody may have the old file open while another takes its name.
	old, err := OpenOffline(path, true)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if err := old.Check(ctx); err != nil {
		return 0, 0, err
	}
	fresh, err := disk.TempBeside(path, "compact")
	if err != nil {
		return 0, 0, fmt.Errorf("compact: %w", err)
	}
	defer disk.Discard(fresh)
	if err := kv.Protect(path, func() error { return old.compactTo(fresh) }); err != nil {
		return 0, 0, fmt.Errorf("compact: %w", err)
	}
	// Read again from the file, as the next hive will.
	if err := checkWhole(ctx, fresh); err != nil {
		return 0, 0, fmt.Errorf("compact: the new file failed its check, the old one is unchanged: %w", err)
	}
	if before, err = sizeOf(path); err != nil {
		return 0, 0, err
	}
	if after, err = sizeOf(fresh); err != nil {
		return 0, 0, err
	}
	return before, after, disk.Replace(fresh, path, "")
}

func sizeOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o *Offline) compactTo(path string) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := bbolt.Compact(db, o.db, compactStep); err != nil {
		return err
	}
	// Compared, since the old file is about to go.
	if err := o.equalRecords(db); err != nil {
		return err
	}
	return o.keepIdentity(db, path)
}

// equalRecords compares all records.
func (o *Offline) equalRecords(db *bbolt.DB) error {
	return o.db.View(func(old *bbolt.Tx) error {
		return db.View(func(fresh *bbolt.Tx) error {
			for _, b := range kv.Buckets() {
				one, other := old.Bucket([]byte(b)), fresh.Bucket([]byte(b))
				// The sequence too: the numbers of events go on from it.
				if other == nil || one.Sequence() != other.Sequence() {
					return fmt.Errorf("bucket %s was not copied", b)
				}
				c, d := one.Cursor(), other.Cursor()
				k, v := c.First()
				for l, w := d.First(); k != nil || l != nil; l, w = d.Next() {
					if !bytes.Equal(k, l) || !bytes.Equal(v, w) {
						return fmt.Errorf("bucket %s, key %s was not copied", b, kv.KeyName(b, k))
					}
					k, v = c.Next()
				}
			}
			return nil
		})
	})
}

// keepIdentity makes the file the successor of the one that it was made from: it is not
// seen as a copy, unless that one was.
func (o *Offline) keepIdentity(db *bbolt.DB, path string) error {
	here, err := disk.Identify(o.file)
	if err != nil {
		return err
	}
	// Without this a compacted file would be taken for a copied one.
	if o.schema != migrations.Current() || !o.meta.file.Same(here) {
		return nil // the next start has to notice that
	}
	fresh, err := os.Open(path)
	if err != nil {
		return err
	}
	defer fresh.Close()
	there, err := disk.Identify(fresh)
	if err != nil || there == (disk.ID{}) {
		return err
	}
	return updateAlone(db, path, func(tx *Tx) error {
		return tx.kv.Put(kv.Meta, []byte(kv.KeyFile), there)
	})
}
