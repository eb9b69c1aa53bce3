package store_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// failFdatasync makes the kernel answer this process's n-th call of fdatasync
// from now on with EIO. It cannot be taken back, so only a child does it.
func failFdatasync(n int) error {
	return trap([]uint32{unix.SYS_FDATASYNC}, func(call int) unix.Errno {
		if call == n {
			return unix.EIO
		}
		return 0
	})
}

// changing are the system calls by which a file or a directory comes to be another,
// or durable.
var changing = []uint32{
	unix.SYS_PWRITE64, unix.SYS_COPY_FILE_RANGE, unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT,
}

// dieAt has this process killed instead of its n-th such call from now on. calls
// says how many there were.
func dieAt(n int) (calls *atomic.Int64, err error) {
	calls = new(atomic.Int64)
	return calls, trap(changing, func(call int) unix.Errno {
		calls.Store(int64(call))
		if call == n {
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {} // the call is not answered any more
		}
		return 0
	})
}

// trap has the kernel ask before each of these calls of this process, by a seccomp
// filter with a listener (seccomp_unotify(2), Linux 5.5): an error is what the call
// returns, without being carried out.
func trap(calls []uint32, answer func(call int) unix.Errno) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the system call
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(calls) - i)})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program))) //nolint:gosec // as seccomp(2) takes it
	if errno != 0 {
		return fmt.Errorf("seccomp with a listener: %w", errno)
	}
	go answerTraps(fd, answer)
	return nil
}

type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// answerTraps continues when a signal, which Go's scheduler sends at any time, ends its own
// wait (EINTR) or the call that it is asked about (ENOENT): that one is then asked about
// again. If it ended, or did not answer one, that call would wait for ever.
func answerTraps(fd uintptr, answer func(call int) unix.Errno) {
	for call := 1; ; call++ {
		var n notification
		switch errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); errno { //nolint:gosec // as seccomp_unotify(2) takes it
		case 0:
		case unix.ENOENT: // it was interrupted before it was received
			call--
			continue
		default:
			return
		}
		r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if errno := answer(call); errno != 0 {
			r = response{id: n.id, err: -int32(errno)}
		}
		switch errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); errno { //nolint:gosec // as seccomp_unotify(2) takes it
		case 0:
		case unix.ENOENT:
			call--
		default:
			return
		}
	}
}

// ioctl is ioctl(2) as seccomp_unotify(2) takes it, again after each signal.
func ioctl(fd, request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); errno != unix.EINTR {
			return errno
		}
	}
}
