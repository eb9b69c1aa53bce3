package start

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// spawn is the operation worker_spawn.
type spawn struct {
	Operation string            `json:"operation"`
	Worker    string            `json:"worker"`
	Model     string            `json:"model,omitempty"`
	Device    string            `json:"device,omitempty"`
	Name      string            `json:"name,omitempty"`
	Port      uint16            `json:"port,omitempty"`
	Params    map[string]string `json:"params,omitempty"`
	Wait      string            `json:"wait,omitempty"`
}

// spawned is the result of worker_spawn.
type spawned struct {
	WorkerID string  `json:"worker_id"`
	Name     *string `json:"name"`
	Port     uint16  `json:"port"`
	PID      *int    `json:"pid"`
	URL      string  `json:"url"`
	Status   string  `json:"status"`
}

// Up starts a worker, or those that the configuration wants.
func Up(a *cli.App) *cobra.Command {
	op := spawn{Operation: "worker_spawn"}
	var params []string
	pull := false
	cmd := &cobra.Command{
		Use: "up [TYPE]", Aliases: []string{"start"},
		Short: "Start a worker and follow it until it is ready",
		Long: "Start a worker of a type, or of an entry of the configuration, and follow it\n" +
			"until it is ready. Ctrl-C detaches: the worker keeps starting.\n\n" +
			"An autostart entry is a service, which has one worker, of the entry's name: up\n" +
			"brings it back, on its port, or says that it runs. --name starts another beside it.\n\n" +
			"Without a type, start all autostart entries that have no running worker, also\n" +
			"those that were stopped.",
		Example:           "  hivectl up cpu --model test\n  hivectl up llama --model ./qwen.gguf --device 0 --param ctx=8192\n  hivectl up",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.Complete(cli.FirstArg(cli.CompleteTypes)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				// The flags of up itself: those of every command, such as -o, may be given.
				given := false
				cmd.Flags().Visit(func(f *pflag.Flag) { given = given || cmd.InheritedFlags().Lookup(f.Name) == nil })
				if given {
					return cli.Usage("up without a type starts the autostart entries, and takes no flags", "for example: hivectl up cpu --model test")
				}
				return upAll(cmd.Context(), a)
			}
			// An unset variable in a script must not start something else than was meant.
			if args[0] == "" {
				return cli.Usage("up needs a worker type", "for example: hivectl up cpu --model test")
			}
			op.Worker = args[0]
			if err := op.complete(params, cmd.Flags().Changed("port")); err != nil {
				return err
			}
			if pull {
				return pullAndUp(cmd.Context(), a, op)
			}
			return runUp(cmd.Context(), a, op)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&op.Model, "model", "", modelHelp)
	flags.StringVar(&op.Device, "device", "", "device to use: 0, or 0,1, or cpu")
	flags.StringVar(&op.Name, "name", "", "name of the worker; a name keeps its port")
	flags.Uint16Var(&op.Port, "port", 0, "this port and no other")
	flags.StringArrayVar(&params, "param", nil, "parameter of the worker type, `key=value`; may be repeated")
	flags.StringVar(&op.Wait, "wait", "ready", "return when it is `ready` or as soon as it has started")
	flags.BoolVar(&pull, "pull", false, "download the model first if it is missing")
	cli.CompleteFlag(cmd, "model", cli.Files)
	cli.CompleteFlag(cmd, "wait", cli.OneOf("ready", "started"))
	return cmd
}

// pullAndUp downloads the model of a worker, and starts it.
func pullAndUp(ctx context.Context, a *cli.App, op spawn) error {
	if op.Model == "" || filepath.IsAbs(op.Model) {
		return cli.Usage("--pull needs a --model of the hub", "for example: --model org/name:file.gguf")
	}
	if job, err := pull(ctx, a, op.Model); err != nil {
		return printFailed(a, job, err)
	}
	return runUp(ctx, a, op)
}

// complete checks what the command line says and makes the path of a model absolute:
// the daemon has another working directory.
func (op *spawn) complete(params []string, portGiven bool) error {
	if op.Wait != "ready" && op.Wait != "started" {
		return cli.Usage(fmt.Sprintf("--wait %s: want ready or started", op.Wait), "")
	}
	if portGiven && op.Port == 0 {
		return cli.Usage("--port 0: want 1 to 65535, or leave it out", "")
	}
	for _, p := range params {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return cli.Usage(fmt.Sprintf("--param %s: want key=value", p), "")
		}
		if op.Params == nil {
			op.Params = map[string]string{}
		}
		op.Params[key] = value
	}
	if !isPath(op.Model) {
		return nil
	}
	path, err := absolute(op.Model)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	op.Model = path
	return nil
}

// modelHelp is the help of --model; docs/hivectl.md says the same.
const modelHelp = "model to serve: a name such as org/name or name:tag, or a path, which begins with / or ., ends in /, or is that of an existing file"

// isPath tells a path from the name of a model. A directory whose path has one slash at most
// does not count unless it is written as a path: "qwen" and "org/qwen" may be both.
func isPath(model string) bool {
	switch {
	case strings.Contains(model, "://"): // a URL, s3://bucket/model/
		return false
	case strings.HasPrefix(model, "/"), strings.HasPrefix(model, "."), strings.HasSuffix(model, "/"), strings.Contains(model+"/", "/../"):
		return true
	}
	info, err := os.Stat(model)
	return err == nil && (!info.IsDir() || strings.Count(model, "/") > 1)
}

