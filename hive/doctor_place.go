package hive

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/host"
)

// The checks of this file are about the place that hive runs in: the kernel, its
// rights, and who starts and stops it. Each is a function of the facts alone.

const (
	// fdsPerWorker: the worker's pidfd and the claim on its port.
	fdsPerWorker = 2
	// fdsBesides: the file, the API's connections, and the pipes and probes of
	// what goes on at once.
	fdsBesides = 256
	// tasksBesides: hive's own threads, and what else is in its cgroup.
	tasksBesides = 128
	// tasksToSpare is about one large model server.
	tasksToSpare = 256
)

// checkKernel tells what this kernel offers. What is missing is made up for, so
// there is nothing to do about it.
func checkKernel(f *facts) Checkup {
	const name = "kernel"
	has := func(yes bool, with, without string) string {
		if yes {
			return with
		}
		return without
	}
	if f.BoundListed.Err != nil {
		return unseen(name, f.BoundListed.Err)
	}
	found := []string{
		"Linux " + f.Kernel,
		has(f.Features.PidfdInode, "pidfd inodes", "no pidfd inodes (since 6.9; start times tell processes apart)"),
		has(f.Features.ExitInfo, "exit info", "no exit info (since 6.15; how adopted workers end is unknown)"),
		has(f.BoundListed.Value, "bound ports listed", "bound ports not listed (since 6.8; found by binding)"),
	}
	return fine(name, "%s", strings.Join(found, ", "))
}

func checkCgroup(f *facts) Checkup {
	const name = "cgroup"
	const means = "what a worker starts is known by weaker proofs, and stopping one that keeps forking is best effort"
	switch {
	case f.Cgroups:
		return fine(name, "each worker has a cgroup of its own")
	case f.Features.CgroupV2:
		return care(name, "cgroup v2 can be written now, and could not when hive started", means, "stop hive and start it again (workers keep running)")
	}
	return care(name, "there is no cgroup v2 in which hive may make groups", means,
		"run hive as root or as a systemd service with `Delegate=yes`; in a container, mount /sys/fs/cgroup (cgroup v2) so that it can be written")
}

// checkPtrace asks for the capability only where it was missed.
func checkPtrace(f *facts) Checkup {
	const name = "ptrace"
	if f.Trace.Err != nil {
		return unseen(name, f.Trace.Err)
	}
	if f.Trace.Value {
		return fine(name, "hive may look into the processes of all users (CAP_SYS_PTRACE)")
	}
	var nameless portSet
	for _, h := range f.Survey.Value.Holders {
		if h.PID == 0 && !slices.Contains([]string{sockets.KindDraining, sockets.KindHive, sockets.KindUnknown}, h.Kind) {
			nameless[h.Port] = true
		}
	}
	ports := nameless.text()
	if ports == "" {
		return fine(name, "no CAP_SYS_PTRACE, and nothing that it would be needed for")
	}
	return care(name, "no CAP_SYS_PTRACE; who holds "+ports+" cannot be seen",
		"processes of other users are closed to hive: it cannot name who has a port, nor prove that such a process is a worker",
		"run hive as root, or `setcap cap_sys_ptrace+ep` its binary and start it again; of a service: `AmbientCapabilities=CAP_SYS_PTRACE`; in Docker: `--cap-add SYS_PTRACE`")
}

func checkHidepid(f *facts) Checkup {
	const name = "hidepid"
	if f.Hiding.Err != nil {
		return unseen(name, f.Hiding.Err)
	}
	h := f.Hiding.Value
	switch {
	case h.Mode == "off":
		return fine(name, "/proc shows all processes")
	case f.Trace.Value:
		return fine(name, "/proc is mounted with hidepid=%s, and hive sees past it (CAP_SYS_PTRACE)", h.Mode)
	case h.Exempt:
		return fine(name, "/proc is mounted with hidepid=%s, and hive is in the group that sees past it", h.Mode)
	}
	return care(name, "/proc is mounted with hidepid="+h.Mode,
		"hive sees only processes of its own user: it cannot name who has a port, and a worker that runs as another user stays unverified",
		"give hive the group of the mount's `gid=`, or CAP_SYS_PTRACE, or `mount -o remount,hidepid=off /proc`; of a service: `ProtectProc=default`")
}

// checkSystemd looks at how the service ends: of hive only, or with all that it
// started.
func checkSystemd(f *facts) Checkup {
	const name = "systemd"
	u := f.Unit.Value
	do := "under [Service] of " + u.Name + " set `KillMode=process` and `Delegate=yes` (`systemctl edit " + u.Name + "`), then `systemctl daemon-reload`"
	switch {
	case f.Unit.Err != nil && u.Name == "":
		return unseen(name, f.Unit.Err)
	case f.Unit.Err != nil:
		return unknown(name, u.Name+"; "+f.Unit.Err.Error(),
			"how the service ends cannot be seen: with KillMode=control-group, which is the default, its stop kills the workers", do)
	case u.Name == "":
		return fine(name, "hive runs in no unit of systemd")
	case !u.Service():
		return fine(name, "hive runs in %s, which is no service", u.Name)
	}
	found := fmt.Sprintf("%s with KillMode=%s, Delegate=%s", u.Name, u.KillMode, map[bool]string{true: "yes", false: "no"}[u.Delegate])
	switch {
	case u.KillMode != "process" && u.KillMode != "none":
		return care(name, found, "when the service is stopped or started again, systemd kills the workers with it", do)
	case !u.Delegate:
		return care(name, found, "systemd may take away the cgroups that hive makes for its workers", do)
	}
	return fine(name, "%s", found)
}

