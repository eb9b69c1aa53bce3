package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

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

func (a *app) up() *cobra.Command {
	op := spawn{Operation: "worker_spawn"}
	var params []string
	pull := false
	cmd := &cobra.Command{
		Use:   "up [TYPE]",
		Short: "Start a worker and follow it until it is ready",
		Long: "Start a worker of a type, or of an entry of the configuration, and follow it\n" +
			"until it is ready. Ctrl-C detaches: the worker goes on starting.\n\n" +
			"Without a type, start all autostart entries that have no living worker, also\n" +
			"those that were stopped.",
		Example:           "  hivectl up cpu --model test\n  hivectl up llama --model ./qwen.gguf --device 0 --param ctx=8192\n  hivectl up",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(first(typeOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				given := false
				cmd.Flags().Visit(func(f *pflag.Flag) { given = given || cmd.InheritedFlags().Lookup(f.Name) == nil })
				if given {
					return usage("up without a type starts the autostart entries, and takes no flags", "for example: hivectl up cpu --model test")
				}
				return a.upAll(cmd.Context())
			}
			if args[0] == "" {
				return usage("up needs a worker type", "for example: hivectl up cpu --model test")
			}
			op.Worker = args[0]
			if err := op.complete(params, cmd.Flags().Changed("port")); err != nil {
				return err
			}
			if pull {
				return a.pullAndUp(cmd.Context(), op)
			}
			return a.runUp(cmd.Context(), op)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&op.Model, "model", "", "model to serve; the path of an existing file is made absolute")
	flags.StringVar(&op.Device, "device", "", "device to use: 0, or 0,1, or cpu")
	flags.StringVar(&op.Name, "name", "", "name of the worker; a name keeps its port")
	flags.Uint16Var(&op.Port, "port", 0, "this port and no other")
	flags.StringArrayVar(&params, "param", nil, "parameter of the worker type, `key=value`; may be repeated")
	flags.StringVar(&op.Wait, "wait", "ready", "end when it is `ready` or has only started")
	flags.BoolVar(&pull, "pull", false, "download the model first, if it is not here")
	completeFlag(cmd, "model", files)
	completeFlag(cmd, "wait", oneOf("ready", "started"))
	return cmd
}

// pullAndUp downloads the model of a worker, and starts it.
func (a *app) pullAndUp(ctx context.Context, op spawn) error {
	if op.Model == "" || filepath.IsAbs(op.Model) {
		return usage("--pull needs a --model of the hub", "for example: --model org/name:file.gguf")
	}
	if job, err := a.pull(ctx, op.Model); err != nil {
		return a.printFailed(job, err)
	}
	return a.runUp(ctx, op)
}

// complete checks what the command line says and makes a model file absolute:
// the daemon has another working directory.
func (op *spawn) complete(params []string, portGiven bool) error {
	if op.Wait != "ready" && op.Wait != "started" {
		return usage(fmt.Sprintf("--wait %s: want ready or started", op.Wait), "")
	}
	if portGiven && op.Port == 0 {
		return usage("--port 0: want 1 to 65535, or leave it out", "")
	}
	for _, p := range params {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return usage(fmt.Sprintf("--param %s: want key=value", p), "")
		}
		if op.Params == nil {
			op.Params = map[string]string{}
		}
		op.Params[key] = value
	}
	if !isModelPath(op.Model) {
		return nil
	}
	path, err := filepath.Abs(op.Model)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	op.Model = path
	return nil
}

// isModelPath tells a path from the id of a model. A directory counts only if
// it is written as a path: "qwen" may well be both.
func isModelPath(model string) bool {
	if model == "" {
		return false
	}
	info, err := os.Stat(model)
	if err != nil {
		return false
	}
	return !info.IsDir() || strings.HasPrefix(model, "./") || strings.HasPrefix(model, "../")
}

