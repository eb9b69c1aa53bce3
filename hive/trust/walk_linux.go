package trust

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links are followed, as by the kernel
// (path_resolution(7)).
const maxLinks = 40

// walk is the resolution of one path: what the kernel does for open(2), but that every
// step is looked at.
type walk struct {
	self  identity
	asked string   // as the caller has it
	goal  string   // what it is all for, absolute
	rest  []string // components that are still to be walked
	dir   entry    // the directory that has been reached, and is passed
	at    entry    // what was found in it last
	links int      // that were followed
	loose []entry  // what others may write to
	// mkdir makes a directory that is missing; nil: nothing is made.
	mkdir func(dir int, name string) error
}

// entry is something that was opened, for most only by its place (O_PATH).
type entry struct {
	name, path string
	fd         int // -1: none
	stat       unix.Stat_t
	as         role // in which it was checked
}

// role is what an entry is for a walk.
type role int

const (
	passed   role = iota // a directory on the way
	followed             // a symbolic link on the way
	owned                // what was asked for, and its mode is the caller's to look at
	own                  // what was asked for
)

func newWalk(path string) *walk {
	return &walk{self: self(), asked: path, dir: entry{fd: -1}, at: entry{fd: -1}}
}

func (w *walk) close() {
	w.dir.close()
	w.at.close()
}

func (e *entry) close() {
	if e.fd >= 0 {
		_ = unix.Close(e.fd) // nothing was written to it
		e.fd = -1
	}
}

func (e *entry) kind() uint32 { return e.stat.Mode & unix.S_IFMT }

// writable reports whether the group or others may write to it.
func (e *entry) writable() bool { return e.stat.Mode&0o022 != 0 }

// run walks to the end of the path. What it returns is no symbolic link, and the way to
// it was checked; itself it was not.
func (w *walk) run() (*entry, error) {
	if w.asked == "" {
		return nil, w.failed(unix.ENOENT)
	}
	full, err := filepath.Abs(w.asked)
	if err != nil {
		return nil, err
	}
	w.goal = cmp.Or(w.goal, full)
	w.rest = components(full)
	if err := w.fromRoot(); err != nil {
		return nil, err
	}
	for len(w.rest) > 0 {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.openEntry(name); err != nil {
			return nil, err
		}
		switch kind := w.at.kind(); {
		case kind == unix.S_IFLNK:
			err = w.follow()
		case len(w.rest) == 0:
			return &w.at, nil
		case kind != unix.S_IFDIR:
			err = w.failed(unix.ENOTDIR)
		default:
			err = w.enter()
		}
		if err != nil {
			return nil, err
		}
	}
	return &w.at, w.openEntry(".") // the root itself
}

func components(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(c string) bool { return c == "" || c == "." })
}

// fromRoot begins at the root directory.
func (w *walk) fromRoot() error {
	fd, err := openat(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return w.failed(err)
	}
	w.at.close()
	w.at = entry{name: "/", path: "/", fd: fd}
	if err := unix.Fstat(fd, &w.at.stat); err != nil {
		return w.failed(err)
	}
	return w.enter()
}

// openEntry opens an entry of the directory without following it. A directory that is
// missing is made, if that is wanted.
func (w *walk) openEntry(name string) error {
	w.at.close()
	fd, err := w.place(name)
	if errors.Is(err, unix.ENOENT) && w.mkdir != nil {
		// Checked first: what is made where others may write could be exchanged by them.
		if err := w.verdict(); err != nil {
			return err
		}
		// Somebody else may have made it just now; it is checked like any other.
		if err := w.mkdir(w.dir.fd, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return w.failed(err)
		}
		fd, err = w.place(name)
	}
	if err != nil {
		return w.failed(err)
	}
	w.at = entry{name: name, path: filepath.Join(w.dir.path, name), fd: fd}
	if err := unix.Fstat(fd, &w.at.stat); err != nil {
		return w.failed(err)
	}
	return nil
}

// place opens the place of an entry, which touches neither a device nor a fifo. With
// O_DIRECTORY first: only that has an automount mounted (open(2), O_PATH).
func (w *walk) place(name string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := openat(w.dir.fd, name, flags|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) {
		fd, err = openat(w.dir.fd, name, flags)
	}
	return fd, err
}

// enter makes the directory that was found the one that has been reached.
func (w *walk) enter() error {
	if err := w.check(&w.at, passed); err != nil {
		return err
	}
	w.dir.close()
	w.dir, w.at = w.at, entry{fd: -1}
	return nil
}

// follow puts the target of the link that was found before what is still to be walked.
func (w *walk) follow() error {
	if w.links++; w.links > maxLinks {
		return w.failed(unix.ELOOP)
	}
	if err := w.check(&w.at, followed); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(w.at.fd, &fs); err != nil {
		return w.failed(err)
	}
	// Such a link leads to an open file, not to the path in its text.
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("%s is a link of /proc, whose text is not a path; give the path of a file", w.at.path)
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(w.at.fd, "", text)
	if err != nil {
		return w.failed(err)
	}
	// It may be cut off, and part of a path is another path.
	if n == len(text) {
		return w.failed(unix.ENAMETOOLONG)
	}
	target := string(text[:n])
	// Any ".." in it stays: it means the parent of where the walk is by then.
	w.rest = append(components(target), w.rest...)
	if filepath.IsAbs(target) {
		return w.fromRoot()
	}
	return nil
}

// check says at once whether the owner of an entry is trusted. What others may write to is
// noted for the verdict, so that one command mends all of it.
func (w *walk) check(e *entry, as role) error {
	e.as = as
	if w.self.sealed(e.fd) {
		return nil
	}
	uid := e.stat.Uid
	believed := w.self.trusts(uid)
	// Only on the way: of what was asked for, the owner must be known.
	if as == passed || as == followed {
		believed = believed || w.self.unmapped(uid)
	}
	if !believed {
		return w.foreign(e)
	}
	switch sticky := e.stat.Mode&unix.S_ISVTX != 0; as {
	case passed:
		if e.writable() && !sticky {
			w.loose = append(w.loose, *e)
		}
	case own:
		if e.writable() {
			w.loose = append(w.loose, *e)
		}
	}
	return nil
}

// conclude checks what the walk has led to, and says what is wrong with all of the way.
func (w *walk) conclude(e *entry, as role) error {
	if err := w.check(e, as); err != nil {
		return err
	}
	return w.verdict()
}

// verdict is the error for what others may write to; nil if there is nothing.
func (w *walk) verdict() error {
	if len(w.loose) == 0 {
		return nil
	}
	return w.writableByOthers()
}
