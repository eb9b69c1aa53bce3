package leases

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/hive/proc"
	"rbeehive/httpapi/wire"
)

// The exit codes of run that are not the program's own: those of env(1).
const (
	exitRunFailed     = 125 // no lease, or no process
	exitNotExecutable = 126
	exitNoProgram     = 127
)

// releaseTimeout is how long run waits for hive at its end. The lease ends with the process
// in any case.
const releaseTimeout = 2 * time.Second

// Run runs a program on a port that is leased to it.
func Run(a *cli.App) *cobra.Command {
	var req wire.AcquireLease
	cmd := &cobra.Command{
		Use:   "run [--port PORT] -- CMD {port}",
		Short: "Run a program on a port leased from hive",
		Long: "Run a program in the foreground on a port that hive leases to it. {port} in its\n" +
			"arguments becomes the port, and so does the variable PORT. With --ports N the\n" +
			"ports from {port} on are leased; {port+1} is the second.\n\n" +
			"The lease is bound to the program before it starts, and lives as long as it does:\n" +
			"also when hivectl is killed, and over restarts of hive. hive never signals it.\n\n" +
			"Signals are passed on, except that Ctrl-C at a terminal reaches the program from\n" +
			"the terminal itself. The exit code is the program's (128 and the signal's number\n" +
			"if it was killed); 125 if there was no lease or no process, 126 if the program\n" +
			"could not be executed, 127 if it was not found.",
		Example:           "  hivectl run -- python3 -m http.server {port}\n  hivectl run --port 8188 --owner bob -- sh -c 'echo serving on {port}'",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cli.Files,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProgram(cmd.Context(), a, req, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows CMD is CMD's
	cmd.Flags().Uint16Var(&req.Port, "port", 0, "this port and no other")
	cmd.Flags().IntVar(&req.Ports, "ports", 0, "how many ports in a row")
	cmd.Flags().StringVar(&req.Owner, "owner", "", "who it is for, for people (default: the program's name)")
	return cmd
}

func runProgram(ctx context.Context, a *cli.App, req wire.AcquireLease, args []string) error {
	// Before there is a lease: a mistyped name costs no port.
	program, err := proc.LookPath(args[0], "")
	if err != nil {
		return &cli.Error{Code: exitNoProgram, Text: err.Error(), Hint: "name a program that is in PATH, or give its path"}
	}
	if req.Owner == "" {
		req.Owner = output.Clean(filepath.Base(args[0])) // hive takes nothing else
	}
	lease, err := acquireForSelf(ctx, a, req)
	if err != nil {
		return runError(err)
	}
	// From here on the lease has to be given back, however this goes on.
	child, err := startOn(ctx, a, lease, program, args)
	if err != nil {
		releaseLease(a, lease)
		return runError(err)
	}
	stop := proc.ForwardSignals(child)
	if ctx.Err() != nil { // a signal came before there was a child to pass it on to
		_ = child.Signal(unix.SIGTERM)
	}
	// Without ctx: the signal that has ended it was passed on, and what it means is the program's
	// to decide.
	<-child.Done()
	stop()
	releaseLease(a, lease)
	return &cli.Reported{Code: proc.ExitCode(child.Exit())}
}

// acquireForSelf acquires a lease that ends with this process, so that a kill at this
// moment leaves none behind.
func acquireForSelf(ctx context.Context, a *cli.App, req wire.AcquireLease) (wire.Lease, error) {
	id, err := proc.SelfIdentity()
	if err != nil {
		return wire.Lease{}, err
	}
	req.PID, req.StartTime = id.PID, id.StartTicks
	reply, err := a.Hive.AcquireLease(ctx, req)
	if err != nil {
		return wire.Lease{}, err
	}
	if !a.Quiet {
		a.Notice("port %d", reply.Value.Port)
	}
	return reply.Value, nil
}

// startOn starts the program behind the gate, binds the lease to it, and opens the gate:
// from its first moment on the lease is its own.
func startOn(ctx context.Context, a *cli.App, lease wire.Lease, program string, args []string) (*proc.Process, error) {
	argv := []string{program}
	for _, arg := range args[1:] {
		argv = append(argv, withPorts(arg, lease.Ports))
	}
	// Programs do not agree on which counts of a variable that is there twice.
	env := slices.DeleteFunc(slices.Clone(a.Env.Environ), func(kv string) bool { return strings.HasPrefix(kv, "PORT=") })
	env = append(env, "PORT="+strconv.Itoa(int(lease.Port)))
	gated, err := proc.Start(proc.Spec{Argv: argv, Env: env, Foreground: true})
	if err != nil {
		return nil, err
	}
	id := gated.Identity()
	_, err = a.Hive.RenewLease(ctx, lease.Port, wire.RenewLease{LeaseID: lease.LeaseID, PID: id.PID, StartTime: id.StartTicks})
	if err != nil {
		// It waits behind the gate and has not executed anything, so nothing has to be undone.
		gated.Abort()
		return nil, err
	}
	// A signal from here on is for the program, and must not cut off its start half way.
	return gated.Open(context.WithoutCancel(ctx))
}

// withPorts puts the ports into an argument: {port} and {port+N}.
func withPorts(arg string, ports []uint16) string {
	for i, port := range ports {
		name := "{port}"
		if i > 0 {
			name = fmt.Sprintf("{port+%d}", i)
		}
		arg = strings.ReplaceAll(arg, name, strconv.Itoa(int(port)))
	}
	return arg
}

// releaseLease ends the lease. The end of the program may have done it already, and does it
// if hive cannot be reached now.
func releaseLease(a *cli.App, lease wire.Lease) {
	// Not the ctx of the command, which Ctrl-C has ended: that is how programs usually end.
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	reply, err := a.Hive.ReleaseLease(ctx, lease.Port, lease.LeaseID)
	if err == nil && reply.Value.Status == "quarantined" && !a.Quiet {
		a.Notice("something still listens on port %d: it is quarantined until that stops", lease.Port)
	}
}

// runError is why the program does not run, with its exit code.
func runError(err error) error {
	// A copy: what Classify returns may be the error itself, which others may hold.
	f := *cli.Classify(err)
	var exec *proc.ExecError
	if f.Code = exitRunFailed; errors.As(err, &exec) {
		f.Code = exitNotExecutable
	}
	return &f
}
