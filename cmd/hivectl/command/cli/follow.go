package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// FollowJob follows a job to its end over restarts of the daemon. Its events go to w as
// lines for a person; nil: nowhere. Log lines that were printed are removed from the
// returned job.
func (a *App) FollowJob(ctx context.Context, jobID string, w io.Writer) (client.Reply[wire.Job], error) {
	logShown := false
	job, err := a.Hive.WaitJob(ctx, jobID, client.FollowOptions{OnWait: a.NoticeWait}, func(e client.Reply[wire.Event]) {
		a.Answered()
		if w == nil {
			return
		}
		logShown = logShown || e.Value.Type == "log"
		fmt.Fprintln(w, EventLine(e.Value))
	})
	if logShown && job.Value.Error != nil {
		job.Value.Error.Log = nil
	}
	return job, err
}

// RunJob submits an operation and follows it to its end.
func (a *App) RunJob(ctx context.Context, operation any, events io.Writer) (client.Reply[wire.Job], error) {
	var none client.Reply[wire.Job]
	body, err := client.Encode(operation)
	if err != nil {
		return none, err
	}
	// The key lets Submit send it again after a broken connection, and it is still one job.
	submitted, err := a.Hive.Submit(ctx, rand.Text(), body)
	if err != nil {
		return none, err
	}
	job, err := a.FollowJob(ctx, submitted.Value.JobID, events)
	// Whatever became of the stream, it was Ctrl-C that ended it, and the job goes on.
	if err != nil && ctx.Err() != nil {
		return none, a.Detached(submitted.Value.JobID)
	}
	return job, err
}

// Detached says how to follow the job after Ctrl-C, which ends only hivectl.
func (a *App) Detached(jobID string) error {
	a.Notice("detached: job %s continues", jobID)
	a.Notice("watch it with: hivectl jobs watch %s", jobID)
	a.Notice("stop it with:  hivectl jobs cancel %s", jobID)
	return &Reported{Code: ExitFailed}
}

// Outcome is nil for a job that succeeded; else the last log lines are printed
// and the error says why.
func (a *App) Outcome(job wire.Job) error {
	switch {
	case job.State == "succeeded":
		return nil
	case job.Error == nil:
		return Failed(job.Operation+" was "+job.State, jobHint(job.State))
	}
	if len(job.Error.Log) > 0 {
		a.Notice("last lines of the log:")
		for _, line := range job.Error.Log {
			a.Notice("  %s", line)
		}
	}
	return Failed(fmt.Sprintf("%s %s: %s: %s", job.Operation, job.State, job.Error.Code, job.Error.Message), jobHint(job.Error.Code))
}

// jobHints say what can be done about a failed job, by its code.
var jobHints = map[string]string{
	"ports_exhausted":       "stop a worker (hivectl ps), release a lease (hivectl leases list), or widen ports.range in the configuration",
	"port_unavailable":      "hivectl ports shows who holds which port",
	"foreign_listener":      "hivectl ports shows who holds which port",
	"name_in_use":           "it runs already: hivectl restart NAME starts it anew, --name OTHER another worker beside it",
	"program_not_found":     "install the program, or set `program` of this worker in hive.yaml",
	"exec_failed":           "hivectl types explain TYPE shows the command; try it by hand",
	"exited_early":          "hivectl workers list shows the worker, hivectl logs WORKER all of its output",
	"not_ready":             "hivectl workers list shows the worker, hivectl logs WORKER all of its output",
	"wrong_port":            "have the command listen on {{.Port}}: hivectl types explain TYPE shows its arguments",
	"stop_incomplete":       "hivectl describe WORKER shows what is left; hivectl doctor shows why hive cannot end it",
	"not_found":             "see hivectl workers list",
	"conflict":              "hivectl types list shows where each worker type comes from, hivectl ps what runs",
	"unsupported_operation": "this hive does not support it; docs/http-reference.md lists the operations",
	"interrupted":           "hive was restarted meanwhile; run the command again if you still want it",
	"expired":               "it was queued for too long; hivectl jobs list --state running shows what it waited for",
	"cancelled":             "somebody cancelled it; run the command again if you still want it",
	"disk_full":             "free space there, or remove files if the inodes are used up; hivectl doctor shows what is left where the data directory is",
	"model_in_use":          "hivectl models list shows which workers use it, hivectl jobs list --state running what is being downloaded",
	"model_ambiguous":       "name one of the files: org/name:file.gguf",
	"hub_unauthorized":      "set HF_TOKEN in the daemon's environment and restart it",
	"download_failed":       "run the command again: the download resumes",
	"download_corrupt":      "run the command again; if it fails again, the hub or the mirror in models.endpoint is at fault",
	"internal":              "see the daemon's log; hivectl doctor shows what is wrong with the machine",
}

// jobHint is what can be done about a failed job.
func jobHint(code string) string { return jobHints[code] }
