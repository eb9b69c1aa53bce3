package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Claim is a bound abstract socket (unix(7)): the kernel takes the name back
// when the process dies, however it dies, and a name has one holder. Abstract
// names belong to a network namespace.
type Claim struct{ fd int }

// NewClaim takes the name of a state id. Errors: ErrClaimed if it is held.
func NewClaim(stateID string) (*Claim, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("claim the state id: socket: %w", err)
	}
	// A leading @ becomes the zero byte of an abstract name.
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@hive/" + stateID})
	if err == nil {
		return &Claim{fd: fd}, nil
	}
	_ = unix.Close(fd) // it was never bound
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, ErrClaimed
	}
	return nil, fmt.Errorf("claim the state id: bind: %w", err)
}

// Release gives the name back. Nil does nothing.
func (c *Claim) Release() error {
	if c == nil {
		return nil
	}
	return unix.Close(c.fd)
}

// Identify says which file this is. Born tells a copy from its original where
// the inode number was used again, which is common right after a delete.
func Identify(file *os.File) (ID, error) {
	var st unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil {
		return ID{}, fmt.Errorf("statx: %w", err)
	}
	id := ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// Lock takes bbolt's lock ahead of bbolt, which then takes it again on the same
// descriptor. That way the file can be examined under the lock before bbolt
// reads it. false: another process holds it.
func Lock(file *os.File) (bool, error) { return flock(file, unix.LOCK_EX) }

// LockShared is Lock for readers: there can be several of them.
func LockShared(file *os.File) (bool, error) { return flock(file, unix.LOCK_SH) }

func flock(file *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		}
		return false, fmt.Errorf("flock: %w", err)
	}
}

// Unlock releases the lock. Closing the file is not enough when bbolt has panicked: its
// mapping keeps the open file, and with it the lock, alive.
func Unlock(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_UN) }

// CanExamine says that the lock is held before bbolt reads the file.
const CanExamine = true

// LockHolder finds the process that holds a flock on the file in /proc/locks
// (proc_locks(5)); 0 if it is not shown there, as under an overlay or in
// another PID namespace.
func LockHolder(path string) int {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	// As /proc/locks writes it: the device in hexadecimal, the inode in decimal.
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != want {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}

// ForgetPages takes the mapped file out of our resident memory: after Check, which reads
// all of it, it would otherwise be charged to this process permanently. The pages stay in
// the page cache, and the next read maps them again (madvise(2)). It must be called inside
// a transaction, during which the mapping does not move.
func ForgetPages(data uintptr, size int64) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, data, uintptr(size), unix.MADV_DONTNEED)
}
