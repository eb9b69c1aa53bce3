package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// errNoFile: what a process writes to is no regular file.
var errNoFile = errors.New("it is no regular file")

// OpenOutput opens for reading the file that is the stdout of a process. Only a regular
// file is opened: what somebody else's process has there may be a fifo, which would
// block, or a device, which its own user need not have the right to open (O_PATH). It
// does not wait. Any error means that there is nothing to read.
func OpenOutput(pid int) (*os.File, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/fd/1"
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
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
