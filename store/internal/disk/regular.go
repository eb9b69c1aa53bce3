package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// NotRegularError says that there is something at the path of a state file that is no file.
type NotRegularError struct {
	Path string
	Kind string // "a fifo", say
}

func (e *NotRegularError) Error() string { return e.Path + " is " + e.Kind + ", not a regular file" }

// Regular returns a *NotRegularError if there is anything but a regular file, or a link to
// one, at path. It opens nothing: a fifo would make the caller wait, and some devices act when
// they are opened. Errors besides: the system's.
func Regular(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		return regular(path, info)
	}
	if there, lstatErr := os.Lstat(path); lstatErr == nil && there.Mode().Type() == os.ModeSymlink && !errors.Is(err, fs.ErrPermission) {
		return &NotRegularError{path, "a symbolic link that leads nowhere"}
	}
	return err
}

func regular(path string, info fs.FileInfo) error {
	kind := "something else"
	switch info.Mode().Type() {
	case 0:
		return nil
	case os.ModeDir:
		kind = "a directory"
	case os.ModeNamedPipe:
		kind = "a fifo"
	case os.ModeSocket:
		kind = "a socket"
	case os.ModeDevice, os.ModeDevice | os.ModeCharDevice:
		kind = "a device"
	}
	return &NotRegularError{path, kind}
}

// OpenRegular opens what Regular has nothing against, by open, and looks once more at what it
// has opened. It waits for nobody, unless the file system does.
func OpenRegular(path string, flag int, open func(string, int, fs.FileMode) (*os.File, error)) (*os.File, error) {
	if err := Regular(path); err != nil {
		return nil, err
	}
	f, err := open(path, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
