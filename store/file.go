package store

import (
	"errors"
	"io/fs"
	"os"

	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/page"
)

// WriteFile makes a file of mode 0600 that is complete under its name, or not
// there at all: fill writes a temporary file beside it, which is made durable
// before it gets the name. With overwrite false an existing file is an
// fs.ErrExist. Errors: also those of fill, and of the system.
func WriteFile(path string, overwrite bool, fill func(*os.File) error) error {
	return disk.WriteFile(path, overwrite, fill)
}

// SyncDir makes the names in a directory durable. It blocks on the disk.
func SyncDir(dir string) error { return disk.SyncDir(dir) }

// Unclaimed returns ErrClaimed if a hive of this state runs on this machine, as far
// as that can be seen (see the package's caveats).
func Unclaimed(stateID string) error {
	c, err := disk.NewClaim(stateID)
	if err != nil {
		return err
	}
	return c.Release()
}

// examine returns a *CorruptError if bbolt cannot read the file safely. It
// reads the whole file, and needs it not to be written meanwhile.
func examine(f *os.File, path string) error {
	err := page.Examine(f)
	// An error of reading is no damage: it may pass.
	if err == nil || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return asCorrupt(path, err)
}

// metaPageLost reports whether only one of the meta pages can be read.
func metaPageLost(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return page.OneMeta(f, info.Size()), nil
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
