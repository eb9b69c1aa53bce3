package doctor

import (
	"fmt"
	"slices"
	"strconv"
)

// checkSystemd examines how the service ends: hive only, or all that it started too.
func checkSystemd(f *Facts) Checkup {
	const name = "systemd"
	u, err := f.Host.Unit.Value, f.Host.Unit.Err
	do := "under [Service] of " + u.Name + " set `KillMode=process` and `Delegate=yes` (`systemctl edit " + u.Name + "`), then `systemctl daemon-reload`"
	switch {
	// With a name it can at least be said what to do.
	case err != nil && u.Name == "":
		return unreadable(name, err)
	case err != nil:
		return unknown(name, u.Name+"; "+firstLine(err),
			"how the service ends cannot be seen: with KillMode=control-group, which is the default, stopping it kills the workers", do)
	case u.Name == "":
		return ok(name, "hive runs in no unit of systemd")
	case !u.Service():
		return ok(name, "hive runs in %s, which is not a service", u.Name)
	}
	delegate := "no"
	if u.Delegate {
		delegate = "yes"
	}
	found := fmt.Sprintf("%s with KillMode=%s, Delegate=%s", u.Name, u.KillMode, delegate)
	switch {
	case u.KillMode != "process" && u.KillMode != "none": // "mixed" kills the workers too
		return warning(name, found, "when the service is stopped or restarted, systemd kills the workers with it", do)
	case !u.Delegate:
		return warning(name, found, "systemd may remove the cgroups that hive creates for its workers", do)
	}
	return ok(name, "%s", found)
}

// exitsWithChild reports programs that run one child as PID 1 of a container, and
// exit with it.
func exitsWithChild(program string) bool {
	return slices.Contains([]string{"tini", "docker-init", "dumb-init", "catatonit", "sh", "bash", "dash", "ash"}, program)
}

// supervises reports programs that stay as PID 1 when one of their children exits.
func supervises(program string) bool {
	return slices.Contains([]string{"systemd", "init", "s6-svscan", "runit", "runsvdir", "supervisord", "openrc-init"}, program)
}

// checkInit asks who inherits the processes that hive leaves behind.
func checkInit(f *Facts) Checkup {
	const (
		name  = "init"
		means = "when hive exits, everything in the container ends with it: workers do not survive hive"
		do    = "run hive under an init that stays, reaps, and restarts it (s6, supervisord, systemd), or outside the container"
	)
	if f.Host.Init.Err != nil {
		return unreadable(name, f.Host.Init.Err)
	}
	p := f.Host.Init.Value
	// On a machine, or below a supervisor of its own, hive's end ends nothing else.
	alone := p.Container && p.Parent
	switch {
	case p.Self:
		return warning(name, "hive is PID 1 of its container", means, do)
	// What was seen counts before what the program is called.
	case len(p.Zombies) > 0:
		return warning(name, fmt.Sprintf("PID 1 is %s and does not reap: %s (%s)", p.Program,
			counted(len(p.Zombies), "zombie process", "zombie processes"), pidList(p.Zombies)),
			"processes that workers leave while hive is down are inherited by PID 1, and their zombies fill the process table", do)
	case alone && exitsWithChild(p.Program):
		return warning(name, "PID 1 is "+p.Program+", which exits with hive", means, do)
	// An unknown program may stay or exit.
	case alone && !supervises(p.Program):
		return unknown(name, "PID 1 is "+p.Program+", and started hive",
			"if it exits with hive, everything in the container ends: workers do not survive hive then", do)
	}
	return ok(name, "PID 1 is %s, and no zombie process of it was found", p.Program)
}

func pidList(pids []int) string {
	var items []string
	for _, pid := range pids {
		items = append(items, strconv.Itoa(pid))
	}
	return "pid " + listed(items)
}
