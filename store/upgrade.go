package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
)

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
	if err := disk.SyncDir(filepath.Dir(o.Path)); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// backupBefore keeps the file as it is before a migration from the given
// schema: complete under its final name, or not there at all.
func backupBefore(btx *bbolt.Tx, dir string, from int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := fmt.Sprintf("hive-schema%d-%s.db", from, time.Now().UTC().Format(StampFormat))
	return disk.WriteFile(filepath.Join(dir, name), false, func(f *os.File) error {
		_, err := btx.WriteTo(f)
		return err
	})
}

// downgradeHint says how to go back to the state before the upgrade from a schema that this
// build can use.
func downgradeHint(o Options, supported int) string {
	var backup string
	for schema := supported; schema > 0 && backup == ""; schema-- {
		paths, _ := filepath.Glob(filepath.Join(o.BackupDir, fmt.Sprintf("hive-schema%d-*.db", schema)))
		if len(paths) > 0 {
			backup = slices.Max(paths) // the time in their names sorts them
		}
	}
	if backup == "" {
		return "there is no backup from before the upgrade in " + o.BackupDir
	}
	return "or restore the state from before the upgrade with `hivectl db restore --data-dir " + filepath.Dir(o.Path) + " " + backup + "`"
}
