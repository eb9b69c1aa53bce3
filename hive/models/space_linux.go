package models

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeSpace is what an unprivileged user could still write to the file system of
// dir. One without a size (ramfs) is not limited by one.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return math.MaxInt64, nil
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no file system has 2^63 bytes
}
