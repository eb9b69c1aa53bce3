package host

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// DescriptorLimit is how many descriptors hive may have open. Go has raised the
// soft limit to the hard one when hive started.
func DescriptorLimit() (Limit, error) {
	l := Limit{Where: "RLIMIT_NOFILE"}
	var err error
	if l.Max, err = rlimit(unix.RLIMIT_NOFILE); err != nil {
		return l, err
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		l.Used = uint64(len(fds))
	}
	return l, nil
}

func rlimit(resource int) (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(resource, &r); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	if r.Cur == unix.RLIM_INFINITY {
		return Unlimited, nil
	}
	return r.Cur, nil
}

// TaskLimits returns what bounds the number of processes and threads of hive and
// its workers: pids.max of hive's cgroup and of those above it, what the kernel
// has room for, and RLIMIT_NPROC, unless hive is exempt from
// it.
func TaskLimits() ([]Limit, error) {
	limits, err := cgroupTaskLimits()
	if err != nil {
		return nil, err
	}
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if most, err := readNumber(file); err == nil {
			limits = append(limits, Limit{Max: most, Used: allTasks(), Where: file})
		}
	}
	// The kernel exempts root and these two (kernel/fork.c, copy_process).
	exempt, err := capable(unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN)
	if err != nil || exempt || os.Getuid() == 0 {
		return limits, err
	}
	// What counts against this one cannot be read: every process of the user does, also
	// outside of this namespace.
	own, err := rlimit(unix.RLIMIT_NPROC)
	if err == nil && own != Unlimited {
		limits = append(limits, Limit{Max: own, Where: "RLIMIT_NPROC"})
	}
	return limits, err
}

// cgroupTaskLimits reads the pids controller, which is in the one hierarchy of
// cgroup v2 or has one of its own.
func cgroupTaskLimits() ([]Limit, error) {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return nil, fmt.Errorf("find the pids controller: %w", err)
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the pids controller: %w", err)
	}
	var limits []Limit
	for _, m := range mounts {
		_, pids := m.SuperOptions["pids"]
		if m.FSType != "cgroup2" && (m.FSType != "cgroup" || !pids) {
			continue
		}
		controller := ""
		if pids {
			controller = "pids"
		}
		// Without a cgroup namespace of its own a container's mount shows a part of the
		// hierarchy: a cgroup outside of it has no limits that can be read here.
		if own, ok := belowRoot(cgroupIn(string(text), controller), unescape(m.Root)); ok {
			limits = append(limits, taskLimitsUp(unescape(m.MountPoint), own)...)
		}
	}
	return limits, nil
}

// belowRoot turns a path of /proc/<pid>/cgroup into one relative to a mount that shows
// root as its root.
func belowRoot(cgroup, root string) (string, bool) {
	if root == "/" || root == "" {
		return cgroup, true
	}
	if cgroup == root {
		return "/", true
	}
	rest, ok := strings.CutPrefix(cgroup, root+"/")
	return "/" + rest, ok
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// taskLimitsUp reads pids.max from a cgroup up to the root of its mount.
func taskLimitsUp(mount, cgroup string) []Limit {
	var limits []Limit
	for dir := path.Clean("/" + cgroup); ; dir = path.Dir(dir) {
		file := filepath.Join(mount, dir, "pids.max")
		// "max" is no number and no limit.
		if most, err := readNumber(file); err == nil {
			used, _ := readNumber(filepath.Join(mount, dir, "pids.current")) // 0 is "not known"
			limits = append(limits, Limit{Max: most, Used: used, Where: file})
		}
		if dir == "/" {
			return limits
		}
	}
}

// allTasks counts the processes and threads of the machine; 0: not known.
func allTasks() uint64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b)) // the fourth is running/all, proc_loadavg(5)
	if len(f) < 4 {
		return 0
	}
	_, all, _ := strings.Cut(f[3], "/")
	n, _ := strconv.ParseUint(all, 10, 64) // 0 is "not known"
	return n
}

func readNumber(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// cgroupIn finds the cgroup in a /proc/<pid>/cgroup: of a controller of cgroup
// v1, or with "" of cgroup v2.
func cgroupIn(text, controller string) string {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && slices.Contains(strings.Split(f[1], ","), controller) {
			return f[2]
		}
	}
	return ""
}
