package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rbeehive/store/plain"

	"golang.org/x/sys/unix"
)

// stat is what we need of /proc/<pid>/stat; the numbers are the field numbers of
// proc_pid_stat(5).
type stat struct {
	pid      int
	comm     string // 2
	state    byte   // 3
	parent   int    // 4
	session  int    // 6
	flags    uint64 // 9
	own      uint64 // 14 and 15: CPU time that it has used, in clock ticks
	waited   uint64 // 16 and 17: the same of children that it has waited for
	threads  int    // 20
	start    uint64 // 22
	resident uint64 // 24: pages
	exitCode int    // 52
}

const kernelThread = 0x00200000 // PF_KTHREAD in field 9

// zombie reports a process that is over. A leader that has ended while other
// threads of it serve on has state Z too, and is alive.
func (s *stat) zombie() bool {
	return s.state == 'X' || s.state == 'Z' && s.threads <= 1
}

// readStat reads raw instead of through prometheus/procfs, which parses all 52
// fields with Sscanf; here it is read for every process of the machine.
func readStat(pid int) (stat, error) {
	var buf [smallFile]byte
	b, err := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// smallFile is more than /proc/<pid>/stat and /proc/<pid>/io can have.
const smallFile = 2048

// readSmall reads a file of /proc in one read, as the kernel gives it out. os.ReadFile
// asks for its size, reads again for the end and goes through the poller.
func readSmall(path string, buf []byte) ([]byte, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		n, err := unix.Read(fd, buf)
		_ = unix.Close(fd)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		return buf[:n], nil
	}
}

// parseStat splits after the last parenthesis: comm is whatever the process
// chose, with blanks and parentheses in it if it likes.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return stat{}, fmt.Errorf("parse /proc/<pid>/stat: no command in %q", b)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 50 {
		return stat{}, fmt.Errorf("parse /proc/<pid>/stat: %d fields", len(f)+2)
	}
	field := func(n int) string { return f[n-3] }
	s := stat{comm: string(b[open+1 : end]), state: field(3)[0]}
	var errs [12]error
	var user, system, waitedUser, waitedSystem uint64
	s.pid, errs[0] = strconv.Atoi(strings.TrimSpace(string(b[:open])))
	s.parent, errs[1] = strconv.Atoi(field(4))
	s.session, errs[2] = strconv.Atoi(field(6))
	s.flags, errs[3] = strconv.ParseUint(field(9), 10, 64)
	s.threads, errs[4] = strconv.Atoi(field(20))
	s.start, errs[5] = strconv.ParseUint(field(22), 10, 64)
	s.exitCode, errs[6] = strconv.Atoi(field(52))
	user, errs[7] = strconv.ParseUint(field(14), 10, 64)
	system, errs[8] = strconv.ParseUint(field(15), 10, 64)
	waitedUser, errs[9] = strconv.ParseUint(field(16), 10, 64)
	waitedSystem, errs[10] = strconv.ParseUint(field(17), 10, 64)
	s.resident, errs[11] = strconv.ParseUint(field(24), 10, 64)
	s.own, s.waited = user+system, waitedUser+waitedSystem
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("parse /proc/<pid>/stat: %w", err)
	}
	return s, nil
}

// living returns the id under which the shared parts of a process (descriptors,
// environment) can be read: its own, or a thread's when the leader has ended.
func (s *stat) living() int {
	if s.state != 'Z' || s.threads <= 1 {
		return s.pid
	}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(s.pid) + "/task")
	if err != nil {
		return s.pid
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err == nil && tid != s.pid {
			return tid
		}
	}
	return s.pid
}

// pids lists /proc. With hidepid it is not everybody.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	out := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// file identifies an open file whatever its name is now.
type file struct{ dev, ino uint64 }

// logOf identifies a worker's log, and says whose it is. A symbolic link or a device that was put in its
// place would make members of all who have that device open: with a link to
// /dev/null most of the system's services, and a stop would end them.
func logOf(path string) (log file, owner uint32, ok bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return file{}, NoUser, false
	}
	return file{dev: uint64(st.Dev), ino: st.Ino}, st.Uid, true //nolint:unconvert // Dev is 32 bits wide on some architectures
}

// fileOf says which file a path leads to. It asks no server for that: a process may have
// a file of a mount open whose server, another process or machine, does not answer.
func fileOf(path string) (file, bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return file{}, false
	}
	return file{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}, true
}

// programOf names a process for a person, as plain text: both names are whatever its
// user likes.
func programOf(s *stat) string {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(s.living()) + "/exe")
	if err != nil {
		return plain.Text(s.comm)
	}
	return plain.Text(filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
}

// socketsOf returns the inodes of all sockets that a process has open. ErrGone
// where /proc does not have it: it has ended, or is hidden from us (hidepid).
func socketsOf(ctx context.Context, pid int) (map[uint64]bool, error) {
	s, err := readStat(pid)
	if gone(err) {
		return nil, fmt.Errorf("sockets of process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("sockets of process %d: %w", pid, err)
	}
	dir := "/proc/" + strconv.Itoa(s.living()) + "/fd"
	fds, err := os.ReadDir(dir)
	if gone(err) {
		return nil, fmt.Errorf("sockets of process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("sockets of process %d: %w", pid, err)
	}
	out := make(map[uint64]bool)
	for _, fd := range fds {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		link, err := os.Readlink(dir + "/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		number, ok := strings.CutPrefix(link, "socket:[")
		if !ok {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err == nil {
			out[inode] = true
		}
	}
	return out, nil
}

// gone reports the errors with which /proc says that a process ended while it was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