// endsWithChild reports programs that run one child as PID 1 of a container, and
// end with it.
func endsWithChild(program string) bool {
	return slices.Contains([]string{"tini", "docker-init", "dumb-init", "catatonit", "sh", "bash", "dash", "ash"}, program)
}

// supervises reports programs that stay as PID 1 when one of their children ends.
func supervises(program string) bool {
	return slices.Contains([]string{"systemd", "init", "s6-svscan", "runit", "runsvdir", "supervisord", "openrc-init"}, program)
}

// checkInit asks who takes over what hive leaves behind.
func checkInit(f *facts) Checkup {
	const name = "init"
	if f.First.Err != nil {
		return unseen(name, f.First.Err)
	}
	const (
		ends = "when hive ends, everything in the container ends with it: workers do not survive hive"
		do   = "let hive run under an init that stays, reaps, and starts it again (s6, supervisord, systemd), or outside the container"
	)
	p := f.First.Value
	alone := p.Container && p.Parent
	switch {
	case p.Self:
		return care(name, "hive is PID 1 of its container", ends, do)
	case len(p.Zombies) > 0:
		return care(name, fmt.Sprintf("PID 1 is %s and does not reap: %s (%s)", p.Program,
			counted(len(p.Zombies), "process that has ended is still there", "processes that have ended are still there"), pidList(p.Zombies)),
			"what workers leave while hive is down comes to PID 1, and fills the table of processes", do)
	case alone && endsWithChild(p.Program):
		return care(name, "PID 1 is "+p.Program+", which ends with hive", ends, do)
	case alone && !supervises(p.Program):
		return unknown(name, "PID 1 is "+p.Program+", and started hive",
			"if it ends with hive, everything in the container does: workers do not survive hive then", do)
	}
	return fine(name, "PID 1 is %s; no process was found that it has not reaped", p.Program)
}

func pidList(pids []int) string {
	var items []string
	for _, pid := range pids {
		items = append(items, strconv.Itoa(pid))
	}
	return "pid " + listed(items)
}

func checkDescriptors(f *facts) Checkup {
	const name = "descriptors"
	if f.Descriptors.Err != nil {
		return unseen(name, f.Descriptors.Err)
	}
	l, need := f.Descriptors.Value, uint64(fdsPerWorker*f.Range.Len()+fdsBesides) //nolint:gosec // a range has 65,535 ports at most
	switch {
	case l.Max == host.Unlimited:
		return fine(name, "no limit, %d in use", l.Used)
	case l.Max >= need:
		return fine(name, "%d allowed, %d in use; a full range needs %d", l.Max, l.Used, need)
	}
	workers := max(int(l.Max)-fdsBesides, 0) / fdsPerWorker //nolint:gosec // less than need
	return care(name, fmt.Sprintf("%d allowed, %d in use; a full range of %d ports needs %d", l.Max, l.Used, f.Range.Len(), need),
		fmt.Sprintf("from about %d workers on, new ones fail with \"too many open files\"", workers),
		fmt.Sprintf("`LimitNOFILE=%d` in the systemd unit, or `ulimit -n %d` before hive is started", need, need))
}

// checkTasks looks at the bound that leaves the least.
func checkTasks(f *facts) Checkup {
	const name = "tasks"
	if f.Tasks.Err != nil {
		return unseen(name, f.Tasks.Err)
	}
	if len(f.Tasks.Value) == 0 {
		return fine(name, "no limit on processes and threads")
	}
	left := func(l host.Limit) uint64 { return l.Max - min(l.Used, l.Max) }
	least := slices.MinFunc(f.Tasks.Value, func(a, b host.Limit) int { return cmp.Compare(left(a), left(b)) })
	found := fmt.Sprintf("%d processes and threads allowed (%s)", least.Max, least.Where)
	if least.Used > 0 {
		found += fmt.Sprintf(", %d in use", least.Used)
	}
	do := "`TasksMax=infinity` in the systemd unit, `--pids-limit -1` in Docker, or raise the limit that is named"
	switch {
	case left(least) < tasksToSpare:
		return care(name, found, "a worker with many threads does not start, or ends when it makes one more", do)
	case least.Max < uint64(f.Range.Len()+tasksBesides): //nolint:gosec // a range has 65,535 ports at most
		return care(name, found, fmt.Sprintf("the range of %d ports cannot be filled even with one thread a worker", f.Range.Len()), do)
	}
	return fine(name, "%s", found)
}
