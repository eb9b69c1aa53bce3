package command

import "github.com/spf13/cobra"

func (a *app) restart() *cobra.Command {
	return &cobra.Command{
		Use:   "restart WORKER",
		Short: "Restart a worker with the present configuration",
		Long: "Stop a worker's process and start it again on its port, with the present\n" +
			"configuration, and follow it until it is ready. A worker that has ended is started\n" +
			"again under its id. Ctrl-C detaches: the worker keeps starting.",
		Example: "  hivectl restart demo",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.runUp(cmd.Context(), map[string]string{"operation": "worker_restart", "worker_id": w.WorkerID})
		},
	}
}
