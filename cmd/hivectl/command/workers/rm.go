package workers

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/wire"
)

func remove(a *cli.App) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "rm WORKER...",
		Short: "Remove the records and logs of workers that have ended",
		Long: "Remove the records and logs of workers that have ended, so that no list shows them any\n" +
			"more. None is removed unless every argument names a worker. hive removes them by itself\n" +
			"some time after their end (workers_keep).",
		Example:           "  hivectl workers rm old\n  hivectl workers rm --all",
		ValidArgsFunction: a.Complete(cli.CompleteWorkers(cli.EndedWorker)),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := endedWorkers(cmd.Context(), a, args, all)
			if err != nil {
				return err
			}
			return removeAll(cmd.Context(), a, chosen)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all workers that have ended")
	return cmd
}

func endedWorkers(ctx context.Context, a *cli.App, args []string, all bool) ([]wire.Worker, error) {
	switch {
	case all && len(args) > 0:
		return nil, cli.Usage("--all is every worker that has ended: give it or WORKER, not both", "hivectl workers rm --all")
	case !all && len(args) == 0:
		return nil, cli.Usage("no worker given: want WORKER, or --all for every worker that has ended", "hivectl workers rm old")
	case !all:
		return a.ResolveAll(ctx, args)
	}
	reply, err := a.Hive.Workers(ctx)
	if err != nil {
		return nil, err
	}
	ended := slices.DeleteFunc(reply.Value.Workers, cli.LiveWorker)
	if len(ended) == 0 {
		a.Notice("no worker has ended")
	}
	return ended, nil
}

// removeAll removes one after the other, each of which takes hive a few milliseconds. The
// error is that of one worker, or a summary.
func removeAll(ctx context.Context, a *cli.App, workers []wire.Worker) error {
	results := make([]cli.Result, len(workers))
	var names []string
	for i, w := range workers {
		names = append(names, cli.Title(w))
		results[i] = removeOne(ctx, a, w)
	}
	return a.Summary("workers", names, results, "removed")
}

func removeOne(ctx context.Context, a *cli.App, w wire.Worker) cli.Result {
	if cli.LiveWorker(w) {
		return cli.Result{Err: cli.Failed(fmt.Sprintf("%s is %s; only a worker that has ended can be removed", cli.Title(w), w.State),
			fmt.Sprintf("hivectl stop %s && hivectl workers rm %s", w.WorkerID, w.WorkerID))}
	}
	reply, err := a.Hive.RemoveWorker(ctx, w.WorkerID)
	if err != nil {
		return cli.Result{Err: err}
	}
	a.Say("%s removed", cli.Title(w))
	return cli.Result{Raw: reply.Raw, ID: w.WorkerID}
}
