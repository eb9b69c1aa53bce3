package command

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) leases() *cobra.Command {
	return group("leases", "List leases of ports, and hold some for programs that hive does not start", "  hivectl leases list",
		a.leasesList(), a.leasesGet(), a.leasesAcquire(), a.leasesRenew(), a.leasesRelease())
}

func (a *app) leasesList() *cobra.Command {
	return a.lister(&cobra.Command{
		Use:     "list",
		Short:   "List all leases; -q prints the ports",
		Example: "  hivectl leases list\n  hivectl leases list --watch",
	}, func(ctx context.Context) (listing, error) {
		reply, err := a.hive.Leases(ctx)
		if err != nil {
			return listing{}, err
		}
		items, err := itemsOf(reply.Raw, "leases")
		if err != nil {
			return listing{}, err
		}
		l := listing{raw: reply.Raw, items: items, columns: []column{
			{name: "port"},
			{name: "kind", drop: 1},
			{name: "state"},
			{name: "holder", least: 8},
			{name: "pid", drop: 2},
			{name: "age", drop: 3},
			{name: "lease", drop: 4},
		}}
		for _, lease := range reply.Value.Leases {
			l.ids = append(l.ids, fmt.Sprint(lease.Port))
			l.rows = append(l.rows, []string{
				fmt.Sprint(lease.Port), clean(lease.Kind), a.state(lease.State), leaseHolder(lease),
				or(lease.PID), a.age(lease.AcquiredAt), clean(lease.LeaseID),
			})
		}
		return l, nil
	})
}

func (a *app) leasesGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get PORT",
		Short:             "Show the lease of a port",
		Example:           "  hivectl leases get 8080\n  hivectl leases get 8080 -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(first(leaseOffers(false))),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := portArgument(args[0])
			if err != nil {
				return err
			}
			reply, err := a.hive.Lease(cmd.Context(), port)
			if err != nil {
				return err
			}
			return a.printLease(reply)
		},
	}
}

func portArgument(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, usage(fmt.Sprintf("%q is not a port: want 1 to 65535", text), "")
	}
	return uint16(port), nil
}

func (a *app) printLease(reply client.Reply[wire.Lease]) error {
	l := reply.Value
	expires := "-"
	if l.ExpiresAt != nil {
		expires = clock(*l.ExpiresAt)
	}
	port := fmt.Sprint(l.Port)
	if len(l.Ports) > 1 {
		port = fmt.Sprintf("%d (of %d-%d)", l.Port, l.Ports[0], l.Ports[len(l.Ports)-1])
	}
	fields := [][2]string{
		{"port", port},
		{"lease", clean(l.LeaseID)},
		{"kind", clean(l.Kind)},
		{"state", a.state(l.State)},
		{"worker", or(l.WorkerID)},
		{"owner", or(l.Owner)},
		{"by", requesterName(l.RequestedBy)},
		{"pid", or(l.PID)},
		{"acquired", clock(l.AcquiredAt) + " (" + a.age(l.AcquiredAt) + " ago)"},
		{"expires", expires},
	}
	if l.Reason != nil {
		fields = append(fields, [2]string{"reason", clean(*l.Reason)})
	}
	return a.print(view{
		raw:   reply.Raw,
		ids:   []string{fmt.Sprint(l.Port)},
		table: func(w io.Writer) error { return writeFields(w, fields) },
	})
}

// leaseHolder is the worker of a lease, or whoever said he owns it.
func leaseHolder(l wire.Lease) string {
	if l.WorkerID != nil {
		return or(l.WorkerID)
	}
	return or(l.Owner)
}
