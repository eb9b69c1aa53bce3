package doctor

import (
	"context"
	"os"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/host"
	"rbeehive/hive/proc"
)

// Host is what the system around hive is and allows.
type Host struct {
	Kernel       string // its release; empty: not known
	Features     proc.Features
	LocalPorts   Fact[host.LocalPorts] // of outgoing connections
	Synchronised Fact[bool]            // a time service vouches for the clock
	Ptrace       Fact[bool]            // hive has CAP_SYS_PTRACE
	Hiding       Fact[host.Hiding]
	Unit         Fact[host.Unit] // with an error its name may be known all the same
	Init         Fact[host.First]
	Descriptors  Fact[host.Limit]
	Tasks        Fact[[]host.Limit]
}

// ReadHost reads the facts of the machine. It blocks while systemctl is asked, 2 s at
// most, and beside that for a second if PID 1 has children that have ended: whether it
// reaps them shows in a second reading only. What ctx cuts short is a Fact with ctx's
// error. It is safe for concurrent use.
func ReadHost(ctx context.Context) Host {
	var facts Host
	var g errgroup.Group // each function writes a field of its own
	// Beside the rest: these two can take a second or more.
	g.Go(func() error { facts.Unit = FactOf(host.FindUnit(ctx, managerEnv())); return nil })
	g.Go(func() error { facts.Init = FactOf(host.FindFirst(ctx)); return nil })
	facts.Kernel, facts.Features = host.KernelRelease(), proc.FindFeatures()
	facts.LocalPorts = FactOf(host.ReadLocalPorts())
	facts.Synchronised = FactOf(host.ClockSynchronised())
	facts.Ptrace = FactOf(host.CanTrace())
	facts.Hiding = FactOf(host.ProcHiding())
	facts.Descriptors = FactOf(host.DescriptorLimit())
	facts.Tasks = FactOf(host.TaskLimits())
	_ = g.Wait() // the functions return no errors: those stand in the facts
	return facts
}

// managerEnv is the environment in which the service manager is asked: a user's may be
// found by DBUS_SESSION_BUS_ADDRESS only, which workers do not get.
func managerEnv() []string {
	return proc.Environ(os.Environ(), []string{"DBUS_SESSION_BUS_ADDRESS"})
}
