package workers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// waitInterval is how often `workers wait` polls.
const waitInterval = 200 * time.Millisecond

// workerStates are the states of a worker, the ones that are waited for most first.
var workerStates = []string{"ready", "stopped", "failed", "starting", "loading", "unhealthy", "stopping", "backoff", "unverified"}

func wait(a *cli.App) *cobra.Command {
	var goal string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait WORKER...",
		Short: "Wait until workers are ready, or stopped, or in another state",
		Long: "Wait until every one of the workers is in the state that --for names, also over\n" +
			"restarts of hive. An autostart entry that has no worker yet is waited for, too. stopped means that it has ended, in whatever way. The command fails if\n" +
			"a worker has ended and cannot reach the state any more, or after --timeout. States that\n" +
			"last less than a fifth of a second may be missed.",
		Example:           "  hivectl workers wait demo --for ready --timeout 60s\n  hivectl workers wait $(hivectl ps -q)",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.Complete(cli.CompleteWorkers(cli.AnyWorker)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(workerStates, goal) {
				return cli.Usage(fmt.Sprintf("--for %s: want one of %s", goal, strings.Join(workerStates, ", ")), "")
			}
			if timeout < 0 {
				return cli.Usage(fmt.Sprintf("--timeout %s: want a positive time", timeout), "")
			}
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				// The cause tells this end from Ctrl-C.
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, errWaitTimeout)
				defer cancel()
			}
			if goal != "stopped" {
				if err := awaitWanted(ctx, a, args, goal, timeout); err != nil {
					return err
				}
			}
			chosen, err := a.ResolveAll(ctx, args)
			if err != nil {
				return err
			}
			return waitForAll(ctx, a, chosen, goal, timeout)
		},
	}
	cmd.Flags().StringVar(&goal, "for", "ready", "the `state` to wait for: ready, stopped (however it ended), or another one")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time, such as 30s (default never)")
	cli.CompleteFlag(cmd, "for", cli.OneOf(workerStates...))
	return cmd
}

// waitForAll waits for all workers in parallel, and prints those that reached the goal. The
// error is that of the first in order that did not.
func waitForAll(ctx context.Context, a *cli.App, workers []wire.Worker, goal string, timeout time.Duration) error {
	replies := make([]client.Reply[wire.Worker], len(workers))
	errs := make([]error, len(workers))
	var group errgroup.Group
	for i, w := range workers {
		// No error is returned to the group: one worker that fails must not end the wait for others.
		group.Go(func() error {
			replies[i], errs[i] = waitFor(ctx, a, w, goal, timeout)
			if errs[i] == nil {
				a.Say("%s is %s", cli.Title(w), replies[i].Value.State)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, one per worker
	// Also after a failure: programs get the workers that are where they should be.
	if err := printReached(a, replies, errs); err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitWanted waits until the autostart entries among the names have a worker. It fails for
// one that is not started again.
func awaitWanted(ctx context.Context, a *cli.App, names []string, goal string, timeout time.Duration) error {
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	var next *wire.Wanted
	for {
		reply, err := a.Hive.Workers(ctx)
		switch {
		case err == nil:
		case next == nil:
			return err // of the first request, as of any other command
		// The request was cut off by the end of the wait; or hive is being restarted.
		case ctx.Err() != nil, client.Away(err):
			if err := pause(ctx, ticker, *next, goal, timeout); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		next = nil
		for _, v := range client.WithoutWorker(reply.Value.Wanted, reply.Value.Workers) {
			if slices.Contains(names, v.Name) {
				next = &v
				break
			}
		}
		if next == nil {
			return nil
		}
		if next.State == "failed" {
			return cli.Failed(fmt.Sprintf("%s could not be started: %s", next.Name, output.Or(next.Reason)), "hivectl up "+next.Name)
		}
		if err := pause(ctx, ticker, *next, goal, timeout); err != nil {
			return err
		}
	}
}

// pause waits until the next look at an entry that has no worker yet.
func pause(ctx context.Context, ticker *time.Ticker, v wire.Wanted, goal string, timeout time.Duration) error {
	select {
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), errWaitTimeout) {
			return ctx.Err()
		}
		return cli.Failed(fmt.Sprintf("%s is %s after %s, not %s: %s", v.Name, v.State, timeout, goal, output.Or(v.Reason)), "hivectl status")
	case <-ticker.C:
		return nil
	}
}

// errWaitTimeout is the cause of a wait that timed out.
var errWaitTimeout = cli.Failed("timed out", "")

// waitFor polls until the worker has reached the goal, over restarts of the daemon.
func waitFor(ctx context.Context, a *cli.App, worker wire.Worker, goal string, timeout time.Duration) (client.Reply[wire.Worker], error) {
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	state := worker.State
	for {
		reply, err := a.Hive.Worker(ctx, worker.WorkerID)
		switch {
		case err == nil:
			a.Answered()
			state = reply.Value.State
			if done, err := reached(reply.Value, goal); done || err != nil {
				return reply, err
			}
		// The request was cut off by the end of the wait, which the select below reports.
		case ctx.Err() != nil:
		case client.Away(err):
			a.NoticeWait(err)
		default:
			return reply, err
		}
		select {
		case <-ctx.Done():
			// Ctrl-C is not a wait that took too long: it has no text of its own.
			if !errors.Is(context.Cause(ctx), errWaitTimeout) {
				return reply, ctx.Err()
			}
			return reply, cli.Failed(fmt.Sprintf("%s is %s after %s, not %s", cli.Title(worker), state, timeout, goal), "hivectl describe "+worker.WorkerID)
		case <-ticker.C:
		}
	}
}

// reached reports whether waiting is over; the error says that the goal can not be reached
// any more.
func reached(w wire.Worker, goal string) (bool, error) {
	ended := client.WorkerEnded(w.State)
	switch {
	case goal == "stopped":
		// failed counts, too: who waits for the end of a worker does not ask how it came.
		return ended, nil
	// Before the end is judged, since failed may be what is waited for.
	case w.State == goal:
		return true, nil
	case ended:
		text := fmt.Sprintf("%s is %s", cli.Title(w), w.State)
		if w.Reason != nil && *w.Reason != "" {
			text += ": " + *w.Reason
		}
		return true, cli.Failed(text, "hivectl logs "+w.WorkerID)
	}
	return false, nil
}

// printReached prints, for programs, the workers that reached the goal: one as the API
// returns it, several as a list.
func printReached(a *cli.App, replies []client.Reply[wire.Worker], errs []error) error {
	if a.ForPeople() {
		return nil
	}
	var ids []string
	var raws [][]byte
	for i, r := range replies {
		if errs[i] == nil {
			ids, raws = append(ids, r.Value.WorkerID), append(raws, r.Raw)
		}
	}
	// The form of GET /v1/workers, so that what reads the list of workers reads this.
	raw := slices.Concat([]byte(`{"workers":[`), bytes.Join(raws, []byte(",")), []byte(`],"next":""}`))
	if len(replies) == 1 {
		// The one worker did not get there: no document at all is clearer than an empty one.
		if len(raws) == 0 {
			return nil
		}
		raw = raws[0]
	}
	return a.Print(cli.View{Raw: json.RawMessage(raw), IDs: ids})
}
