package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Open opens a regular file that is trusted, for reading. It waits for nobody, unless a
// file system on the way does. Errors: *Error, fs.ErrNotExist, and the system's.
func Open(path string) (*os.File, error) {
	w := newWalk(path)
	defer w.close()
	e, err := w.file()
	if err != nil {
		return nil, err
	}
	// Relative to the directory that was checked: by path the way could have changed.
	fd, err := openat(w.dir.fd, e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return nil, w.failed(err)
	}
	// Once more: this is the one that will be read.
	opened := entry{name: e.name, path: e.path, fd: fd}
	if err := w.examine(&opened); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// File checks that there is a regular file at path that is trusted. Errors: *Error,
// fs.ErrNotExist, and the system's.
func File(path string) error {
	w := newWalk(path)
	defer w.close()
	_, err := w.file()
	return err
}

// Dir checks that there is a directory at path that is trusted: nobody but root and hive's
// user can make, rename or remove anything in it. Errors: *Error, fs.ErrNotExist, and the
// system's.
func Dir(path string) error {
	w := newWalk(path)
	defer w.close()
	e, err := w.directory()
	if err != nil {
		return err
	}
	return w.conclude(e, own)
}

// Parent checks the directory that path is in, or is to be made in: nobody but root and
// hive's user can exchange what they have there. It may be a sticky one such as /tmp.
// Errors as of Dir.
func Parent(path string) error {
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	w := newWalk(filepath.Dir(full))
	// Errors are to name what the caller wants to use.
	w.goal = full
	defer w.close()
	e, err := w.directory()
	if err != nil {
		return err
	}
	return w.conclude(e, passed)
}

// MkdirAll makes a directory, and those on its way that are missing, with mode perm less
// the umask; nothing is created in a directory that is not trusted. One that is there
// already must belong to root or to hive's user; its mode is the caller's to look at.
// Errors: *Error, and the system's.
func MkdirAll(path string, perm fs.FileMode) error {
	w := newWalk(path)
	defer w.close()
	w.mkdir = func(dir int, name string) error { return unix.Mkdirat(dir, name, uint32(perm.Perm())) }
	e, err := w.directory()
	if err != nil {
		return err
	}
	return w.conclude(e, owned)
}

// Owned reports whether a file belongs to root or to hive's user. Of a file that was
// opened it is certain; whether others may write to it, or how it was come to, is not
// asked. info is of package os.
func Owned(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && self().trusts(st.Uid)
}

// file walks to a regular file, and checks it.
func (w *walk) file() (*entry, error) {
	e, err := w.run()
	if err != nil {
		return nil, err
	}
	return e, w.examine(e)
}

// examine checks an opened entry that is to be a regular file.
func (w *walk) examine(e *entry) error {
	if err := unix.Fstat(e.fd, &e.stat); err != nil {
		return w.failed(err)
	}
	// Opened only by its place so far (O_PATH), so a fifo or device has made nobody wait.
	if e.kind() != unix.S_IFREG {
		return notRegular(e.path, fileMode(&e.stat))
	}
	return w.conclude(e, own)
}

// directory walks to a directory.
func (w *walk) directory() (*entry, error) {
	e, err := w.run()
	if err == nil && e.kind() != unix.S_IFDIR {
		err = notDirectory(e.path)
	}
	return e, err
}

// failed is an error of the system about what was asked for.
func (w *walk) failed(err error) error {
	return &fs.PathError{Op: "open", Path: w.asked, Err: err}
}

// openat retries what a signal has interrupted, as package os does.
func openat(dir int, name string, flags int) (fd int, err error) {
	for {
		fd, err = unix.Openat(dir, name, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// fileMode is the kind and the permissions of a file as package os has them.
func fileMode(st *unix.Stat_t) fs.FileMode {
	mode := fs.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	return mode
}
