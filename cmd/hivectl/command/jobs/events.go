package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Events follows everything that happens in the hive.
func Events(a *cli.App) *cobra.Command {
	var o client.FollowAllOptions
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow everything that happens in the hive",
		Long: "Follow the events of all jobs, workers and leases and of the audit, a line each, over\n" +
			"restarts of the hive, from the oldest that is kept. The number at the beginning of a\n" +
			"line is what --after takes: it continues after that event, and fails (1) if events after\n" +
			"it have been removed meanwhile, so that none is missed silently.\n\n" +
			"With -o json every event is one line; -q prints the numbers. Ctrl-C ends it.",
		Example: "  hivectl events --after latest\n" +
			"  hivectl events --type port,audit -o json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Checked first, so that an unreachable daemon is reported immediately.
			if _, err := a.Hive.Hive(cmd.Context()); err != nil {
				return err
			}
			o.OnWait = a.NoticeWait
			return followAll(cmd.Context(), a, o)
		},
	}
	cmd.Flags().StringVar(&o.After, "after", "", "continue after the event with this `number`; latest: only new events")
	cmd.Flags().StringSliceVar(&o.Types, "type", nil, "only events of these `types`: state, port, process, log, progress, result, audit, end")
	cli.CompleteFlag(cmd, "type", cli.OneOf("state", "port", "process", "log", "progress", "result", "audit", "end"))
	cli.CompleteFlag(cmd, "after", cli.OneOf("latest"))
	return cmd
}

// followAll prints events until it is interrupted, which is no failure.
func followAll(ctx context.Context, a *cli.App, o client.FollowAllOptions) error {
	for e, err := range a.Hive.FollowAll(ctx, o) {
		if err == nil {
			a.Answered()
			err = printFeed(a, e)
		}
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func printFeed(a *cli.App, e client.Reply[wire.Event]) error {
	switch {
	case a.Quiet:
		return output.Lines(a.Env.Stdout, []string{strconv.FormatUint(e.Value.Seq, 10)})
	case a.ForPeople():
		return output.Lines(a.Env.Stdout, []string{fmt.Sprintf("%6d  %s", e.Value.Seq, cli.EventLine(e.Value))})
	}
	return a.PrintEvent(e.Raw)
}
