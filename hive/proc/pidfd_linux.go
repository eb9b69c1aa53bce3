package proc

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidfdInode returns 0 on kernels before 6.9, where all pidfds share one
// anonymous inode: recorded, that would make every process look like the same one.
func pidfdInode(fd int) (uint64, error) {
	var sys unix.Statfs_t
	if err := unix.Fstatfs(fd, &sys); err != nil {
		return 0, fmt.Errorf("pidfd: fstatfs: %w", err)
	}
	if int64(sys.Type) != unix.PID_FS_MAGIC { //nolint:unconvert // 32 bits wide on some architectures
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("pidfd: fstat: %w", err)
	}
	return st.Ino, nil
}

// hasEnded reports whether the process of a pidfd has ended: all its threads, not merely
// the first one. It does not block.
func hasEnded(fd int) bool {
	// A pidfd is readable when the process is over, reaped or not (pidfd_open(2)).
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n == 1 && p[0].Revents&(unix.POLLIN|unix.POLLHUP) != 0
	}
}

// noSuchProcess reports the errors of pidfd_open(2) that prove that no process
// has the number: ESRCH, or that it is a thread's now (EINVAL, since 6.14 ENOENT).
func noSuchProcess(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
}

// sendSignal signals the process of a verified pidfd.
func sendSignal(fd int, sig syscall.Signal) error {
	err := unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// closeAll closes descriptors of which nothing can be lost; -1 is none.
func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
