package nospace

import (
	"math"

	"golang.org/x/sys/unix"
)

// In asks what the file system of a directory has left.
func In(dir string) (Left, error) {
	left := Left{math.MaxInt64, math.MaxInt64}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return left, err
	}
	if st.Blocks > 0 { // ramfs has none, and no limit
		left.Bytes = int64(st.Bavail) * st.Bsize
	}
	if st.Files > 0 { // btrfs makes inodes as it needs them
		left.Inodes = int64(min(st.Ffree, math.MaxInt64))
	}
	return left, nil
}
