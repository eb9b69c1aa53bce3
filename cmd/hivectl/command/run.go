package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/httpapi/wire"
)

// The exit codes of run that are not the program's own: those of env(1).
const (
	exitRunFailed     = 125 // no lease, or no process
	exitNotExecutable = 126
	exitNoProgram     = 127
)

// releaseLimit is how long run waits for hive at its end. The lease ends with the
// process in any case.
const releaseLimit = 2 * time.Second

func (a *app) runOnPort() *cobra.Command {
	var req wire.AcquireLease
	cmd := &cobra.Command{
		Use:   "run [--port PORT] -- CMD {port}",
		Short: "Run a program on a port leased from hive",
		Long: "Run a program in the foreground on a port that hive leases to it. {port} in its\n" +
			"arguments becomes the port, and so does the variable PORT. With --ports N the\n" +
			"ports from {port} on are leased; {port+1} is the second.\n\n" +
			"The lease is bound to the program before it begins, and lives as long as it does:\n" +
			"also when hivectl is killed, and over restarts of hive. hive never signals it.\n\n" +
			"Signals are passed on, except that Ctrl-C at a terminal reaches the program from\n" +
			"the terminal itself. The exit code is the program's (128 and the signal's number\n" +
			"if it was killed); 125 if there was no lease or no process, 126 if the program\n" +
			"could not be executed, 127 if it was not found.",
		Example:           "  hivectl run -- python3 -m http.server {port}\n  hivectl run --port 8188 --owner bob -- sh -c 'echo serving on {port}'",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: files,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runProgram(cmd.Context(), req, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows CMD is CMD's
	cmd.Flags().Uint16Var(&req.Port, "port", 0, "this port and no other")
	cmd.Flags().IntVar(&req.Ports, "ports", 0, "how many ports in a row")
	cmd.Flags().StringVar(&req.Owner, "owner", "", "who it is for, for people (default: the program's name)")
	return cmd
}

func (a *app) runProgram(ctx context.Context, req wire.AcquireLease, args []string) error {
	program, err := proc.LookPath(args[0], "")
	if err != nil {
		return &cliError{code: exitNoProgram, text: err.Error(), hint: "name a program that is in PATH, or give its path"}
	}
	if req.Owner == "" {
		req.Owner = clean(filepath.Base(args[0])) // hive takes nothing else
	}
	lease, err := a.leaseForSelf(ctx, req)
	if err != nil {
		return runFault(err)
	}
	child, err := a.startOn(ctx, lease, program, args)
	if err != nil {
		a.giveBack(lease)
		return runFault(err)
	}
	stop := proc.ForwardSignals(child)
	if ctx.Err() != nil { // a signal came before there was somebody to pass it on to
		_ = child.Signal(unix.SIGTERM)
	}
	<-child.Done()
	stop()
	a.giveBack(lease)
	return &reported{code: proc.ExitCode(child.Exit())}
}

// leaseForSelf acquires a lease that ends with this process, so that a kill at
// this moment leaves none.
func (a *app) leaseForSelf(ctx context.Context, req wire.AcquireLease) (wire.Lease, error) {
	id, err := proc.SelfIdentity()
	if err != nil {
		return wire.Lease{}, err
	}
	req.PID, req.StartTime = id.PID, id.StartTicks
	reply, err := a.hive.AcquireLease(ctx, req)
	if err != nil {
		return wire.Lease{}, err
	}
	if !a.quiet {
		a.notice("port %d", reply.Value.Port)
	}
	return reply.Value, nil
}

// startOn starts the program behind the gate, binds the lease to it, and lets it
// go: from its first moment on the lease is its own.
func (a *app) startOn(ctx context.Context, lease wire.Lease, program string, args []string) (*proc.Process, error) {
	argv := []string{program}
	for _, arg := range args[1:] {
		argv = append(argv, withPorts(arg, lease.Ports))
	}
	env := append(a.env.Environ, "PORT="+strconv.Itoa(int(lease.Port)))
	gated, err := proc.Start(proc.Spec{Argv: argv, Env: env, Foreground: true})
	if err != nil {
		return nil, err
	}
	id := gated.Identity()
	_, err = a.hive.RenewLease(ctx, lease.Port, wire.RenewLease{LeaseID: lease.LeaseID, PID: id.PID, StartTime: id.StartTicks})
	if err != nil {
		gated.Abort()
		return nil, err
	}
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

// giveBack ends the lease. That the program has ended may have done it already,
// and does it if hive cannot be reached now.
func (a *app) giveBack(lease wire.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	reply, err := a.hive.ReleaseLease(ctx, lease.Port, lease.LeaseID)
	if err == nil && reply.Value.Status == "quarantined" && !a.quiet {
		a.notice("somebody still listens on port %d: it is quarantined until nobody does", lease.Port)
	}
}

// runFault is why the program does not run, with the exit code that says so.
func runFault(err error) error {
	f := *classify(err)
	var exec *proc.ExecError
	if f.code = exitRunFailed; errors.As(err, &exec) {
		f.code = exitNotExecutable
	}
	return &f
}