// absolute is the same path for a daemon, which has another working directory.
func absolute(path string) (string, error) {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = dir + "/" + path
	}
	clean := filepath.Clean(path)
	given, err := os.Stat(path)
	if err != nil {
		return clean, nil // the daemon says that it is not there
	}
	// Clean leaves out link/.., which the kernel takes for the parent of where the link leads.
	if same, err := os.Stat(clean); err != nil || !os.SameFile(given, same) {
		return path, nil
	}
	return clean, nil
}

// upAll starts a worker of each autostart entry that has none, in parallel.
func upAll(ctx context.Context, a *cli.App) error {
	types, err := a.Hive.Types(ctx, false)
	if err != nil {
		return err
	}
	workers, err := a.Hive.Workers(ctx)
	if err != nil {
		return err
	}
	lives := map[string]bool{}
	for _, w := range workers.Value.Workers {
		// Ended workers of an entry stay in the list: one that lives is enough.
		lives[w.Type] = lives[w.Type] || !client.WorkerEnded(w.State)
	}
	// No entry at all is a mistake of who calls; that all of them live is what was wanted.
	var missing []string
	entries := 0
	for _, t := range types.Value.Types {
		if t.Autostart {
			entries++
		}
		if t.Autostart && !lives[t.Name] {
			missing = append(missing, t.Name)
		}
	}
	switch {
	case entries == 0:
		return cli.Usage("no entry of the configuration has autostart", "start a worker of a type: hivectl up cpu")
	case len(missing) == 0:
		a.Say("all %d autostart entries have a running worker", entries)
	}
	// With none missing this goes on: programs get their list of jobs, an empty one.
	results := make([]cli.Result, len(missing))
	var group errgroup.Group
	group.SetLimit(cli.Parallel)
	for i, name := range missing {
		group.Go(func() error {
			results[i] = upOne(ctx, a, name)
			return nil
		})
	}
	_ = group.Wait() // the errors are in results, one per entry
	return a.Summary("jobs", missing, results, "started")
}

// upOne starts the worker of an autostart entry.
func upOne(ctx context.Context, a *cli.App, name string) cli.Result {
	op := spawn{Operation: "worker_spawn", Worker: name}
	// Without events: those of several workers would be mixed, and no line says whose it is.
	job, err := a.RunJob(ctx, op, nil)
	if err != nil {
		return cli.Result{Err: err}
	}
	if err := a.Outcome(job.Value); err != nil {
		return cli.Result{Raw: job.Raw, Err: err}
	}
	var w spawned
	if err := json.Unmarshal(job.Value.Result, &w); err != nil {
		return cli.Result{Raw: job.Raw, Err: fmt.Errorf("decode the result of %s: %w", job.Value.JobID, err)}
	}
	a.Say("%s is %s at %s", cli.Title(wire.Worker{WorkerID: w.WorkerID, Name: w.Name}), w.Status, w.URL)
	return cli.Result{Raw: job.Raw, ID: w.WorkerID}
}

// runUp carries out an operation that starts a worker, and prints the worker.
func runUp(ctx context.Context, a *cli.App, op any) error {
	var events io.Writer
	// On Stderr: what is read from Stdout is the worker that comes of it.
	if a.ForPeople() {
		events = a.Env.Stderr
	}
	job, err := a.RunJob(ctx, op, events)
	if err != nil {
		return err
	}
	if err := a.Outcome(job.Value); err != nil {
		return printFailed(a, job, err)
	}
	var worker spawned
	if err := json.Unmarshal(job.Value.Result, &worker); err != nil {
		return fmt.Errorf("decode the result of %s: %w", job.Value.JobID, err)
	}
	return a.Print(cli.View{
		Raw:   job.Raw,
		IDs:   []string{worker.WorkerID},
		Table: func(w io.Writer) error { return writeUp(ctx, a, w, worker) },
	})
}

// printFailed gives programs the failed job, and returns why it failed.
func printFailed(a *cli.App, job client.Reply[wire.Job], why error) error {
	if a.Output == cli.OutputTable || len(job.Raw) == 0 {
		return why
	}
	if err := a.Print(cli.View{Raw: job.Raw}); err != nil {
		return err
	}
	return why
}

// writeUp prints the worker that was started and what to do with it.
func writeUp(ctx context.Context, a *cli.App, w io.Writer, s spawned) error {
	fields := [][2]string{
		{"worker", cli.Title(wire.Worker{WorkerID: s.WorkerID, Name: s.Name})},
		{"status", a.State(s.Status)},
		{"url", output.Clean(s.URL)},
		{"pid", output.Or(s.PID)},
		{"port", fmt.Sprint(s.Port)},
	}
	// The result does not name the log; a worker that has gone meanwhile needs none.
	if worker, err := a.Hive.Worker(ctx, s.WorkerID); err == nil {
		fields = append(fields, [2]string{"log", output.Clean(worker.Value.Log)})
	} else if !errors.Is(err, client.ErrNotFound) {
		return err
	}
	fields = append(fields, [2]string{"stop", "hivectl stop " + s.WorkerID})
	return output.Fields(w, fields)
}
