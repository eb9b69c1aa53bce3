package logs

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// collapseHead takes the first n bytes out of a file, in whole blocks and before
// its end. What is appended meanwhile, or waits to be, stays whole.
func collapseHead(f *os.File, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// collapseUnit finds out by trial in what units the head of a file in dir can be
// taken away; 0: it cannot. ext4, xfs and f2fs can; tmpfs, btrfs, zfs and network file
// systems cannot. The unit is a multiple of what the file system needs.
func collapseUnit(dir string) int64 {
	name := filepath.Join(dir, "probe.log.new") // if hive is killed right here it goes as an orphan
	_ = os.Remove(name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) //nolint:gosec // in hive's own directory, and made by this open
	if err != nil {
		return 0
	}
	defer f.Close()
	// Without a name from here on, so that a kill leaves nothing behind.
	if os.Remove(name) != nil {
		return 0
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return 0
	}
	unit := max(MinSize, st.Bsize)
	if unit > 1<<20 || unit%MinSize != 0 {
		return 0
	}
	second := bytes.Repeat([]byte{2}, int(unit))
	if _, err := f.Write(append(bytes.Repeat([]byte{1}, int(unit)), second...)); err != nil || collapseHead(f, unit) != nil {
		return 0
	}
	got := make([]byte, unit+1)
	// Believed only if the bytes are right: it is the logs that a wrong answer would cost.
	if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], second) {
		return 0
	}
	return unit
}

// nextData returns the first position from at on that is in no hole (lseek(2), SEEK_DATA,
// Linux 3.1); below 0 if only a hole is left, or the file ends before. Where the file
// system does not tell, that is at.
func nextData(f *os.File, at int64) int64 {
	pos, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return -1
	}
	if err != nil {
		return at
	}
	return pos
}

// nextHole returns the first position from at on that is in a hole, the end of the file
// being one. Where the file system does not tell, that is beyond every file.
func nextHole(f *os.File, at int64) int64 {
	pos, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE)
	if err != nil {
		return math.MaxInt64
	}
	return pos
}

// maxHoles bounds the search for holes.
const maxHoles = 1000

// dataIn returns where the first data of a file before end begins, and how much of what
// is there is data and not a hole. Where the file system does not tell, all of it is.
func dataIn(f *os.File, end int64) (first, amount int64) {
	first, at := end, int64(0)
	for range maxHoles {
		data := nextData(f, at)
		if data < 0 || data >= end {
			return first, amount
		}
		hole := min(nextHole(f, data), end)
		first, amount, at = min(first, data), amount+max(hole-data, 0), hole
	}
	// Too many holes to look at: the rest counts as data, and is rotated rather than not.
	return first, amount + max(end-at, 0)
}

// allocated is how much of the disk a file takes, in bytes: less than its size if it
// has holes, more if room was set aside beyond its end (fallocate(2)).
func allocated(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512 // stat(2)
	}
	return fi.Size()
}

// freeSpace is what an unprivileged user could still write to the file system of
// dir. It is not known of one without a size, which is not limited by one.
func freeSpace(dir string) (free int64, known bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true //nolint:gosec // no file system has 2^63 bytes
}
