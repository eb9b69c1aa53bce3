package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
)

// Populated reports whether a process that is not a zombie is in the cgroup or below
// it. A cgroup that has been removed has none. With an error it is true.
func Populated(dir string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("read %s/cgroup.events: %w", dir, err)
	}
	return !slices.Contains(strings.Split(string(b), "\n"), "populated 0"), nil
}

// PIDs lists the processes in the cgroup and below it, zombies included.
func PIDs(dir string) []int {
	var out []int
	for _, d := range dirs(dir) {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			continue // a child cgroup that was removed meanwhile has no processes
		}
		for field := range strings.FieldsSeq(string(b)) {
			// 0 stands for a process of another PID namespace.
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
	}
	return out
}

// IDs returns the ids (directory inodes) of the cgroup and those below it, as the kernel
// gives them for a socket.
func IDs(dir string) map[uint64]bool {
	out := make(map[uint64]bool)
	for _, d := range dirs(dir) {
		if f, ok := procfs.FileOf(d); ok {
			out[f.Ino] = true
		}
	}
	return out
}

// dirs lists the cgroup and those below it, a parent before its children. What cannot
// be read has been removed meanwhile.
func dirs(dir string) []string {
	var out []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			out = append(out, p)
		}
		return nil
	})
	return out
}

// Enter moves a process into the cgroup. It blocks for some milliseconds: the kernel
// waits for all CPUs.
func Enter(dir string, pid int) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// Kill kills all that is in the cgroup and below it, atomically (kernel >= 5.14;
// fs.ErrNotExist before).
func Kill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("1")
	return err
}

const (
	// removeTries is how often an empty cgroup is tried to be removed.
	removeTries = 50
	// removeInterval lies between two tries.
	removeInterval = 2 * time.Millisecond
)

// Remove removes an empty cgroup and those below it. It blocks for 100 ms at most for
// each, or until ctx ends: the kernel says EBUSY for a moment after the last process has
// gone.
func Remove(ctx context.Context, dir string) error {
	// Children first: a cgroup with one below it cannot be removed.
	for _, d := range slices.Backward(dirs(dir)) {
		err := unix.Rmdir(d)
		for tries := 0; errors.Is(err, unix.EBUSY) && tries < removeTries && ctx.Err() == nil; tries++ {
			select {
			case <-ctx.Done():
			case <-time.After(removeInterval):
			}
			err = unix.Rmdir(d)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove cgroup %s: %w", d, err)
		}
	}
	return nil
}

// CPUTime is the CPU time used in the cgroup and below it, by processes that have ended
// too. The file is there without the cpu controller (kernel >= 4.15).
func CPUTime(dir string) (time.Duration, error) {
	var buf [procfs.SmallFile]byte // usage_usec is the first line
	text, err := procfs.ReadSmall(filepath.Join(dir, "cpu.stat"), buf[:])
	if err != nil {
		return 0, err
	}
	usec, err := ParseCounter(text, "usage_usec")
	if err != nil {
		return 0, fmt.Errorf("parse %s/cpu.stat: %w", dir, err)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// OOMKills is how many processes of the cgroup the kernel has killed for want of memory.
// It starts at 0 with the cgroup; without a memory controller there is no such file, and
// it is 0.
func OOMKills(dir string) uint64 {
	text, err := os.ReadFile(filepath.Join(dir, "memory.events"))
	if err != nil {
		return 0
	}
	n, _ := ParseCounter(text, "oom_kill") // 0 is "none seen"
	return n
}

// ParseCounter finds a counter in a file with one to a line, as "name value".
func ParseCounter(text []byte, name string) (uint64, error) {
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == name {
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", name)
}
