package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Cached is something about this process or this boot that does not change while it
// runs, and that is asked for with each of thousands of workers. Only a successful read
// is kept, which sync.OnceValues cannot do. Safe for concurrent use.
type Cached[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

// Get returns the value, which read reads if it is not known yet.
func (c *Cached[T]) Get(read func() (T, error)) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		return c.value, nil
	}
	v, err := read()
	if err == nil {
		c.value, c.known = v, true
	}
	return v, err
}

// What belongs to the process as a whole.
var (
	bootID       Cached[string]
	pidNamespace Cached[uint64]
	overflowUID  Cached[uint32]
)

// BootID returns /proc/sys/kernel/random/boot_id.
func BootID() (string, error) {
	return bootID.Get(func() (string, error) {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return "", fmt.Errorf("read boot id: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	})
}

// InitialPIDNamespace is the inode of the machine's own PID namespace,
// PROC_PID_INIT_INO in include/linux/proc_ns.h.
const InitialPIDNamespace = 0xEFFFFFFC

// PIDNamespace returns the inode of the PID namespace of this process.
func PIDNamespace() (uint64, error) {
	return pidNamespace.Get(func() (uint64, error) {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
			return 0, fmt.Errorf("read PID namespace: %w", err)
		}
		return st.Ino, nil
	})
}

// NoUID is a uid that the kernel gives to no process.
const NoUID = math.MaxUint32

// OverflowUID returns the uid that stands for every user for whom this user namespace
// has no number (user_namespaces(7)); NoUID where every user has a number of its own.
func OverflowUID() (uint32, error) { return overflowUID.Get(readOverflowUID) }

func readOverflowUID() (uint32, error) {
	uids, err := os.ReadFile("/proc/self/uid_map")
	if errors.Is(err, fs.ErrNotExist) { // a kernel without user namespaces
		return NoUID, nil
	}
	if err != nil {
		return 0, err
	}
	if mapsAll(string(uids)) {
		return NoUID, nil
	}
	// Some users of the machine have no number here, and all show as this one.
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(uid), err
}

// mapsAll reports a uid_map in which every user has its own number, as in the initial
// user namespace.
func mapsAll(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) == 3 && f[0] == "0" && f[2] == "4294967295"
}

// Children lists the children of this process, whichever of its threads has made them.
// On a kernel without CONFIG_PROC_CHILDREN it is empty.
func Children() []int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	// A child is listed with the thread that has made it.
	var out []int
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil {
				out = append(out, pid)
			}
		}
	}
	return out
}
