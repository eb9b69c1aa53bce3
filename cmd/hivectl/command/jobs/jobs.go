package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// maxOperation is the API's limit for a body, in bytes.
const maxOperation = 1 << 20

// Jobs is the commands for jobs.
func Jobs(a *cli.App) *cobra.Command {
	return cli.Group("jobs", "Submit, show, follow and cancel jobs", "  hivectl jobs list",
		submit(a), list(a), get(a), watch(a), cancel(a))
}

func submit(a *cli.App) *cobra.Command {
	key := ""
	cmd := &cobra.Command{
		Use:     "submit JSON|-",
		Short:   "Submit an operation; - reads it from standard input",
		Example: `  hivectl jobs submit '{"operation":"worker_spawn","worker":"cpu","model":"test"}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			operation, err := operation(a, args[0])
			if err != nil {
				return err
			}
			// An unset variable in a script would become a random key, and each try another job.
			if cmd.Flags().Changed("key") && key == "" {
				return cli.Usage("--key is empty", "give a key of your own, or leave --key out for a random one")
			}
			reply, err := a.Hive.Submit(cmd.Context(), cmp.Or(key, rand.Text()), operation)
			if err != nil {
				return err
			}
			return a.Print(cli.View{
				Raw: reply.Raw,
				IDs: []string{reply.Value.JobID},
				Table: func(w io.Writer) error {
					return output.Fields(w, [][2]string{
						{"job", output.Clean(reply.Value.JobID)},
						{"operation", output.Clean(reply.Value.Operation)},
						{"state", a.State(reply.Value.State)},
						{"watch", "hivectl jobs watch " + output.Clean(reply.Value.JobID)},
					})
				},
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "idempotency key: submitting again with the same key returns the same job (default random)")
	return cmd
}

// operation returns the JSON that the argument is, or names. The API validates it; only
// invalid JSON is reported here, with the position.
func operation(a *cli.App, arg string) (json.RawMessage, error) {
	body := []byte(arg)
	if arg == "-" {
		var err error
		// One byte more than the limit, to tell what is too large from what just fits.
		body, err = io.ReadAll(io.LimitReader(a.Env.Stdin, maxOperation+1))
		if err != nil {
			return nil, fmt.Errorf("read the operation: %w", err)
		}
	}
	if len(body) > maxOperation {
		return nil, cli.Usage(fmt.Sprintf("the operation is larger than %d bytes", maxOperation), "")
	}
	var value json.RawMessage
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, cli.Usage("the operation is not JSON: "+err.Error(), `for example: hivectl jobs submit '{"operation":"worker_process_list"}'`)
	}
	return body, nil
}

func list(a *cli.App) *cobra.Command {
	var filter client.JobFilter
	cmd := a.Lister(&cobra.Command{
		Use:     "list",
		Short:   "List jobs, newest first",
		Example: "  hivectl jobs list --state failed --limit 20\n  hivectl jobs list --operation worker_spawn --watch",
	}, func(ctx context.Context) (cli.Listing, error) { return jobListing(ctx, a, filter) })
	flags := cmd.Flags()
	flags.StringVar(&filter.State, "state", "", "only jobs in this `state`: "+strings.Join(jobStates, ", "))
	flags.StringVar(&filter.Operation, "operation", "", "only jobs of this operation")
	flags.IntVar(&filter.Limit, "limit", 0, "at most this many (default 100)")
	flags.StringVar(&filter.After, "after", "", "the page after this `job`")
	cli.CompleteFlag(cmd, "state", cli.OneOf(jobStates...))
	cli.CompleteFlag(cmd, "after", a.Complete(jobOffers(true)))
	cli.CompleteFlag(cmd, "operation", cli.OneOf("worker_spawn", "worker_stop", "worker_restart", "worker_process_list", "worker_process_get", "worker_process_delete", "hive_check"))
	return cmd
}

// jobStates are the states of a job.
var jobStates = []string{"queued", "running", "succeeded", "failed", "cancelled"}

func jobListing(ctx context.Context, a *cli.App, filter client.JobFilter) (cli.Listing, error) {
	// The client would take it for "not given", which means 100.
	if filter.Limit < 0 {
		return cli.Listing{}, cli.Usage(fmt.Sprintf("--limit %d: want a number of jobs", filter.Limit), "")
	}
	reply, err := a.Hive.Jobs(ctx, filter)
	if err != nil {
		return cli.Listing{}, err
	}
	items, err := cli.ItemsOf(reply.Raw, "jobs")
	if err != nil {
		return cli.Listing{}, err
	}
	l := cli.Listing{Raw: reply.Raw, Items: items, Columns: []output.Column{
		{Name: "job"}, {Name: "operation", Drop: 1}, {Name: "state"}, {Name: "age", Drop: 2}, {Name: "by", Least: 8, Drop: 4}, {Name: "error", Least: 16, Drop: 3},
	}}
	for _, j := range reply.Value.Jobs {
		l.IDs = append(l.IDs, j.JobID)
		l.Rows = append(l.Rows, []string{output.Clean(j.JobID), output.Clean(j.Operation), a.State(j.State), a.Age(j.CreatedAt), cli.RequesterName(j.RequestedBy), jobErrorText(j)})
	}
	if reply.Value.Next != "" {
		l.Next = "hivectl jobs list --after " + reply.Value.Next
	}
	return l, nil
}

func get(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "get JOB",
		Short:             "Show one job",
		Example:           "  hivectl jobs get $(hivectl jobs list -q --limit 1)",
		Args:              oneID,
		ValidArgsFunction: a.Complete(cli.First(jobOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.Hive.Job(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Print(cli.View{
				Raw:   reply.Raw,
				IDs:   []string{reply.Value.JobID},
				Table: func(w io.Writer) error { return output.Fields(w, jobFields(a, reply.Value)) },
			})
		},
	}
}

// oneID wants one argument that is not empty: an empty one would ask for the list.
func oneID(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if args[0] == "" {
		return fmt.Errorf("the job id is empty")
	}
	return nil
}

func watch(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "watch JOB",
		Short: "Follow a job from its first event and exit as it did",
		Long: "Follow a job from its first event, over restarts of the hive, and exit with 0 if\n" +
			"it succeeded and 1 if it failed or was cancelled. With -o json every event is\n" +
			"one line. Ctrl-C stops watching; the job continues.",
		Example: "  job=$(hivectl jobs submit -q '{\"operation\":\"worker_spawn\",\"worker\":\"cpu\"}')\n" +
			"  hivectl jobs watch $job",
		Args:              oneID,
		ValidArgsFunction: a.Complete(cli.First(jobOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Checked first, so that an unknown job or an unreachable daemon is reported
			// immediately.
			if _, err := a.Hive.Job(cmd.Context(), args[0]); err != nil {
				return err
			}
			job, err := printEvents(a, cmd, args[0])
			if err != nil && cmd.Context().Err() != nil {
				return a.Detached(args[0])
			}
			if err != nil {
				return err
			}
			return a.Outcome(job.Value)
		},
	}
}

// printEvents prints the events of a job in the form that was asked for.
func printEvents(a *cli.App, cmd *cobra.Command, id string) (client.Reply[wire.Job], error) {
	if a.ForPeople() {
		return a.Await(cmd.Context(), id, a.Env.Stdout)
	}
	var printErr error
	job, err := a.Hive.WaitJob(cmd.Context(), id, client.FollowOptions{OnWait: a.NoticeWait}, func(e client.Reply[wire.Event]) {
		a.Answered()
		// The callback cannot end the wait, so the first error is kept for afterwards.
		if printErr == nil && !a.Quiet {
			printErr = a.PrintEvent(e.Raw)
		}
	})
	if err == nil {
		err = printErr
	}
	return job, err
}

func cancel(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "cancel JOB",
		Short:             "Cancel a job",
		Long:              "Cancel a job, and wait until what it did is undone.",
		Example:           "  hivectl jobs cancel $(hivectl jobs list -q --state running --limit 1)",
		Args:              oneID,
		ValidArgsFunction: a.Complete(cli.First(jobOffers(false))),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.Hive.Cancel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Print(cli.View{
				Raw: reply.Raw,
				IDs: []string{reply.Value.JobID},
				Table: func(w io.Writer) error {
					return output.Lines(w, []string{output.Clean(reply.Value.JobID + " " + reply.Value.Status)})
				},
			})
		},
	}
}

// jobFields is one job for a person.
func jobFields(a *cli.App, j wire.Job) [][2]string {
	fields := [][2]string{
		{"job", output.Clean(j.JobID)},
		{"operation", output.Clean(j.Operation)},
		{"state", a.State(j.State)},
		{"request", jsonText(j.Request)},
		{"result", jsonText(j.Result)},
		{"error", jobErrorText(j)},
		{"by", cli.RequesterName(j.RequestedBy)},
		{"created", output.Clock(j.CreatedAt)},
	}
	if j.StartedAt != nil {
		fields = append(fields, [2]string{"started", output.Clock(*j.StartedAt)})
	}
	if j.FinishedAt != nil {
		fields = append(fields, [2]string{"finished", output.Clock(*j.FinishedAt)})
	}
	return fields
}

func jsonText(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "-"
	}
	return output.Clean(string(raw))
}

func jobErrorText(j wire.Job) string {
	if j.Error == nil {
		return "-"
	}
	return output.Clean(j.Error.Code + ": " + j.Error.Message)
}
