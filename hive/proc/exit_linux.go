package proc

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

const (
	// reapTimeout is how long to wait for a parent to reap a zombie that we may not look
	// into. A parent that is alive does so at once; an init that does not reap never does.
	reapTimeout      = 500 * time.Millisecond
	reapPollInterval = 2 * time.Millisecond
)

// errNotChild: the process is not a child of this one, or somebody has reaped it.
var errNotChild = errors.New("not a child to be reaped")

// findExit finds out how a process that has ended did so, and reaps it if it is our
// child. It takes at most reapTimeout.
func findExit(id store.Identity, fd int) store.Exit {
	status, err := reap(fd)
	if err == nil {
		return exitOf(status)
	}
	for deadline := time.Now().Add(reapTimeout); ; sleep(reapPollInterval) {
		if status, ok := zombieExit(id); ok {
			return exitOf(status)
		}
		// In this order: if it is reaped in between, the pidfd has the answer.
		if status, ok := infoExit(fd); ok {
			return exitOf(status)
		}
		if time.Now().After(deadline) || !isZombie(id) {
			return store.Exit{}
		}
	}
}

// sleep blocks its goroutine, not a thread.
func sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// childInfo is siginfo_t as waitid(2) fills it; the zero-length field makes the
// union start where it does on this architecture.
type childInfo struct {
	signo, errno, code int32
	union              struct {
		_           [0]uintptr
		pid         int32
		uid         uint32
		status      int32
		_           [20]int32
		notPortable struct{}
	}
}

// reap takes the wait status of the process if it is our child. It names the
// process by its pidfd: by PID it could take the status of a new child that got
// the number after somebody else had reaped the old one.
func reap(fd int) (unix.WaitStatus, error) {
	var raw unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, &raw, unix.WEXITED|unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, errNotChild
		}
		break
	}
	info := (*childInfo)(unsafe.Pointer(&raw))
	// status is an exit code or a signal here, and not yet what wait(2) makes of them.
	const exited, killed, dumped = 1, 2, 3 // CLD_EXITED and so on, sigaction(2)
	switch info.code {
	case exited:
		return unix.WaitStatus(info.union.status << 8), nil
	case killed, dumped:
		return unix.WaitStatus(info.union.status), nil
	default:
		return 0, errNotChild
	}
}

// infoExit reads it from the pidfd (PIDFD_GET_INFO with PIDFD_INFO_EXIT, kernel >= 6.15).
// The kernel has the answer only once the process has been reaped.
func infoExit(fd int) (unix.WaitStatus, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.Exit_code), true
}

func isZombie(id store.Identity) bool {
	s, err := procfs.ReadStat(id.PID)
	return err == nil && s.Start == id.StartTicks && s.Zombie()
}

// zombieExit reads field 52 of a zombie's stat. The kernel writes 0 there for
// those who may not ptrace the process, which is no exit code. Whether we may is
// shown by /proc/<pid>/exe, whose permission check is the same: of a zombie that we
// may ptrace it does not exist.
func zombieExit(id store.Identity) (unix.WaitStatus, bool) {
	if err := procfs.ExeErr(id.PID); !errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	s, err := procfs.ReadStat(id.PID)
	if err != nil || s.Start != id.StartTicks || !s.Zombie() {
		return 0, false
	}
	return unix.WaitStatus(s.ExitCode), true
}

func exitOf(status unix.WaitStatus) store.Exit {
	switch {
	case status.Exited():
		code := status.ExitStatus()
		return store.Exit{Code: &code}
	case status.Signaled():
		return store.Exit{Signal: signalName(status.Signal())}
	default:
		return store.Exit{}
	}
}

// oomKilled reports whether the kernel has killed a process of a leaf for want of
// memory. Without a memory controller it is false.
func oomKilled(leaf string) bool {
	if leaf == "" {
		return false
	}
	m, err := findCgroupMount()
	if err != nil {
		return false
	}
	rel, ok := m.Relative(leaf)
	if !ok {
		return false
	}
	return cgroup.OOMKills(filepath.Join(m.Dir, rel)) > 0
}
