package doctor

import (
	"context"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/proc"
)

// Host is what the system around hive is and allows.
type Host struct {
	Kernel       string // its release; empty: not known
	Features     proc.Features
	LocalPorts   Fact[proc.LocalPorts] // of outgoing connections
	Synchronised Fact[bool]            // a time service vouches for the clock
	Ptrace       Fact[bool]            // hive has CAP_SYS_PTRACE
	Hiding       Fact[proc.Hiding]
	Unit         Fact[proc.Unit] // with an error its name may be known all the same
	Init         Fact[proc.First]
	Descriptors  Fact[proc.Limit]
	Tasks        Fact[[]proc.Limit]
}

// ReadHost reads the facts of the machine. It blocks while systemctl is asked, 2 s at
// most, and beside that for a second if PID 1 has children that have ended: whether it
// reaps them shows in a second reading only. What ctx cuts short is a Fact with ctx's
// error. It is safe for concurrent use.
func ReadHost(ctx context.Context) Host {
	var host Host
	var g errgroup.Group // each function writes a field of its own
	g.Go(func() error { host.Unit = FactOf(proc.FindUnit(ctx)); return nil })
	g.Go(func() error { host.Init = FactOf(proc.FindFirst(ctx)); return nil })
	host.Kernel, host.Features = proc.KernelRelease(), proc.FindFeatures()
	host.LocalPorts = FactOf(proc.ReadLocalPorts())
	host.Synchronised = FactOf(proc.ClockSynchronised())
	host.Ptrace = FactOf(proc.CanTrace())
	host.Hiding = FactOf(proc.ProcHiding())
	host.Descriptors = FactOf(proc.DescriptorLimit())
	host.Tasks = FactOf(proc.TaskLimits())
	_ = g.Wait() // the functions return no errors: those stand in the facts
	return host
}
