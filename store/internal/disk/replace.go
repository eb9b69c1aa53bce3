package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// WriteFile makes a file of mode 0600 that is complete under its name, or not
// there at all: fill writes a temporary file beside it, which is made durable
// before it gets the name. With overwrite false an existing file is an
// fs.ErrExist. Errors: also those of fill, and of the system.
func WriteFile(path string, overwrite bool, fill func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(temp.Name())))
		}
	}()
	err = fill(temp)
	if err == nil {
		// Before it gets its name, which could else stand for an empty file after a power cut.
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err != nil {
		return err
	}
	if overwrite {
		err = os.Rename(temp.Name(), path)
	} else if err = os.Link(temp.Name(), path); err == nil { // unlike rename it does not replace
		err = os.Remove(temp.Name())
	} else if !errors.Is(err, fs.ErrExist) {
		err = renameNew(temp.Name(), path) // a file system without hard links
	}
	if err != nil {
		return err
	}
	// The name is durable only with its directory.
	return SyncDir(dir)
}

func renameNew(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Replace puts the file fresh, which is durable, in the place of path. What was there is
// kept as savedAs, unless that is empty. At no moment is there no file at path: a hive that
// started then would begin with nothing.
func Replace(fresh, path, savedAs string) error {
	if savedAs != "" {
		if err := linkOrCopy(path, savedAs); err != nil {
			return fmt.Errorf("save the present file: %w", err)
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// PutNew puts the file fresh, which is durable, at path, where no file was. One that has
// been created since, by a hive that was started, is kept: it is a *LockedError.
func PutNew(fresh, path string) error {
	err := os.Link(fresh, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = renameNew(fresh, path) // a file system without hard links
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return &LockedError{Path: path, PID: LockHolder(path)}
	case err != nil:
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// linkOrCopy gives a file a second name, or copies it where there are no hard links. A
// missing file is no error.
func linkOrCopy(path, savedAs string) error {
	err := os.Link(path, savedAs)
	switch {
	case err == nil:
		return SyncDir(filepath.Dir(savedAs))
	case errors.Is(err, fs.ErrNotExist):
		return nil
	// Another file that was put aside is kept.
	case errors.Is(err, fs.ErrExist):
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	return WriteFile(savedAs, false, func(to *os.File) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// Discard removes a file that is not needed any more.
func Discard(path string) { _ = os.Remove(path) } // what remains is a hidden file that nobody reads

// staleTempAge is how old a temporary file must be to be removed: its process was killed.
const staleTempAge = time.Hour

// TempBeside creates an empty file beside path, mode 0600, and removes stale ones, which
// processes that were killed have left: each is as large as the state file.
func TempBeside(path, what string) (string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := strings.TrimLeft(e.Name(), ".") // WriteFile puts a dot before the name of its own
		if name == e.Name() || !strings.HasPrefix(name, filepath.Base(path)+"."+what+"-") {
			continue
		}
		// A younger one may be in use.
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > staleTempAge {
			Discard(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"."+what+"-*")
	if err != nil {
		return "", err
	}
	return temp.Name(), temp.Close()
}
