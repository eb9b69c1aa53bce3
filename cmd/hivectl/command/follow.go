package command

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// await follows a job to its end over restarts of the daemon. Its events go to
// w as lines for a person; nil: nowhere. Log lines that were printed so are not
// in the value of the job again.
func (a *app) await(ctx context.Context, jobID string, w io.Writer) (client.Reply[wire.Job], error) {
	logShown := false
	job, err := a.hive.WaitJob(ctx, jobID, client.FollowOptions{OnWait: a.tellWait}, func(e client.Reply[wire.Event]) {
		a.outages.over()
		if w == nil {
			return
		}
		logShown = logShown || e.Value.Type == "log"
		fmt.Fprintln(w, eventLine(e.Value))
	})
	if logShown && job.Value.Error != nil {
		job.Value.Error.Log = nil
	}
	return job, err
}

// eventLine is one event for a person. Local time: it is read next to a clock.
func eventLine(e wire.Event) string {
	return clean(fmt.Sprintf("%s  %-8s  %s", time.Time(e.At).Local().Format("15:04:05.000"), e.Type, e.Message))
}

// run submits an operation and follows it to its end.
func (a *app) run(ctx context.Context, operation any, events io.Writer) (client.Reply[wire.Job], error) {
	var none client.Reply[wire.Job]
	body, err := json.Marshal(operation)
	if err != nil {
		return none, fmt.Errorf("encode the operation: %w", err)
	}
	submitted, err := a.hive.Submit(ctx, rand.Text(), body)
	if err != nil {
		return none, err
	}
	job, err := a.await(ctx, submitted.Value.JobID, events)
	if err != nil && ctx.Err() != nil {
		return none, a.detached(submitted.Value.JobID)
	}
	return job, err
}

// detached tells how to go on after Ctrl-C, which ends nothing but us.
func (a *app) detached(jobID string) error {
	a.notice("detached: job %s goes on", jobID)
	a.notice("watch it with: hivectl jobs watch %s", jobID)
	a.notice("stop it with:  hivectl jobs cancel %s", jobID)
	return &reported{code: exitFailed}
}

// outcome is nil for a job that succeeded; else the last log lines are printed
// and the error says why.
func (a *app) outcome(job wire.Job) error {
	switch {
	case job.State == "succeeded":
		return nil
	case job.Error == nil:
		return failed(job.Operation+" was "+job.State, "")
	}
	if len(job.Error.Log) > 0 {
		a.notice("last lines of the log:")
		for _, line := range job.Error.Log {
			a.notice("  %s", line)
		}
	}
	return failed(fmt.Sprintf("%s %s: %s: %s", job.Operation, job.State, job.Error.Code, job.Error.Message), jobHint(job.Error.Code))
}

// jobHint is what can be done about a failed job.
func jobHint(code string) string {
	switch code {
	case "ports_exhausted":
		return "stop a worker (hivectl ps), release a lease (hivectl leases list), or widen ports.range in the configuration"
	case "port_unavailable", "foreign_listener":
		return "hivectl ports says who holds which port"
	case "program_not_found":
		return "install the program, or set `program` of this worker in hive.yaml"
	case "name_in_use":
		return "hivectl ps shows the worker that has the name"
	}
	return ""
}
