package disk

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrClaimed and LockedError are documented in package store, which exports them.
var ErrClaimed = errors.New("state is in use by a running hive")

// LockedError says that another process has the state file open.
type LockedError struct {
	Path string
	PID  int // the holder; 0 if the system does not say
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("state file %s is held by a process that cannot be seen from here: is a hive already running on this directory, in another container perhaps?", e.Path)
	}
	return fmt.Sprintf("state file %s is held by process %d: is a hive already running on this directory?", e.Path, e.PID)
}

// ID is what tells a file from its copies. Born is its time of creation in
// nanoseconds since 1970; 0 if the file system keeps none.
type ID struct {
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born int64  `json:"born,omitempty"`
}

// Same compares what both sides know. Where files have no identity (other
// systems than Linux) every file is the same.
func (f ID) Same(g ID) bool {
	if f == (ID{}) || g == (ID{}) {
		return true
	}
	if f.Born != 0 && g.Born != 0 && f.Born != g.Born {
		return false
	}
	return f.Dev == g.Dev && f.Ino == g.Ino
}

// lockTimeout is how long a lock is waited for: a process that a killed hive was just starting has the
// file until it executes its program, which takes its time on a busy machine.
const lockTimeout = time.Second

// LockHere locks an open file, and makes sure that it is still the one of that name. It blocks for up to
// a second if another process has it. Errors: *LockedError, the system's.
func LockHere(file *os.File, path string, exclusive bool) error {
	take := LockShared
	if exclusive {
		take = Lock
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		locked, err := take(file)
		switch {
		case err != nil:
			return err
		case locked && Named(file, path):
			return nil
		case locked || time.Since(begin) > lockTimeout: // the one of that name is another's file
			return &LockedError{Path: path, PID: LockHolder(path)}
		}
	}
}

// Named reports whether path names the open file. Between open and lock it may have been
// replaced, and a lock on it would protect nothing.
func Named(file *os.File, path string) bool {
	ours, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(ours, there)
}

// SyncDir makes the names in a directory durable. It blocks on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
