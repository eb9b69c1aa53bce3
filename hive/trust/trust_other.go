//go:build !linux

package trust

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Open opens a regular file to be read. Here nothing else is checked.
func Open(path string) (*os.File, error) {
	if err := File(path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// File checks that there is a regular file. Here nothing else is checked.
func File(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path, info.Mode())
	}
	return err
}

// Dir checks that there is a directory. Here nothing else is checked.
func Dir(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = notDirectory(path)
	}
	return err
}

// Parent checks that the directory of path is there. Here nothing else is checked.
func Parent(path string) error {
	return Dir(filepath.Dir(path))
}

// MkdirAll is os.MkdirAll here.
func MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// Owned returns true here.
func Owned(fs.FileInfo) bool { return true }
