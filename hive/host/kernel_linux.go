package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

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
// is right, usually by an NTP daemon (adjtimex(2), STA_UNSYNC). A clock that is not
// synchronised may still be right. fs.ErrPermission where a sandbox forbids the call.
func ClockSynchronised() (bool, error) {
	var t unix.Timex // no modes: the call only reads
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
	text, err = os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil {
		p.Unprivileged, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return p, fmt.Errorf("read ip_unprivileged_port_start: %w", err)
	}
	return p, nil
}
