package doctor

import (
	"slices"
	"strings"

	"rbeehive/alloc/sockets"
)

// checkKernel tells what this kernel offers. Hive makes up for what is missing, so
// there is nothing to do about it.
func checkKernel(f *Facts) Checkup {
	const name = "kernel"
	if f.BoundListed.Err != nil {
		return unreadable(name, f.BoundListed.Err)
	}
	has := func(yes bool, with, without string) string {
		if yes {
			return with
		}
		return without
	}
	return ok(name, "%s", strings.Join([]string{
		"Linux " + f.Host.Kernel,
		has(f.Host.Features.PidfdInode, "pidfd inodes", "no pidfd inodes (since 6.9; start times tell processes apart)"),
		has(f.Host.Features.ExitInfo, "exit info", "no exit info (since 6.15; how adopted workers end is unknown)"),
		has(f.Host.Features.NotTraced == "", "programs held by the kernel", "programs held by a process ("+f.Host.Features.NotTraced+")"),
		has(f.BoundListed.Value, "bound ports listed", "bound ports not listed (since 6.8; found by binding)"),
	}, ", "))
}

func checkCgroup(f *Facts) Checkup {
	const name = "cgroup"
	const means = "processes that a worker starts are identified by weaker proofs, and stopping one that keeps forking is best effort"
	switch {
	case f.Cgroups:
		return ok(name, "each worker has a cgroup of its own")
	case f.Host.Features.CgroupV2: // hive decides about cgroups once, when it starts
		return warning(name, "cgroup v2 is writable now, and was not when hive started", means, "restart hive (workers keep running)")
	}
	return warning(name, "there is no cgroup v2 in which hive may create groups", means,
		"run hive as root or as a systemd service with `Delegate=yes`; in a container, mount /sys/fs/cgroup (cgroup v2) writable")
}

// checkPtrace asks for the capability only where it was missed: without it most hives
// see all that they need, their workers having the same user.
func checkPtrace(f *Facts) Checkup {
	const name = "ptrace"
	if f.Host.Ptrace.Err != nil {
		return unreadable(name, f.Host.Ptrace.Err)
	}
	if f.Host.Ptrace.Value {
		return ok(name, "hive may inspect the processes of all users (CAP_SYS_PTRACE)")
	}
	if f.Survey.Err != nil { // it may be missed or not
		return unreadable(name, f.Survey.Err)
	}
	var nameless portSet
	// Behind these no process is to be found with the capability either.
	others := []string{sockets.KindDraining, sockets.KindHive, sockets.KindUnknown}
	for _, h := range f.Survey.Value.Holders {
		// With the capability it would have a PID.
		if h.PID == 0 && !slices.Contains(others, h.Kind) {
			nameless[h.Port] = true
		}
	}
	ports := nameless.String()
	if ports == "" {
		return ok(name, "no CAP_SYS_PTRACE, and nothing that needs it")
	}
	return warning(name, "no CAP_SYS_PTRACE; who holds "+ports+" cannot be seen",
		"hive may not inspect processes of other users: it cannot name who holds a port, nor prove that such a process is a worker",
		"run hive as root, or `setcap cap_sys_ptrace+ep` its binary and restart it; for a service: `AmbientCapabilities=CAP_SYS_PTRACE`; in Docker: `--cap-add SYS_PTRACE`")
}

func checkHidepid(f *Facts) Checkup {
	const name = "hidepid"
	if f.Host.Hiding.Err != nil {
		return unreadable(name, f.Host.Hiding.Err)
	}
	h := f.Host.Hiding.Value
	switch {
	case h.Mode == "off":
		return ok(name, "/proc shows all processes")
	case h.Exempt:
		return ok(name, "/proc is mounted with hidepid=%s, and hive is in the group that is exempt", h.Mode)
	case f.Host.Ptrace.Err != nil: // whether hive is exempt by the capability
		return unreadable(name, f.Host.Ptrace.Err)
	case f.Host.Ptrace.Value:
		return ok(name, "/proc is mounted with hidepid=%s, and hive is exempt (CAP_SYS_PTRACE)", h.Mode)
	}
	return warning(name, "/proc is mounted with hidepid="+h.Mode,
		"hive sees only processes of its own user: it cannot name who holds a port, and a worker that runs as another user stays unverified",
		"give hive the group of the mount's `gid=`, or CAP_SYS_PTRACE, or `mount -o remount,hidepid=off /proc`; for a service: `ProtectProc=default`")
}
