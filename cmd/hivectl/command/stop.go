package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// stopParallel is how many workers are stopped at the same time. Each waits
// for its worker's grace period, so one after the other would take minutes.
const stopParallel = 16

func (a *app) stop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop WORKER...",
		Short: "Stop workers",
		Long: "Stop workers, in parallel, and wait until each has ended and its port is free. None is\n" +
			"stopped unless every argument names a worker.",
		Example: "  hivectl stop demo\n  hivectl stop $(hivectl ps -q)",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := a.resolveAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.stopAll(cmd.Context(), chosen)
		},
	}
}

// opResult is the result of stopping one worker, or of starting it.
type opResult struct {
	job json.RawMessage // nil: none was needed, or it could not be followed
	id  string          // of the worker
	err error
}

// stopAll stops workers in parallel and reports each as it ends. It blocks until all have
// ended; the error is that of one worker, or a summary.
func (a *app) stopAll(ctx context.Context, workers []wire.Worker) error {
	results := make([]opResult, len(workers))
	var group errgroup.Group
	group.SetLimit(stopParallel)
	for i, w := range workers {
		group.Go(func() error {
			results[i] = a.stopOne(ctx, w)
			return nil
		})
	}
	_ = group.Wait() // the errors are in results, one per worker
	var names []string
	for i, w := range workers {
		results[i].id = w.WorkerID
		names = append(names, title(w))
	}
	return a.summary(names, results, "stopped")
}

// stopOne stops one worker and reports it.
func (a *app) stopOne(ctx context.Context, w wire.Worker) opResult {
	if client.WorkerEnded(w.State) {
		a.say("%s is %s already", title(w), w.State)
		return opResult{}
	}
	op := map[string]string{"operation": "worker_stop", "worker_id": w.WorkerID}
	job, err := a.runJob(ctx, op, nil)
	if err != nil {
		return opResult{err: err}
	}
	if err := a.outcome(job.Value); err != nil {
		return opResult{job: job.Raw, err: err}
	}
	a.say("%s stopped, port %d is free", title(w), w.Port)
	return opResult{job: job.Raw}
}

// say prints a line to Stdout if the output is for a person.
func (a *app) say(format string, args ...any) {
	if a.forPeople() {
		fmt.Fprintln(a.env.Stdout, clean(fmt.Sprintf(format, args...)))
	}
}

// summary prints the result for programs and reports what failed. names are the workers or
// types, did is what was done to them.
func (a *app) summary(names []string, results []opResult, did string) error {
	var jobs [][]byte
	var ids []string
	var failures []error
	for i, r := range results {
		if r.job != nil {
			jobs = append(jobs, r.job)
		}
		if r.err != nil {
			failures = append(failures, r.err)
			a.reportOne(len(names) > 1, names[i], r.err)
			continue
		}
		ids = append(ids, r.id)
	}
	list := append(append([]byte(`{"jobs":[`), bytes.Join(jobs, []byte(","))...), "]}"...)
	err := a.print(view{raw: list, ids: ids, table: func(io.Writer) error { return nil }})
	switch {
	case err != nil:
		return err
	case len(failures) == 0:
		return nil
	case len(names) == 1:
		return failures[0]
	}
	return &cliError{code: classify(failures[0]).code, text: fmt.Sprintf("%d of %d workers were not %s", len(failures), len(names), did)}
}

// reportOne prints the failure of one worker among many.
func (a *app) reportOne(many bool, who string, err error) {
	var done *reported
	if many && !errors.As(err, &done) {
		a.notice("%s: %v", who, err)
	}
}
