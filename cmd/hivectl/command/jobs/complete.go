package jobs

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// maxJobsOffered is how many ended jobs are offered, newest first.
const maxJobsOffered = 50

// completeJobs offers jobs, those that have not ended first; ended: the others too.
func completeJobs(ended bool) cli.Completer {
	filters := []client.JobFilter{{State: "running"}, {State: "queued"}}
	if ended {
		filters = append(filters, client.JobFilter{Limit: maxJobsOffered})
	}
	return func(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
		pages := make([][]wire.Job, len(filters))
		var group errgroup.Group
		for i, filter := range filters {
			// A request for each state: one page of all jobs may hold none of those that still run.
			group.Go(func() error {
				reply, err := hive.Jobs(ctx, filter)
				pages[i] = reply.Value.Jobs
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		var found []cobra.Completion
		seen := map[string]bool{}
		for _, j := range slices.Concat(pages...) {
			if !seen[j.JobID] {
				found = append(found, cli.Completion(j.JobID, "%s %s", j.Operation, j.State))
			}
			seen[j.JobID] = true
		}
		return found, nil
	}
}
