package workers

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Stop stops workers.
func Stop(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "stop WORKER...",
		Short: "Stop workers",
		Long: "Stop workers, in parallel, and wait until each has ended and its port is free. None is\n" +
			"stopped unless every argument names a worker.",
		Example:           "  hivectl stop demo\n  hivectl stop $(hivectl ps -q)",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.Complete(cli.CompleteWorkers(cli.LiveWorker)),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := a.ResolveAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			return stopAll(cmd.Context(), a, chosen)
		},
	}
}

// stopAll stops workers in parallel and reports each as it ends. It blocks until all have
// ended; the error is that of one worker, or a summary.
func stopAll(ctx context.Context, a *cli.App, workers []wire.Worker) error {
	results := make([]cli.Result, len(workers))
	var group errgroup.Group
	group.SetLimit(cli.Parallel)
	for i, w := range workers {
		// A worker that cannot be stopped is no reason to leave the others running.
		group.Go(func() error {
			results[i] = stopOne(ctx, a, w)
			return nil
		})
	}
	_ = group.Wait() // the errors are in results, one per worker
	var names []string
	for i, w := range workers {
		results[i].ID = w.WorkerID
		names = append(names, cli.Title(w))
	}
	return a.Summary("jobs", names, results, "stopped")
}

// stopOne stops one worker and reports it.
func stopOne(ctx context.Context, a *cli.App, w wire.Worker) cli.Result {
	// No error: it is as it was wanted, and a script may stop the same worker twice.
	if client.WorkerEnded(w.State) {
		a.Say("%s is %s already", cli.Title(w), w.State)
		return cli.Result{}
	}
	op := map[string]string{"operation": "worker_stop", "worker_id": w.WorkerID}
	job, err := a.RunJob(ctx, op, nil)
	if err != nil {
		return cli.Result{Err: err}
	}
	if err := a.Outcome(job.Value); err != nil {
		return cli.Result{Raw: job.Raw, Err: err}
	}
	a.Say("%s stopped, port %d is free", cli.Title(w), w.Port)
	return cli.Result{Raw: job.Raw}
}
