package start

import (
	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
)

// Restart starts a worker again.
func Restart(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "restart WORKER",
		Short: "Start a worker again, as the configuration says now",
		Long: "End a worker's process and start it again on its port, as the configuration says\n" +
			"now, and follow it until it is ready. A worker that has ended is started again\n" +
			"under its id. Ctrl-C detaches: the worker goes on starting.",
		Example:           "  hivectl restart demo",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(cli.WorkerOffers(cli.AnyWorker))),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.Resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return runUp(cmd.Context(), a, map[string]string{"operation": "worker_restart", "worker_id": w.WorkerID})
		},
	}
}
