package space

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// allocate gives blocks to a part of the file without changing its length
// (fallocate(2), FALLOC_FL_KEEP_SIZE). What is allocated already stays as it is.
func allocate(file *os.File, offset, length int64) error {
	for {
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, length)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return errNoPreallocation
		}
		return fmt.Errorf("allocate %d bytes at %d: %w", length, offset, err)
	}
}

// Free is what an unprivileged user could still write to the file system.
// One without a size (ramfs) is not limited by one.
func Free(file *os.File) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	if st.Blocks == 0 {
		return 0, errNoPreallocation
	}
	return int64(st.Bavail) * st.Bsize, nil
}
