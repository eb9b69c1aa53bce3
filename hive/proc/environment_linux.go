package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
)

// KernelRelease is what uname(2) says, such as "6.18.2"; empty if nothing.
func KernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// ClockSynchronised reports whether the kernel has been told that its wall clock
// is right, by an NTP daemon as a rule (adjtimex(2), STA_UNSYNC). A clock that
// nobody vouches for may be right all the same. fs.ErrPermission where a sandbox
// forbids the question.
func ClockSynchronised() (bool, error) {
	var t unix.Timex // no modes: it only reads
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("adjtimex: %w", err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

// CanTrace reports whether hive may look into processes of other users
// (CAP_SYS_PTRACE, capabilities(7)). In a user namespace that is only those of
// the namespace.
func CanTrace() (bool, error) { return capable(unix.CAP_SYS_PTRACE) }

// capable reports whether this process has one of the capabilities.
func capable(wanted ...int) (bool, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	effective, err := capEff(string(text))
	if err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return slices.ContainsFunc(wanted, func(c int) bool { return effective&(1<<c) != 0 }), nil
}

// capEff finds the effective capabilities in a /proc/<pid>/status.
func capEff(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		}
	}
	return 0, errors.New("no CapEff in /proc/self/status")
}

// ProcHiding reads how /proc is mounted.
func ProcHiding() (Hiding, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Hiding{}, fmt.Errorf("read the mounts: %w", err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		return Hiding{}, fmt.Errorf("read hive's groups: %w", err)
	}
	return hidingOf(string(text), append(groups, os.Getegid()))
}

// hidingOf finds the mount that /proc shows, the last one of that place, in
// proc_pid_mountinfo(5).
func hidingOf(mountinfo string, groups []int) (Hiding, error) {
	options, found := "", false
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		place, fs := strings.Fields(before), strings.Fields(after)
		if ok && len(place) > 4 && place[4] == "/proc" && len(fs) > 2 && fs[0] == "proc" {
			options, found = fs[2], true
		}
	}
	if !found {
		return Hiding{}, errors.New("/proc is not a mount of its own")
	}
	h, group := Hiding{Mode: "off"}, 0 // without gid= it is the group of root
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "hidepid":
			h.Mode = hidepidName(value)
		case "gid":
			group, _ = strconv.Atoi(value)
		}
	}
	// "ptraceable" has no exempt group.
	h.Exempt = (h.Mode == "noaccess" || h.Mode == "invisible") && slices.Contains(groups, group)
	return h, nil
}

// hidepidName is the name of a mode that a kernel before 5.8 writes as a number.
func hidepidName(value string) string {
	switch value {
	case "0":
		return "off"
	case "1":
		return "noaccess"
	case "2":
		return "invisible"
	case "4":
		return "ptraceable"
	}
	return value
}

// ReadLocalPorts reads the sysctls of this network namespace.
func ReadLocalPorts() (LocalPorts, error) {
	var p LocalPorts
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return p, fmt.Errorf("read ip_local_port_range: %w", err)
	}
	if p.Range, err = alloc.ParseRange(strings.Join(strings.Fields(string(text)), "-")); err != nil {
		return p, fmt.Errorf("read ip_local_port_range: %w", err)
	}
	text, err = os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return p, fmt.Errorf("read ip_local_reserved_ports: %w", err)
	}
	for item := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == ',' || r == '\n' }) {
		r, err := alloc.ParseRange(item)
		if err != nil {
			return p, fmt.Errorf("read ip_local_reserved_ports: %w", err)
		}
		p.Reserved = append(p.Reserved, r)
	}
	return p, nil
}

// reapPatience is how long a zombie must stay to count as one that nobody reaps.
const reapPatience = time.Second

// FindFirst looks at PID 1 of hive's PID namespace. It reads the state of every
// process, and once more after a second if a child of PID 1 has ended and is
// still there: whether PID 1 reaps can only be seen by what it leaves lying.
func FindFirst(ctx context.Context) (First, error) {
	s, err := readStat(1)
	if gone(err) {
		return First{}, errors.New("PID 1 is hidden from hive (hidepid)")
	}
	if err != nil {
		return First{}, fmt.Errorf("look at PID 1: %w", err)
	}
	ns, err := pidNamespace()
	if err != nil {
		return First{}, err
	}
	f := First{
		Program: s.comm, Self: os.Getpid() == 1, Parent: os.Getppid() == 1,
		Container: ns != initialPIDNamespace,
	}
	before, err := zombiesOf(1)
	if err != nil || len(before) == 0 {
		return f, err
	}
	select {
	case <-ctx.Done():
		return f, ctx.Err()
	case <-time.After(reapPatience):
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
// own, as a container's first program is: the kernel ends all others in it when
// hive ends.
func IsInit() bool {
	ns, err := pidNamespace()
	return err == nil && os.Getpid() == 1 && ns != initialPIDNamespace
}

// zombiesOf finds the children of a process that have ended and are not reaped.
func zombiesOf(parent int) (map[procKey]bool, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	out := make(map[procKey]bool)
	for _, pid := range all {
		s, err := readStat(pid)
		if err == nil && s.parent == parent && s.state == 'Z' && s.zombie() {
			out[procKey{pid, s.start}] = true
		}
	}
	return out, nil
}

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
// has room for, and RLIMIT_NPROC, unless hive is one of those to whom it does not
// apply.
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
		h := hierarchy{mount: unescape(m.MountPoint), root: unescape(m.Root)}
		if own, ok := h.relative(cgroupIn(string(text), controller)); ok {
			limits = append(limits, taskLimitsUp(h.mount, own)...)
		}
	}
	return limits, nil
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
