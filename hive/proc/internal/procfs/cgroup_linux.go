package procfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/procfs"
)

// ErrNoCgroup2: no cgroup v2 is mounted.
var ErrNoCgroup2 = errors.New("no cgroup v2 is mounted")

// CgroupMount is the cgroup v2 mount, in the unified and in the hybrid layout. The zero
// value is none.
type CgroupMount struct {
	Dir  string // where it is mounted
	Root string // which cgroup the mount shows as its root, as /proc/<pid>/cgroup writes it
}

var cgroupMount Cached[CgroupMount]

// FindCgroupMount finds it once: reading all mounts for each worker was a fifth of the
// cost of a recovery.
func FindCgroupMount() (CgroupMount, error) { return cgroupMount.Get(readCgroupMount) }

func readCgroupMount() (CgroupMount, error) {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return CgroupMount{}, fmt.Errorf("find cgroup v2: %w", err)
	}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			return CgroupMount{Dir: unescape(m.MountPoint), Root: unescape(m.Root)}, nil
		}
	}
	return CgroupMount{}, ErrNoCgroup2
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Relative turns a path of /proc/<pid>/cgroup into one below the mount. In a container
// without a cgroup namespace of its own the two differ.
func (m CgroupMount) Relative(p string) (string, bool) {
	if m.Root == "/" || m.Root == "" {
		return p, true
	}
	if p == m.Root {
		return "/", true
	}
	rest, ok := strings.CutPrefix(p, m.Root+"/")
	return "/" + rest, ok
}

// Of returns the cgroup of a process, relative to the mount.
func (m CgroupMount) Of(pid int) (string, bool) {
	p, ok := Cgroup(pid)
	if !ok {
		return "", false
	}
	return m.Relative(p)
}

// Cgroup returns the path of a process in cgroup v2, as /proc writes it. ok is false
// where it cannot be read or has none.
func Cgroup(pid int) (cgroup string, ok bool) {
	b, err := os.ReadFile(path(pid, "cgroup"))
	if err != nil {
		return "", false
	}
	return ParseCgroup(string(b))
}

// ParseCgroup finds the path in cgroup v2 in a /proc/<pid>/cgroup.
func ParseCgroup(text string) (cgroup string, ok bool) {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, true
		}
	}
	return "", false
}
