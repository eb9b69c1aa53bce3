package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"rbeehive/store/plain"
	"rbeehive/store/procread"
)

// Stat is what is needed of /proc/<pid>/stat; the numbers are the field numbers of
// proc_pid_stat(5).
type Stat struct {
	PID         int
	Comm        string // 2: whatever the process calls itself, at most 15 bytes
	State       byte   // 3
	Parent      int    // 4
	Session     int    // 6
	Flags       uint64 // 9
	OwnTicks    uint64 // 14 and 15: CPU time that it has used, in clock ticks
	WaitedTicks uint64 // 16 and 17: the same of children that it has waited for
	Threads     int    // 20
	Start       uint64 // 22: clock ticks since boot
	Resident    uint64 // 24: pages
	ExitCode    int    // 52
}

const kernelThread = 0x00200000 // PF_KTHREAD in field 9

// KernelThread reports a thread of the kernel.
func (s *Stat) KernelThread() bool { return s.Flags&kernelThread != 0 }

// Zombie reports a process that has ended. A leader that has ended while other
// threads of it serve on has state Z too, and is alive.
func (s *Stat) Zombie() bool {
	return s.State == 'X' || s.State == 'Z' && s.Threads <= 1
}

// Traced reports whether a process stands still for its tracer (ptrace(2)); false if that
// cannot be read.
func Traced(pid int) bool {
	s, err := ReadStat(pid)
	return err == nil && s.State == 't'
}

// ReadStat reads the stat of a process. See Gone for one that has ended; of one that is held
// in an execve the error is procread.ErrHeld.
func ReadStat(pid int) (Stat, error) {
	return procread.Read(pid, func(procread.Progress) (Stat, error) {
		buf := buffers.Get().(*[SmallFile]byte)
		defer buffers.Put(buf)
		b, err := ReadSmall(path(pid, "stat"), buf[:])
		if err != nil {
			return Stat{}, err
		}
		return ParseStat(b)
	})
}

// buffers are for reads in goroutines of their own, whose stack would have to grow for one.
var buffers = sync.Pool{New: func() any { return new([SmallFile]byte) }}

// ParseStat reads a /proc/<pid>/stat.
func ParseStat(b []byte) (Stat, error) {
	// The last parenthesis ends comm: there may be blanks and parentheses in it.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return Stat{}, fmt.Errorf("parse /proc/<pid>/stat: no command in %q", b)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 50 {
		return Stat{}, fmt.Errorf("parse /proc/<pid>/stat: %d fields", len(f)+2)
	}
	// The fields after the command begin with the third.
	field := func(n int) string { return f[n-3] }
	s := Stat{Comm: string(b[open+1 : end]), State: field(3)[0]}
	var errs [12]error
	var user, system, waitedUser, waitedSystem uint64
	s.PID, errs[0] = strconv.Atoi(strings.TrimSpace(string(b[:open])))
	s.Parent, errs[1] = strconv.Atoi(field(4))
	s.Session, errs[2] = strconv.Atoi(field(6))
	s.Flags, errs[3] = strconv.ParseUint(field(9), 10, 64)
	s.Threads, errs[4] = strconv.Atoi(field(20))
	s.Start, errs[5] = strconv.ParseUint(field(22), 10, 64)
	s.ExitCode, errs[6] = strconv.Atoi(field(52))
	user, errs[7] = strconv.ParseUint(field(14), 10, 64)
	system, errs[8] = strconv.ParseUint(field(15), 10, 64)
	waitedUser, errs[9] = strconv.ParseUint(field(16), 10, 64)
	waitedSystem, errs[10] = strconv.ParseUint(field(17), 10, 64)
	s.Resident, errs[11] = strconv.ParseUint(field(24), 10, 64)
	s.OwnTicks, s.WaitedTicks = user+system, waitedUser+waitedSystem
	if err := errors.Join(errs[:]...); err != nil {
		return Stat{}, fmt.Errorf("parse /proc/<pid>/stat: %w", err)
	}
	return s, nil
}

// ReadableID returns the id under which the shared parts of a process (descriptors,
// environment) can be read: its own, or a thread's when the leader has ended.
func (s *Stat) ReadableID() int {
	if s.State != 'Z' || s.Threads <= 1 {
		return s.PID
	}
	// Of a leader that has ended neither can be read; of its threads both can.
	tasks, err := os.ReadDir(path(s.PID, "task"))
	if err != nil {
		return s.PID
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err == nil && tid != s.PID {
			return tid
		}
	}
	return s.PID
}

// Program names the process for a person, as plain text: the base name of its
// executable, or its comm where that cannot be read. Both are whatever its user likes.
func (s *Stat) Program() string {
	id := s.ReadableID()
	exe, err := procread.Read(id, func(procread.Progress) (string, error) { return os.Readlink(path(id, "exe")) })
	if err != nil {
		return plain.Text(s.Comm)
	}
	return plain.Text(filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
}
