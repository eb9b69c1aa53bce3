package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SmallFile is more than stat, status and io of a process, and cpu.stat of a cgroup as
// far as it is needed, can have in bytes.
const SmallFile = 2048

// path is that of a file of a process.
func path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// ReadSmall reads a file of the kernel's in one read, into buf at most. os.ReadFile
// asks for its size, reads again for the end and goes through the poller.
func ReadSmall(path string, buf []byte) ([]byte, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		// The kernel makes the text at the read: two reads could be of two moments.
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

// PIDs lists the processes. With hidepid it is not all of them.
func PIDs() ([]int, error) {
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

// Gone reports the errors with which /proc says that a process ended while it was
// read, or was not there.
func Gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
