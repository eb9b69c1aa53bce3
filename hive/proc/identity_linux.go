package proc

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

// BootID returns /proc/sys/kernel/random/boot_id. PIDs, start times and pidfd
// inodes mean nothing across two boots. Safe for concurrent use.
func BootID() (string, error) { return procfs.BootID() }

// BootTime returns the time since the machine was booted, time asleep included
// (CLOCK_BOOTTIME, clock_gettime(2)). Unlike the wall clock it is never set.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// KernelThread reports whether pid is a thread of the kernel.
func KernelThread(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && s.KernelThread()
}

// SelfIdentity returns the identity of this process. Safe for concurrent use.
func SelfIdentity() (store.Identity, error) { return Identify(os.Getpid()) }

// Identify returns the identity of a running process, to be recorded; the caller
// has to know by other means that pid is the process it wants. It fails with
// ErrGone when there is none. Safe for concurrent use; does not block.
func Identify(pid int) (store.Identity, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if noSuchProcess(err) {
		return store.Identity{}, fmt.Errorf("identify process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return store.Identity{}, fmt.Errorf("identify process %d: pidfd_open: %w", pid, err)
	}
	defer closeAll(fd)
	return identify(pid, fd)
}

// identify reads the identity behind an open pidfd. That the process has not ended
// afterwards proves that /proc/<pid> was its own.
func identify(pid, fd int) (store.Identity, error) {
	id, err := identifyChild(pid, fd)
	if hasEnded(fd) || procfs.Gone(err) {
		return store.Identity{}, fmt.Errorf("identify process %d: %w", pid, ErrGone)
	}
	return id, err
}

// identifyChild is identify for a child that nobody has reaped yet: its number
// cannot change hands, so it may even have ended.
func identifyChild(pid, fd int) (store.Identity, error) {
	id := store.Identity{PID: pid}
	var err error
	if id.BootID, err = BootID(); err != nil {
		return store.Identity{}, err
	}
	if id.PIDNamespace, err = procfs.PIDNamespace(); err != nil {
		return store.Identity{}, err
	}
	if id.PidfdInode, err = pidfdInode(fd); err != nil {
		return store.Identity{}, err
	}
	// Needed beside the inode: it dates the process's session, and its namespace.
	s, err := procfs.ReadStat(pid)
	if err != nil {
		return store.Identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	id.StartTicks = s.Start
	return id, nil
}

// Verify decides about a recorded process as Adopt does, without following it.
func Verify(id store.Identity) (Verdict, error) {
	fd, verdict, err := verify(id)
	if verdict == Alive {
		return verdict, unix.Close(fd)
	}
	return verdict, err
}

// verify opens the recorded process. The pidfd is returned, not yet non-blocking,
// only with Alive. With Unknown the error is the reason; with Dead it says what
// proved it.
func verify(id store.Identity) (int, Verdict, error) {
	if id.PID <= 0 || id.BootID == "" {
		return -1, Unknown, errors.New("record has no PID or no boot id")
	}
	boot, err := BootID()
	if err != nil {
		return -1, Unknown, err
	}
	if boot != id.BootID {
		return -1, Dead, errors.New("the machine has been booted since")
	}
	// Only now, within one boot, do the numbers of the record mean anything.
	if v, err := verifyNamespace(id); v != Alive {
		return -1, v, err
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if noSuchProcess(err) {
		return -1, Dead, fmt.Errorf("pidfd_open: %w", err)
	}
	if err != nil { // too many descriptors, say: it may be running
		return -1, Unknown, fmt.Errorf("pidfd_open: %w", err)
	}
	v, err := verifyPidfd(id, fd)
	if v != Alive {
		closeAll(fd)
		return -1, v, err
	}
	return fd, Alive, nil
}

// verifyPidfd compares the process behind fd with the record.
func verifyPidfd(id store.Identity, fd int) (Verdict, error) {
	if hasEnded(fd) {
		return Dead, ErrGone
	}
	inode, err := pidfdInode(fd)
	if err != nil {
		return Unknown, err
	}
	if id.PidfdInode != 0 && inode != 0 {
		if inode != id.PidfdInode {
			return Dead, errors.New("its PID belongs to another process now (pidfd inode)")
		}
		return Alive, nil
	}
	// Without an inode the start time decides. It is read after the pidfd was
	// opened, and counts only if that process still runs afterwards: then the
	// PID cannot have changed hands in between.
	s, err := procfs.ReadStat(id.PID)
	if hasEnded(fd) {
		return Dead, ErrGone
	}
	if err != nil {
		return Unknown, err // EACCES, or ENOENT under hidepid: a process runs, but it may be any
	}
	if s.Start != id.StartTicks {
		return Dead, errors.New("its PID belongs to another process now (start time)")
	}
	return Alive, nil
}

// verifyNamespace returns Alive when PIDs of the record mean something here. A
// container that was restarted has a new namespace with a new init, and its old
// one is gone with its processes; that is the one case that counts as proof.
func verifyNamespace(id store.Identity) (Verdict, error) {
	ns, err := procfs.PIDNamespace()
	if err != nil {
		return Unknown, err
	}
	if ns == id.PIDNamespace {
		return Alive, nil
	}
	other := fmt.Errorf("%w (%d, this is %d)", ErrOtherNamespace, id.PIDNamespace, ns)
	// From the machine's own namespace nothing can be said of a container's, which may
	// still exist.
	if ns == procfs.InitialPIDNamespace {
		return Unknown, other
	}
	first, err := procfs.ReadStat(1)
	if err != nil || first.Start <= id.StartTicks {
		return Unknown, other
	}
	return Dead, errors.New("its PID namespace has ended: this one was made later")
}
