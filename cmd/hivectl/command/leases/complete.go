package leases

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/client"
)

// completeLeases offers the ports of leases; own: only those that are no worker's.
func completeLeases(own bool) cli.Completer {
	return func(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
		reply, err := hive.Leases(ctx)
		if err != nil {
			return nil, err
		}
		var found []cobra.Completion
		for _, l := range reply.Value.Leases {
			if !own || l.WorkerID == nil {
				found = append(found, cli.Completion(fmt.Sprint(l.Port), "%s %s %s", l.Kind, leaseHolder(l), l.State))
			}
		}
		return found, nil
	}
}

// completeLeaseIDs offers the id of the lease whose port is the argument.
func completeLeaseIDs(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
	reply, err := hive.Leases(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, l := range reply.Value.Leases {
		port := fmt.Sprint(l.Port)
		if l.WorkerID == nil && (len(args) == 0 || args[0] == port) {
			found = append(found, cli.Completion(l.LeaseID, "port %s %s", port, leaseHolder(l)))
		}
	}
	return found, nil
}
