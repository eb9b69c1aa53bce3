package workers

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Workers is the commands that look at workers and wait for them.
func Workers(a *cli.App) *cobra.Command {
	return cli.Group("workers", "List, show, wait for and remove workers", "  hivectl workers list",
		list(a), get(a), wait(a), Logs(a), remove(a))
}

func list(a *cli.App) *cobra.Command {
	return a.ListCommand(&cobra.Command{
		Use:     "list",
		Short:   "List all workers, ended ones too",
		Example: "  hivectl workers list\n  hivectl workers list --watch -o json",
	}, func(ctx context.Context) (cli.Listing, error) {
		reply, err := a.Hive.Workers(ctx)
		if err != nil {
			return cli.Listing{}, err
		}
		return workerListing(a, reply.Value.Workers, reply.Value.Wanted, reply.Raw, true)
	})
}

func get(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "get WORKER",
		Short:             "Show one worker",
		Example:           "  hivectl workers get demo\n  hivectl workers get demo -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.FirstArg(cli.CompleteWorkers(cli.AnyWorker))),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.Resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			reply, err := a.Hive.Worker(cmd.Context(), found.WorkerID)
			if err != nil {
				return err
			}
			return printWorker(a, reply)
		},
	}
}

func printWorker(a *cli.App, reply client.Reply[wire.Worker]) error {
	return a.Print(cli.View{
		Raw:   reply.Raw,
		IDs:   []string{reply.Value.WorkerID},
		Table: func(w io.Writer) error { return output.Fields(w, workerFields(a, reply.Value)) },
	})
}
