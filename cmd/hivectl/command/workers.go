package command

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) workers() *cobra.Command {
	return group("workers", "List, look at and wait for workers", "  hivectl workers list",
		a.workersList(), a.workersGet(), a.workersWait(), a.logs())
}

func (a *app) workersList() *cobra.Command {
	return a.lister(&cobra.Command{
		Use:     "list",
		Short:   "List all workers, ended ones too",
		Example: "  hivectl workers list\n  hivectl workers list --watch -o json",
	}, func(ctx context.Context) (listing, error) {
		reply, err := a.hive.Workers(ctx)
		if err != nil {
			return listing{}, err
		}
		return a.workerListing(reply.Value.Workers, reply.Raw, true)
	})
}

func (a *app) workersGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get WORKER",
		Short:             "Show one worker",
		Example:           "  hivectl workers get demo\n  hivectl workers get demo -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(first(workerOffers(anyWorker))),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			reply, err := a.hive.Worker(cmd.Context(), found.WorkerID)
			if err != nil {
				return err
			}
			return a.printWorker(reply)
		},
	}
}

func (a *app) printWorker(reply client.Reply[wire.Worker]) error {
	return a.print(view{
		raw:   reply.Raw,
		ids:   []string{reply.Value.WorkerID},
		table: func(w io.Writer) error { return writeFields(w, a.workerFields(reply.Value)) },
	})
}
