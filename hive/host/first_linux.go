package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// initialPIDNamespace is the inode of the machine's own PID namespace,
// PROC_PID_INIT_INO in include/linux/proc_ns.h.
const initialPIDNamespace = 0xEFFFFFFC

// reapTimeout is how long a zombie must stay to count as one that nobody reaps.
const reapTimeout = time.Second

// FindFirst describes PID 1 of hive's PID namespace. It reads the state of every
// process, and once more after reapTimeout if a child of PID 1 has ended and is
// still there: whether PID 1 reaps can only be seen from what it leaves behind.
func FindFirst(ctx context.Context) (First, error) {
	s, err := statOf(1)
	if errors.Is(err, fs.ErrNotExist) {
		return First{}, errors.New("PID 1 is hidden from hive (hidepid)")
	}
	if err != nil {
		return First{}, fmt.Errorf("read the state of PID 1: %w", err)
	}
	ns, err := pidNamespace()
	if err != nil {
		return First{}, err
	}
	f := First{
		Program: s.Comm, Self: os.Getpid() == 1, Parent: os.Getppid() == 1,
		Container: ns != initialPIDNamespace,
	}
	before, err := zombiesOf(1)
	if err != nil || len(before) == 0 {
		return f, err
	}
	// An init that reaps needs a moment, too, from SIGCHLD to waitpid.
	select {
	case <-ctx.Done():
		return f, ctx.Err()
	case <-time.After(reapTimeout):
	}
	after, err := zombiesOf(1)
	for key := range after {
		if before[key] {
			f.Zombies = append(f.Zombies, key.pid)
		}
	}
	slices.Sort(f.Zombies)
	return f, err
}

// IsInit reports whether hive is PID 1 of a PID namespace that is not the machine's
// own, as a container's first program is: the kernel ends every other process in it
// when hive ends.
func IsInit() bool {
	ns, err := pidNamespace()
	return err == nil && os.Getpid() == 1 && ns != initialPIDNamespace
}

func pidNamespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("read PID namespace: %w", err)
	}
	return st.Ino, nil
}

// zombie tells apart two zombies that had the same PID one after the other.
type zombie struct {
	pid   int
	start uint64 // clock ticks since boot
}

// zombiesOf finds the children of a process that have ended and are not reaped.
func zombiesOf(parent int) (map[zombie]bool, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	out := make(map[zombie]bool)
	for _, p := range all {
		s, err := p.Stat()
		// With more than one thread only the first one has ended: the process lives.
		if err == nil && s.PPID == parent && s.State == "Z" && s.NumThreads <= 1 {
			out[zombie{p.PID, s.Starttime}] = true
		}
	}
	return out, nil
}

func statOf(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}
