package workers

import (
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Down stops all workers.
func Down(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop all workers; the hive stays",
		Example: "  hivectl down",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.Hive.Workers(cmd.Context())
			if err != nil {
				return err
			}
			alive := slices.DeleteFunc(all.Value.Workers, func(w wire.Worker) bool { return client.WorkerEnded(w.State) })
			// It goes on all the same: programs get their list of jobs, an empty one.
			if len(alive) == 0 {
				a.Notice("no worker is running")
			}
			// hive goes on trying these.
			for _, v := range client.WithoutWorker(all.Value.Wanted, all.Value.Workers) {
				a.Notice("%s has no worker yet (%s), and hive starts it as soon as it can; %s", v.Name, v.State, cli.NotWanted)
			}
			return stopAll(cmd.Context(), a, alive)
		},
	}
}
