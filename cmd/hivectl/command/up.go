package command

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
	cmd := &cobra.Command{
		Use:   "up TYPE",
		Short: "Start a worker and follow it until it is ready",
		Long: "Start a worker of a type, or of an entry of the configuration, and follow it\n" +
			"until it is ready. Ctrl-C detaches: the worker goes on starting.",
		Example: "  hivectl up cpu --model test\n  hivectl up llama --model ./qwen.gguf --device 0 --param ctx=8192",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return usage("up needs a worker type; starting all autostart entries is not supported yet", "for example: hivectl up cpu --model test")
			}
			op.Worker = args[0]
			if err := op.complete(params, cmd.Flags().Changed("port")); err != nil {
				return err
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
	return cmd
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

func (a *app) runUp(ctx context.Context, op spawn) error {
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
	if a.output == outputTable {
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
	return a.writeFields(w, fields)
}
