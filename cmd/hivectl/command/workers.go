package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// waitInterval is how often `workers wait` looks.
const waitInterval = 200 * time.Millisecond

func (a *app) workers() *cobra.Command {
	return group("workers", "List, look at and wait for workers", a.workersList(), a.workersGet(), a.workersWait(), a.logs())
}

func (a *app) workersList() *cobra.Command {
	return a.lister(&cobra.Command{
		Use:     "list",
		Short:   "List all workers, ended ones too",
		Example: "  hivectl workers list\n  hivectl workers list --watch -o json",
	}, func(ctx context.Context) (listing, error) {
		reply, err := a.hive.Workers(ctx)
		if err != nil {
			return listing{}, err
		}
		return a.workerListing(reply.Value.Workers, reply.Raw, true)
	})
}

func (a *app) workersGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get WORKER",
		Short: "Show one worker",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			reply, err := a.hive.Worker(cmd.Context(), found.WorkerID)
			if err != nil {
				return err
			}
			return a.printWorker(reply)
		},
	}
}

func (a *app) printWorker(reply client.Reply[wire.Worker]) error {
	return a.print(view{
		raw:   reply.Raw,
		ids:   []string{reply.Value.WorkerID},
		table: func(w io.Writer) error { return a.writeFields(w, a.workerFields(reply.Value)) },
	})
}

func (a *app) workersWait() *cobra.Command {
	var goal string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait WORKER",
		Short: "Wait until a worker is ready, or stopped",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if goal != "ready" && goal != "stopped" {
				return usage(fmt.Sprintf("--for %s: want ready or stopped", goal), "")
			}
			if timeout < 0 {
				return usage(fmt.Sprintf("--timeout %s: want a positive time", timeout), "")
			}
			found, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.waitFor(cmd.Context(), found, goal, timeout)
		},
	}
	cmd.Flags().StringVar(&goal, "for", "ready", "`ready` or stopped (however it ended)")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time, 30s say (default never)")
	return cmd
}

// waitFor polls until the worker is what is waited for, over restarts of the daemon.
func (a *app) waitFor(ctx context.Context, worker wire.Worker, goal string, timeout time.Duration) error {
	waitCtx, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		waitCtx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	state := worker.State
	for {
		reply, err := a.hive.Worker(waitCtx, worker.WorkerID)
		switch {
		case err == nil:
			a.outages.over()
			state = reply.Value.State
			if done, err := reached(reply.Value, goal); done || err != nil {
				return errors.Join(err, a.printReached(reply, err))
			}
		case waitCtx.Err() != nil:
		case client.Away(err):
			a.tellWait(err)
		default:
			return err
		}
		select {
		case <-waitCtx.Done():
			if err := ctx.Err(); err != nil {
				return err
			}
			return failed(fmt.Sprintf("%s is %s after %s, not %s", title(worker), state, timeout, goal), "")
		case <-ticker.C:
		}
	}
}

// reached decides whether waiting is over; the error says that the goal can
// not be reached any more.
func reached(w wire.Worker, goal string) (bool, error) {
	ended := client.WorkerEnded(w.State)
	switch {
	case goal == "stopped":
		return ended, nil
	case ended:
		text := fmt.Sprintf("%s is %s", title(w), w.State)
		if w.Reason != nil && *w.Reason != "" {
			text += ": " + *w.Reason
		}
		return true, failed(text, "hivectl logs "+w.WorkerID)
	}
	return w.State == goal, nil
}

// printReached prints the worker that was waited for, if it got there.
func (a *app) printReached(reply client.Reply[wire.Worker], failure error) error {
	if failure != nil {
		return nil
	}
	if a.forPeople() {
		a.say("%s is %s", title(reply.Value), reply.Value.State)
		return nil
	}
	return a.printWorker(reply)
}
