package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// log is a worker's log with what was moved out of it. A position in it is a number
// of bytes that does not change when the log is rotated: base is the position at which
// the file that the worker appends to begins. Lock order: changing before mu.
type log struct {
	path  string
	local bool // it lies in the Dir and not in one that was copied

	changing   sync.Mutex // held while files are moved or removed
	loaded     sync.Once
	first      os.FileInfo // the file as it was when it was first rotated; with changing
	noCollapse bool        // its head cannot be taken away, though others' can; with changing
	warned     atomic.Bool // its trouble has been reported

	mu      sync.RWMutex // held for writing only while positions change, never while bytes are copied
	base    int64
	rotated []segment // newest first
}

// segment is what lies from begin to end: in the n-th rotated file, or with n 0 in the
// log itself.
type segment struct {
	n          int
	begin, end int64
}

func (l *log) rotatedPath(n int) string { return l.path + "." + strconv.Itoa(n) }
func (l *log) tempPath() string         { return l.path + ".new" }

// load looks, once, for what was moved before this hive was started.
func (l *log) load(keep int) {
	l.loaded.Do(func() {
		// What lies elsewhere may be another hive's, which writes there: it is only read.
		if l.local {
			l.repair()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		// What was moved before lies below 0: base is 0 where the log itself begins.
		end := int64(0)
		for n := 1; ; n++ {
			fi, err := os.Lstat(l.rotatedPath(n))
			if err != nil && n > keep { // a number may be left out, and more may have been kept before
				return
			}
			if err == nil && fi.Mode().IsRegular() {
				l.rotated = append(l.rotated, segment{n, end - fi.Size(), end})
				end -= fi.Size()
			}
		}
	})
}

// repair cleans up after a hive that was killed while it rotated: what it was writing
// goes, and so does a rotated file that is still the head of the log.
func (l *log) repair() {
	_ = os.Remove(l.tempPath()) // mostly there is none
	first, err := openRegular(l.rotatedPath(1), os.O_RDONLY)
	if err != nil {
		return
	}
	defer first.Close()
	live, err := openRegular(l.path, os.O_RDONLY)
	if err != nil {
		return
	}
	defer live.Close()
	a, errA := first.Stat()
	b, errB := live.Stat()
	// What was moved is at least a block, and still all in the log if its head was not taken away.
	if errA != nil || errB != nil || a.Size() < MinSize || a.Size() > b.Size() {
		return
	}
	one, other := make([]byte, smallBlock), make([]byte, smallBlock)
	for {
		n, err := first.Read(one)
		if n == 0 && errors.Is(err, io.EOF) {
			// Equal to its end: readers would get those lines twice.
			_ = os.Remove(l.rotatedPath(1))
			return
		}
		if _, err := io.ReadFull(live, other[:n]); n == 0 || err != nil || !bytes.Equal(one[:n], other[:n]) {
			return
		}
	}
}

// written is Dir.Written.
func (l *log) written() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if fi, err := os.Lstat(l.path); err == nil {
		return l.base + fi.Size()
	}
	return l.base
}

// openRegular opens a file, and nothing it may have been replaced by: a symbolic
// link would show, or have hive change, any file of its user, and opening a fifo
// would hang. It does not wait for who has a lease on the file, as its owner can
// (fcntl(2), F_SETLEASE).
func openRegular(path string, flag int) (*os.File, error) {
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // in hive's own directory, and looked at before and after
	if errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("%s: a process of its owner has a lease on it (fcntl(2), F_SETLEASE)", path)
	}
	if err != nil {
		return nil, err
	}
	// O_NOFOLLOW keeps out links, but no fifo and no device that came after the first look.
	after, err := file.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
