package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// maxOperation is the API's limit for a body, in bytes; more is not worth reading.
const maxOperation = 1 << 20

func (a *app) jobs() *cobra.Command {
	return group("jobs", "Submit, look at, follow and cancel jobs", "  hivectl jobs list",
		a.jobsSubmit(), a.jobsList(), a.jobsGet(), a.jobsWatch(), a.jobsCancel())
}

func (a *app) jobsSubmit() *cobra.Command {
	key := ""
	cmd := &cobra.Command{
		Use:     "submit JSON|-",
		Short:   "Submit an operation; - reads it from standard input",
		Example: `  hivectl jobs submit '{"operation":"worker_spawn","worker":"cpu","model":"test"}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			operation, err := a.operation(args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("key") && key == "" {
				return usage("--key is empty", "give a key of your own, or leave --key out for a random one")
			}
			reply, err := a.hive.Submit(cmd.Context(), cmp.Or(key, rand.Text()), operation)
			if err != nil {
				return err
			}
			return a.print(view{
				raw: reply.Raw,
				ids: []string{reply.Value.JobID},
				table: func(w io.Writer) error {
					return writeFields(w, [][2]string{
						{"job", clean(reply.Value.JobID)},
						{"operation", clean(reply.Value.Operation)},
						{"state", a.state(reply.Value.State)},
						{"watch", "hivectl jobs watch " + clean(reply.Value.JobID)},
					})
				},
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "idempotency key: submitted again with the same one it is the same job (default a random one)")
	return cmd
}

// operation returns the JSON that the argument is, or names. What it means is
// the API's to judge; that it is JSON at all is told here, with the place.
func (a *app) operation(arg string) (json.RawMessage, error) {
	body := []byte(arg)
	if arg == "-" {
		var err error
		body, err = io.ReadAll(io.LimitReader(a.env.Stdin, maxOperation+1))
		if err != nil {
			return nil, fmt.Errorf("read the operation: %w", err)
		}
	}
	if len(body) > maxOperation {
		return nil, usage(fmt.Sprintf("the operation is larger than %d bytes", maxOperation), "")
	}
	var value json.RawMessage
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, usage("the operation is not JSON: "+err.Error(), `for example: hivectl jobs submit '{"operation":"worker_process_list"}'`)
	}
	return body, nil
}

func (a *app) jobsList() *cobra.Command {
	var filter client.JobFilter
	cmd := a.lister(&cobra.Command{
		Use:     "list",
		Short:   "List jobs, newest first",
		Example: "  hivectl jobs list --state failed --limit 20\n  hivectl jobs list --operation worker_spawn --watch",
	}, func(ctx context.Context) (listing, error) { return a.jobListing(ctx, filter) })
	flags := cmd.Flags()
	flags.StringVar(&filter.State, "state", "", "only jobs in this `state`: "+strings.Join(jobStates, ", "))
	flags.StringVar(&filter.Operation, "operation", "", "only jobs of this operation")
	flags.IntVar(&filter.Limit, "limit", 0, "at most this many (default 100)")
	flags.StringVar(&filter.After, "after", "", "the page after this `job`")
	completeFlag(cmd, "state", oneOf(jobStates...))
	completeFlag(cmd, "after", a.complete(jobOffers(true)))
	completeFlag(cmd, "operation", oneOf("worker_spawn", "worker_stop", "worker_restart", "worker_process_list", "worker_process_get", "worker_process_delete", "hive_check"))
	return cmd
}

// jobStates are the states of a job.
var jobStates = []string{"queued", "running", "succeeded", "failed", "cancelled"}

func (a *app) jobListing(ctx context.Context, filter client.JobFilter) (listing, error) {
	if filter.Limit < 0 {
		return listing{}, usage(fmt.Sprintf("--limit %d: want a number of jobs", filter.Limit), "")
	}
	reply, err := a.hive.Jobs(ctx, filter)
	if err != nil {
		return listing{}, err
	}
	items, err := itemsOf(reply.Raw, "jobs")
	if err != nil {
		return listing{}, err
	}
	l := listing{raw: reply.Raw, items: items, columns: []column{
		{name: "job"}, {name: "operation", drop: 1}, {name: "state"}, {name: "age", drop: 2}, {name: "by", least: 8, drop: 4}, {name: "error", least: 16, drop: 3},
	}}
	for _, j := range reply.Value.Jobs {
		l.ids = append(l.ids, j.JobID)
		l.rows = append(l.rows, []string{clean(j.JobID), clean(j.Operation), a.state(j.State), a.age(j.CreatedAt), requesterName(j.RequestedBy), jobErrorText(j)})
	}
	if reply.Value.Next != "" {
		l.next = "hivectl jobs list --after " + reply.Value.Next
	}
	return l, nil
}

func (a *app) jobsGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get JOB",
		Short:             "Show one job",
		Example:           "  hivectl jobs get $(hivectl jobs list -q --limit 1)",
		Args:              oneID,
		ValidArgsFunction: a.complete(first(jobOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.hive.Job(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(view{
				raw:   reply.Raw,
				ids:   []string{reply.Value.JobID},
				table: func(w io.Writer) error { return writeFields(w, a.jobFields(reply.Value)) },
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

func (a *app) jobsWatch() *cobra.Command {
	return &cobra.Command{
		Use:   "watch JOB",
		Short: "Follow a job from its first event and exit as it did",
		Long: "Follow a job from its first event, over restarts of the hive, and exit with 0 if\n" +
			"it succeeded and 1 if it failed or was cancelled. With -o json every event is\n" +
			"one line. Ctrl-C stops watching; the job goes on.",
		Example: "  job=$(hivectl jobs submit -q '{\"operation\":\"worker_spawn\",\"worker\":\"cpu\"}')\n" +
			"  hivectl jobs watch $job",
		Args:              oneID,
		ValidArgsFunction: a.complete(first(jobOffers(true))),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Asked first, so that an unknown job or a daemon that is not there is said at once.
			if _, err := a.hive.Job(cmd.Context(), args[0]); err != nil {
				return err
			}
			job, err := a.watch(cmd, args[0])
			if err != nil && cmd.Context().Err() != nil {
				return a.detached(args[0])
			}
			if err != nil {
				return err
			}
			return a.outcome(job.Value)
		},
	}
}

// watch prints the events of a job in the form that was asked for.
func (a *app) watch(cmd *cobra.Command, id string) (client.Reply[wire.Job], error) {
	if a.forPeople() {
		return a.await(cmd.Context(), id, a.env.Stdout)
	}
	var printErr error
	job, err := a.hive.WaitJob(cmd.Context(), id, client.FollowOptions{OnWait: a.noticeWait}, func(e client.Reply[wire.Event]) {
		a.answered()
		if printErr == nil && !a.quiet {
			printErr = a.printEvent(e.Raw)
		}
	})
	if err == nil {
		err = printErr
	}
	return job, err
}

func (a *app) jobsCancel() *cobra.Command {
	return &cobra.Command{
		Use:               "cancel JOB",
		Short:             "Cancel a job",
		Long:              "Cancel a job, and wait until what it had begun is undone.",
		Example:           "  hivectl jobs cancel $(hivectl jobs list -q --state running --limit 1)",
		Args:              oneID,
		ValidArgsFunction: a.complete(first(jobOffers(false))),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.hive.Cancel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(view{
				raw: reply.Raw,
				ids: []string{reply.Value.JobID},
				table: func(w io.Writer) error {
					return writeLines(w, []string{clean(reply.Value.JobID + " " + reply.Value.Status)})
				},
			})
		},
	}
}

// jobFields is one job for a person.
func (a *app) jobFields(j wire.Job) [][2]string {
	fields := [][2]string{
		{"job", clean(j.JobID)},
		{"operation", clean(j.Operation)},
		{"state", a.state(j.State)},
		{"request", jsonText(j.Request)},
		{"result", jsonText(j.Result)},
		{"error", jobErrorText(j)},
		{"by", requesterName(j.RequestedBy)},
		{"created", clock(j.CreatedAt)},
	}
	if j.StartedAt != nil {
		fields = append(fields, [2]string{"started", clock(*j.StartedAt)})
	}
	if j.FinishedAt != nil {
		fields = append(fields, [2]string{"finished", clock(*j.FinishedAt)})
	}
	return fields
}

func jsonText(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return "-"
	}
	return clean(string(raw))
}

func jobErrorText(j wire.Job) string {
	if j.Error == nil {
		return "-"
	}
	return clean(j.Error.Code + ": " + j.Error.Message)
}
