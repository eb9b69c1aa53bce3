package proc

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FindFeatures tries what this kernel and this place in it offer. It changes nothing.
func FindFeatures() Features {
	var f Features
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		inode, err := pidfdInode(fd)
		f.PidfdInode = err == nil && inode != 0
		// The ioctl is older (6.13) than the exit code in its answer.
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		f.ExitInfo = unix.IoctlPidfdInfo(fd, &info) == nil && kernelAtLeast(6, 15)
		closeAll(fd)
	}
	if m, err := findCgroupMount(); err == nil {
		own, ok := m.Of(os.Getpid())
		f.CgroupV2 = ok && unix.Access(filepath.Join(m.Dir, own), unix.W_OK) == nil
	}
	if err := Traces(); err != nil {
		f.NotTraced = err.Error()
	}
	return f
}

// kernelAtLeast is for what cannot be tried without a child that has ended.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var have [2]int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &have[0], &have[1]); err != nil {
		return false
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}
