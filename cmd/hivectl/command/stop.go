package command

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) stop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop WORKER...",
		Short: "Stop workers",
		Long: "Stop workers, side by side, and wait until each has ended and its port is free. None is\n" +
			"stopped unless every argument means one.",
		Example:           "  hivectl stop demo\n  hivectl stop $(hivectl ps -q)",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.complete(workerOffers(liveWorker)),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := a.resolveAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.stopAll(cmd.Context(), chosen)
		},
	}
}

// stopAll stops workers side by side and reports each as it ends. It blocks
// until all have ended; the error is that of one worker, or a summary.
func (a *app) stopAll(ctx context.Context, workers []wire.Worker) error {
	results := make([]stopped, len(workers))
	var group errgroup.Group
	group.SetLimit(stopParallel)
	for i, w := range workers {
		group.Go(func() error {
			results[i] = a.stopOne(ctx, w)
			return nil
		})
	}
	_ = group.Wait() // the errors are in results, one per worker
	var names []string
	for i, w := range workers {
		results[i].id = w.WorkerID
		names = append(names, title(w))
	}
	return a.summary(names, results, "stopped")
}

// stopOne stops one worker and reports it.
func (a *app) stopOne(ctx context.Context, w wire.Worker) stopped {
	if client.WorkerEnded(w.State) {
		a.say("%s is %s already", title(w), w.State)
		return stopped{}
	}
	op := map[string]string{"operation": "worker_stop", "worker_id": w.WorkerID}
	job, err := a.run(ctx, op, nil)
	if err != nil {
		return stopped{err: err}
	}
	if err := a.outcome(job.Value); err != nil {
		return stopped{job: job.Raw, err: err}
	}
	a.say("%s stopped, port %d is free", title(w), w.Port)
	return stopped{job: job.Raw}
}
