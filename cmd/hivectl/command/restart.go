package command

import "github.com/spf13/cobra"

func (a *app) restart() *cobra.Command {
	return &cobra.Command{
		Use:   "restart WORKER",
		Short: "Start a worker again, as the configuration says now",
		Long: "End a worker's process and start it again on its port, as the configuration says\n" +
			"now, and follow it until it is ready. A worker that has ended is started again\n" +
			"under its id. Ctrl-C detaches: the worker goes on starting.",
		Example:           "  hivectl restart demo",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(first(workerOffers(anyWorker))),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.runUp(cmd.Context(), map[string]string{"operation": "worker_restart", "worker_id": w.WorkerID})
		},
	}
}