// upAll starts a worker of each autostart entry that has none, side by side.
func (a *app) upAll(ctx context.Context) error {
	types, err := a.hive.Types(ctx, false)
	if err != nil {
		return err
	}
	workers, err := a.hive.Workers(ctx)
	if err != nil {
		return err
	}
	lives := map[string]bool{}
	for _, w := range workers.Value.Workers {
		lives[w.Type] = lives[w.Type] || !client.WorkerEnded(w.State)
	}
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
		return usage("no entry of the configuration has autostart", "start a worker of a type: hivectl up cpu")
	case len(missing) == 0:
		a.say("all %d autostart entries have a living worker", entries)
	}
	results := make([]stopped, len(missing))
	var group errgroup.Group
	group.SetLimit(stopParallel)
	for i, name := range missing {
		group.Go(func() error {
			results[i] = a.upOne(ctx, name)
			return nil
		})
	}
	_ = group.Wait() // the errors are in results, one per entry
	return a.summary(missing, results, "started")
}

// upOne starts the worker of an autostart entry, under the entry's name if that is
// one for workers: it is how hive itself starts it.
func (a *app) upOne(ctx context.Context, name string) stopped {
	op := spawn{Operation: "worker_spawn", Worker: name}
	if workerName.MatchString(name) {
		op.Name = name
	}
	job, err := a.run(ctx, op, nil)
	if err != nil {
		return stopped{err: err}
	}
	if err := a.outcome(job.Value); err != nil {
		return stopped{job: job.Raw, err: err}
	}
	var w spawned
	if err := json.Unmarshal(job.Value.Result, &w); err != nil {
		return stopped{job: job.Raw, err: fmt.Errorf("decode the result of %s: %w", job.Value.JobID, err)}
	}
	a.say("%s is %s at %s", title(wire.Worker{WorkerID: w.WorkerID, Name: w.Name}), w.Status, w.URL)
	return stopped{job: job.Raw, id: w.WorkerID}
}

// workerName is the form of a worker's name (docs/http-reference.md).
var workerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// runUp carries out an operation that starts a worker, and prints the worker.
func (a *app) runUp(ctx context.Context, op any) error {
	var events io.Writer
	if a.forPeople() {
		events = a.env.Stderr
	}
	job, err := a.run(ctx, op, events)
	if err != nil {
		return err
	}
	if err := a.outcome(job.Value); err != nil {
		return a.printFailed(job, err)
	}
	var worker spawned
	if err := json.Unmarshal(job.Value.Result, &worker); err != nil {
		return fmt.Errorf("decode the result of %s: %w", job.Value.JobID, err)
	}
	return a.print(view{
		raw:   job.Raw,
		ids:   []string{worker.WorkerID},
		table: func(w io.Writer) error { return a.writeUp(ctx, w, worker) },
	})
}

// printFailed gives programs the failed job, and returns why it failed.
func (a *app) printFailed(job client.Reply[wire.Job], why error) error {
	if a.output == outputTable || len(job.Raw) == 0 {
		return why
	}
	if err := a.print(view{raw: job.Raw}); err != nil {
		return err
	}
	return why
}

// writeUp prints the worker that was started and what to do with it.
func (a *app) writeUp(ctx context.Context, w io.Writer, s spawned) error {
	fields := [][2]string{
		{"worker", title(wire.Worker{WorkerID: s.WorkerID, Name: s.Name})},
		{"status", a.state(s.Status)},
		{"url", clean(s.URL)},
		{"pid", or(s.PID)},
		{"port", fmt.Sprint(s.Port)},
	}
	// The result does not name the log; a worker that is gone again has no use for it.
	if worker, err := a.hive.Worker(ctx, s.WorkerID); err == nil {
		fields = append(fields, [2]string{"log", clean(worker.Value.Log)})
	} else if !errors.Is(err, client.ErrNotFound) {
		return err
	}
	fields = append(fields, [2]string{"stop", "hivectl stop " + s.WorkerID})
	return writeFields(w, fields)
}
