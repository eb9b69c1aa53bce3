package start

import (
	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
)

// Restart starts a worker again.
func Restart(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "restart WORKER",
		Short: "Restart a worker with the present configuration",
		Long: "Stop a worker's process and start it again on its port, with the present\n" +
			"configuration, and follow it until it is ready. A worker that has ended is started\n" +
			"again under its id. Ctrl-C detaches: the worker keeps starting.",
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
