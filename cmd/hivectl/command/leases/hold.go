package leases

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/hive/proc"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// holder is what keeps a lease alive, as given by flags.
type holder struct {
	pid int
	ttl time.Duration
}

func (h *holder) flags(flags *pflag.FlagSet) {
	flags.IntVar(&h.pid, "pid", 0, "the lease lives as long as this process, such as $$")
	flags.DurationVar(&h.ttl, "ttl", 0, "the lease lives this long after each renewal, such as 30s")
}

// resolve returns the fields of the request. The start time keeps a PID that
// means another process where the hive runs from being taken for this one.
func (h *holder) resolve() (pid int, startTime uint64, ttl string, err error) {
	switch {
	case h.pid < 0:
		return 0, 0, "", cli.Usage(fmt.Sprintf("--pid %d: want the PID of a process", h.pid), "")
	case h.ttl < 0:
		return 0, 0, "", cli.Usage(fmt.Sprintf("--ttl %s: want a positive time", h.ttl), "")
	case h.pid != 0 && h.ttl != 0:
		return 0, 0, "", cli.Usage("--pid and --ttl exclude each other", "")
	case h.ttl != 0:
		return 0, 0, h.ttl.String(), nil
	case h.pid == 0:
		return 0, 0, "", nil
	}
	id, err := proc.Identify(h.pid)
	if errors.Is(err, proc.ErrGone) {
		return 0, 0, "", cli.NotFound(fmt.Sprintf("no process %d", h.pid), "name a process that runs on this machine, such as $$")
	}
	// Where start times cannot be read the hive has to do with the PID.
	if err != nil && !errors.Is(err, proc.ErrUnsupported) {
		return 0, 0, "", err
	}
	return h.pid, id.StartTicks, "", nil
}

func acquire(a *cli.App) *cobra.Command {
	var h holder
	var req wire.AcquireLease
	cmd := &cobra.Command{
		Use:   "acquire --pid PID | --ttl TIME",
		Short: "Lease a port for a program that hive does not start; -q prints the port",
		Long: "Lease a port, or several in a row, for a program that hive does not start. The\n" +
			"lease lives as long as a process, or as it is renewed. hive never signals that\n" +
			"process. If something still listens on the port when the lease ends, the port is\n" +
			"quarantined until that stops.",
		Example: "  port=$(hivectl leases acquire --pid $$ -q)\n  hivectl leases acquire --ttl 30s --port 8188 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.PID, req.StartTime, req.TTL, err = h.resolve(); err != nil {
				return err
			}
			if req.PID == 0 && req.TTL == "" {
				return cli.Usage("--pid or --ttl is required: it keeps the lease alive", "for example: hivectl leases acquire --ttl 30s")
			}
			reply, err := a.Hive.AcquireLease(cmd.Context(), req)
			if err != nil {
				return err
			}
			return printLease(a, reply)
		},
	}
	h.flags(cmd.Flags())
	cmd.Flags().Uint16Var(&req.Port, "port", 0, "this port and no other")
	cmd.Flags().IntVar(&req.Ports, "ports", 0, "how many ports in a row")
	cmd.Flags().StringVar(&req.Owner, "owner", "", "who it is for, for people")
	return cmd
}

func renew(a *cli.App) *cobra.Command {
	var h holder
	var req wire.RenewLease
	cmd := &cobra.Command{
		Use:   "renew PORT --lease-id ID",
		Short: "Renew a lease, or give it another holder",
		Example: "" +
			"  port=$(hivectl leases acquire --ttl 30s -q)\n" +
			"  id=$(hivectl leases get $port -o yaml | sed -n 's/^lease_id: //p')\n" +
			"  hivectl leases renew $port --lease-id $id\n" +
			"  hivectl leases renew $port --lease-id $id --pid $$",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(leaseOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := portArgument(args[0])
			if err != nil {
				return err
			}
			if req.LeaseID == "" {
				return cli.Usage("--lease-id is required: hivectl leases acquire printed it", "hivectl leases get "+args[0])
			}
			if req.PID, req.StartTime, req.TTL, err = h.resolve(); err != nil {
				return err
			}
			reply, err := a.Hive.RenewLease(cmd.Context(), port, req)
			if err != nil {
				return err
			}
			return printLease(a, reply)
		},
	}
	h.flags(cmd.Flags())
	cmd.Flags().StringVar(&req.LeaseID, "lease-id", "", "the lease's id")
	cli.CompleteFlag(cmd, "lease-id", a.Complete(leaseIDOffers))
	return cmd
}

func release(a *cli.App) *cobra.Command {
	var leaseID string
	cmd := &cobra.Command{
		Use:   "release PORT --lease-id ID",
		Short: "End a lease that is not a worker's",
		Example: "" +
			"  port=$(hivectl leases acquire --ttl 30s -q)\n" +
			"  id=$(hivectl leases get $port -o yaml | sed -n 's/^lease_id: //p')\n" +
			"  hivectl leases release $port --lease-id $id",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(leaseOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := portArgument(args[0])
			if err != nil {
				return err
			}
			if leaseID == "" {
				return cli.Usage("--lease-id is required: hivectl leases acquire printed it", "hivectl leases get "+args[0])
			}
			reply, err := a.Hive.ReleaseLease(cmd.Context(), port, leaseID)
			if err != nil {
				return err
			}
			return printReleased(a, reply)
		},
	}
	cmd.Flags().StringVar(&leaseID, "lease-id", "", "the lease's id")
	cli.CompleteFlag(cmd, "lease-id", a.Complete(leaseIDOffers))
	return cmd
}

func printReleased(a *cli.App, reply client.Reply[wire.Released]) error {
	text := fmt.Sprintf("port %d is free", reply.Value.Port)
	if reply.Value.Status == "quarantined" {
		text = fmt.Sprintf("the lease of port %d has ended; something still listens there, so the port is quarantined until that stops", reply.Value.Port)
	}
	return a.Print(cli.View{
		Raw:   reply.Raw,
		IDs:   []string{fmt.Sprint(reply.Value.Port)},
		Table: func(w io.Writer) error { return output.Lines(w, []string{text}) },
	})
}
