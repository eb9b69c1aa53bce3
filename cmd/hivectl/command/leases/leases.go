package leases

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Leases is the commands for leases of ports.
func Leases(a *cli.App) *cobra.Command {
	return cli.Group("leases", "List leases of ports, and manage those of programs that hive does not start", "  hivectl leases list",
		list(a), get(a), acquire(a), renew(a), release(a))
}

func list(a *cli.App) *cobra.Command {
	return a.Lister(&cobra.Command{
		Use:     "list",
		Short:   "List all leases; -q prints the ports",
		Example: "  hivectl leases list\n  hivectl leases list --watch",
	}, func(ctx context.Context) (cli.Listing, error) {
		reply, err := a.Hive.Leases(ctx)
		if err != nil {
			return cli.Listing{}, err
		}
		items, err := cli.ItemsOf(reply.Raw, "leases")
		if err != nil {
			return cli.Listing{}, err
		}
		l := cli.Listing{Raw: reply.Raw, Items: items, Columns: []output.Column{
			{Name: "port"},
			{Name: "kind", Drop: 1},
			{Name: "state"},
			{Name: "holder", Least: 8},
			{Name: "pid", Drop: 2},
			{Name: "age", Drop: 3},
			{Name: "lease", Drop: 4},
		}}
		for _, lease := range reply.Value.Leases {
			l.IDs = append(l.IDs, fmt.Sprint(lease.Port))
			l.Rows = append(l.Rows, []string{
				fmt.Sprint(lease.Port), output.Clean(lease.Kind), a.State(lease.State), leaseHolder(lease),
				output.Or(lease.PID), a.Age(lease.AcquiredAt), output.Clean(lease.LeaseID),
			})
		}
		return l, nil
	})
}

func get(a *cli.App) *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:               "get PORT | --pid PID",
		Short:             "Show the lease of a port, or of a process",
		Example:           "  hivectl leases get 8080\n  hivectl leases get 8080 -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.Complete(cli.First(leaseOffers(false))),
		RunE: func(cmd *cobra.Command, args []string) error {
			byPID := cmd.Flags().Changed("pid")
			// Both were given, or neither.
			if byPID == (len(args) == 1) {
				return cli.Usage("one of PORT and --pid is required", "hivectl leases list")
			}
			if byPID {
				port, err := portOfPID(cmd.Context(), a, pid)
				if err != nil {
					return err
				}
				args = []string{port}
			}
			port, err := portArgument(args[0])
			if err != nil {
				return err
			}
			reply, err := a.Hive.Lease(cmd.Context(), port)
			if err != nil {
				return err
			}
			return printLease(a, reply)
		},
	}
	cmd.Flags().IntVar(&pid, "pid", 0, "the process that holds the lease")
	return cmd
}

// portOfPID is the first port of the one lease that a process holds.
func portOfPID(ctx context.Context, a *cli.App, pid int) (string, error) {
	reply, err := a.Hive.LeasesOf(ctx, pid)
	if err != nil {
		return "", err
	}
	// A lease of several ports is in the list once for each.
	first := map[string]string{}
	var ports []string
	for _, l := range reply.Value.Leases {
		if first[l.LeaseID] == "" {
			first[l.LeaseID] = strconv.Itoa(int(l.Port))
			ports = append(ports, first[l.LeaseID])
		}
	}
	switch len(ports) {
	case 0:
		return "", cli.NotFound(fmt.Sprintf("process %d holds no lease", pid), "see hivectl leases list")
	case 1:
		return ports[0], nil
	}
	return "", cli.Usage(fmt.Sprintf("process %d holds %d leases, of ports %s; name one", pid, len(ports), strings.Join(ports, ", ")), "hivectl leases get "+ports[0])
}

func portArgument(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, cli.Usage(fmt.Sprintf("%q is not a port: want 1 to 65535", text), "")
	}
	return uint16(port), nil
}

func printLease(a *cli.App, reply client.Reply[wire.Lease]) error {
	l := reply.Value
	expires := "-"
	if l.ExpiresAt != nil {
		expires = output.Clock(*l.ExpiresAt)
	}
	port := fmt.Sprint(l.Port)
	if len(l.Ports) > 1 {
		port = fmt.Sprintf("%d (of %d-%d)", l.Port, l.Ports[0], l.Ports[len(l.Ports)-1])
	}
	fields := [][2]string{
		{"port", port},
		{"lease", output.Clean(l.LeaseID)},
		{"kind", output.Clean(l.Kind)},
		{"state", a.State(l.State)},
		{"worker", output.Or(l.WorkerID)},
		{"owner", output.Or(l.Owner)},
		{"by", cli.RequesterName(l.RequestedBy)},
		{"pid", output.Or(l.PID)},
		{"acquired", output.Clock(l.AcquiredAt) + " (" + a.Age(l.AcquiredAt) + " ago)"},
		{"expires", expires},
	}
	if l.Reason != nil {
		fields = append(fields, [2]string{"reason", output.Clean(*l.Reason)})
	}
	return a.Print(cli.View{
		Raw:   reply.Raw,
		IDs:   []string{fmt.Sprint(l.Port)},
		Table: func(w io.Writer) error { return output.Fields(w, fields) },
	})
}

// leaseHolder is the worker of a lease, or its owner as given.
func leaseHolder(l wire.Lease) string {
	if l.WorkerID != nil {
		return output.Or(l.WorkerID)
	}
	return output.Or(l.Owner)
}
