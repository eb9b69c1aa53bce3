package command

import (
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop all workers; the hive stays",
		Example: "  hivectl down",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.hive.Workers(cmd.Context())
			if err != nil {
				return err
			}
			alive := slices.DeleteFunc(all.Value.Workers, func(w wire.Worker) bool { return client.WorkerEnded(w.State) })
			if len(alive) == 0 {
				a.notice("no worker is running")
			}
			return a.stopAll(cmd.Context(), alive)
		},
	}
}
