package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store/procread"
)

// errNoFile: what a process writes to is not a regular file.
var errNoFile = errors.New("it is not a regular file")

// OpenOutput opens for reading the file that is the stdout of a process. Only a regular
// file is opened: what somebody else's process has there may be a fifo, which would
// block, or a device, which its own user need not have the right to open. It does not
// block. Any error means that there is nothing to read.
func OpenOutput(pid int) (*os.File, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/fd/1"
	// O_PATH opens nothing of a device or fifo, and holds what it is for the real open.
	fd, err := procread.Read(pid, func(procread.Progress) (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("open the output of process %d: %w", pid, err)
	}
	defer closeAll(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open the output of process %d: %w", pid, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("open the output of process %d: %w", pid, errNoFile)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the output of process %d: %w", pid, err)
	}
	return f, nil
}

// logFile identifies a worker's log, and says who owns it. A symbolic link or a device in
// its place is none: it would make members of every process that has that device open.
// With a link to /dev/null that is most of the system's services, and a stop would end
// them.
func logFile(path string) (log procfs.FileID, owner uint32, ok bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return procfs.FileID{}, NoUser, false
	}
	return procfs.FileID{Dev: uint64(st.Dev), Ino: st.Ino}, st.Uid, true //nolint:unconvert // Dev is 32 bits wide on some architectures
}
