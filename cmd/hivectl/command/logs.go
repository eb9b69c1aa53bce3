package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
)

func (a *app) logs() *cobra.Command {
	opts := client.LogOptions{Tail: -1}
	cmd := &cobra.Command{
		Use:   "logs [-f] WORKER",
		Short: "Show what a worker has printed, also after its end",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tail") && opts.Tail < 0 {
				return usage(fmt.Sprintf("--tail %d: want a number of lines", opts.Tail), "")
			}
			return a.copyLog(cmd.Context(), args[0], opts)
		},
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "go on until the worker has ended; Ctrl-C stops looking")
	cmd.Flags().IntVar(&opts.Tail, "tail", -1, "only the last `N` lines (default all)")
	return cmd
}

// copyLog copies a log to Stdout as it is. Ctrl-C while following is how one
// stops looking, not a failure.
func (a *app) copyLog(ctx context.Context, ref string, opts client.LogOptions) error {
	worker, err := a.resolve(ctx, ref)
	if err != nil {
		return err
	}
	body, err := a.hive.WorkerLog(ctx, worker.WorkerID, opts)
	if err == nil {
		_, err = io.Copy(a.env.Stdout, body)
		body.Close()
	}
	if opts.Follow && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
