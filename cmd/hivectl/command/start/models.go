package start

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/library"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// modelOp is an operation on models: model_download names one in model, the others
// in id.
type modelOp struct {
	Operation string `json:"operation"`
	Model     string `json:"model,omitempty"`
	ID        string `json:"id,omitempty"`
}

// Models is the commands for models.
func Models(a *cli.App) *cobra.Command {
	return cli.Group("models", "List, download, import and remove models", "  hivectl models list", modelsList(a), modelsGet(a), modelsPull(a), modelsImport(a), modelsRemove(a))
}

func modelsList(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the models of the catalog",
		Example: "  hivectl models list\n  hivectl models list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			job, err := modelJob(cmd.Context(), a, modelOp{Operation: "model_list"}, nil)
			if err != nil {
				return err
			}
			var list wire.Models
			if err := json.Unmarshal(job.Value.Result, &list); err != nil {
				return fmt.Errorf("decode the list of models: %w", err)
			}
			v := cli.View{Raw: job.Value.Result}
			rows := [][]string{}
			for _, m := range list.Models {
				v.IDs = append(v.IDs, m.ID)
				rows = append(rows, []string{output.Clean(m.ID), output.Clean(m.Size), a.State(m.Status), output.OrDash(strings.Join(m.Workers, " "))})
			}
			v.Table = func(w io.Writer) error {
				return a.Table(w, []output.Column{{Name: "model", MinWidth: 16}, {Name: "size"}, {Name: "status", Drop: 1}, {Name: "workers", MinWidth: 8, Drop: 2}}, rows)
			}
			return a.Print(v)
		},
	}
}

func modelsGet(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "get MODEL",
		Short:             "Show one model",
		Example:           "  hivectl models get Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.FirstArg(completeModels)),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := modelJob(cmd.Context(), a, modelOp{Operation: "model_get", ID: args[0]}, nil)
			if err != nil {
				return err
			}
			return printModel(a, job.Value.Result)
		},
	}
}

func modelsPull(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "pull MODEL",
		Short: "Download a model and follow it until it is complete",
		Long: "Download a model from the hub and follow it until it is in the catalog. MODEL is\n" +
			"a repository (its only GGUF file, or, without one, all its files) or\n" +
			"org/name:file.gguf. Ctrl-C detaches: the download continues, also over restarts of\n" +
			"the daemon. One that failed or was cancelled is resumed.",
		Example: "  hivectl models pull Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := pull(cmd.Context(), a, args[0])
			if err != nil {
				return printFailed(a, job, err)
			}
			return printModel(a, job.Value.Result)
		},
	}
}

func modelsImport(a *cli.App) *cobra.Command {
	var id, stateDir, dir string
	var asCopy bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Put a file of this machine into the catalog",
		Long: "Put a file of this machine into the catalog of the hive that has its state in\n" +
			"--data-dir ($HIVE_DATA_DIR, else hive's default). The catalog gets a hard link, so that\n" +
			"it takes no additional space and FILE must not be changed any more; with --copy, or\n" +
			"from another file system, a copy. Of a model in parts (big-00001-of-00003.gguf) FILE is\n" +
			"any part; all of them are imported. hivectl does it with your permissions, and must be\n" +
			"able to write to that directory; hive itself is not involved and may be stopped.",
		Example: "  hivectl models import qwen.gguf --id local/qwen:qwen.gguf",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				state, err := a.StateDir(stateDir)
				if err != nil {
					return err
				}
				dir = filepath.Join(state, "models")
			}
			// The path goes into the catalog, where it means the same to a hive with another directory.
			where, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			m, err := library.Import(cmd.Context(), where, args[0], id, asCopy)
			if refused, ok := errors.AsType[*library.Refusal](err); ok {
				return cli.Failed(refused.Text, refused.Hint)
			}
			if err != nil {
				return err
			}
			raw, err := json.Marshal(m)
			if err != nil {
				return fmt.Errorf("encode the model: %w", err)
			}
			return a.Print(cli.View{Raw: raw, IDs: []string{m.ID}, Table: func(w io.Writer) error {
				last := [2]string{"sha256", m.SHA256}
				if m.Files > 1 {
					last = [2]string{"files", fmt.Sprint(m.Files)}
				}
				return output.Fields(w, [][2]string{{"model", output.Clean(m.ID)}, {"size", fmt.Sprint(m.Size)}, {"path", output.Clean(m.Path)}, last})
			}})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "name in the catalog, as org/name:file (default local/NAME:FILE)")
	cmd.Flags().BoolVar(&asCopy, "copy", false, "copy the file instead of linking it")
	cmd.Flags().StringVar(&stateDir, "data-dir", "", "state directory of the hive (HIVE_DATA_DIR)")
	cmd.Flags().StringVar(&dir, "models-dir", "", "directory of models, where models.dir is configured")
	return cmd
}

func modelsRemove(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "rm MODEL...",
		Short:             "Remove models that no worker uses",
		Long:              "Remove models that no worker uses, and the remains of downloads of them that\nwere cancelled or failed.",
		Example:           "  hivectl models rm Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.Complete(completeModels),
		RunE: func(cmd *cobra.Command, args []string) error {
			// One after the other, up to the first that fails: what was printed as deleted is, and no more.
			for _, id := range args {
				job, err := modelJob(cmd.Context(), a, modelOp{Operation: "model_delete", ID: id}, nil)
				if err != nil {
					return printFailed(a, job, err)
				}
				err = a.Print(cli.View{Raw: job.Value.Result, IDs: []string{id}, Table: func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s deleted\n", output.Clean(id))
					return err
				}})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// completeModels offers the models of the catalog.
func completeModels(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	submitted, err := hive.Submit(ctx, rand.Text(), []byte(`{"operation":"model_list"}`))
	if err != nil {
		return nil, err
	}
	job, err := hive.Job(ctx, submitted.Value.JobID)
	if err != nil {
		return nil, err
	}
	var list wire.Models
	if err := json.Unmarshal(job.Value.Result, &list); err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, m := range list.Models {
		found = append(found, cli.Completion(m.ID, "%s", m.Size))
	}
	return found, nil
}

// modelJob carries out an operation on models. A model that does not exist is the exit code
// for not found, as everywhere.
func modelJob(ctx context.Context, a *cli.App, op modelOp, events io.Writer) (client.Reply[wire.Job], error) {
	job, err := a.RunJob(ctx, op, events)
	if err != nil {
		return job, err
	}
	if e := job.Value.Error; e != nil && e.Code == "not_found" && op.ID != "" {
		return job, cli.NotFound(e.Message, "see hivectl models list")
	}
	return job, a.Outcome(job.Value)
}

// pull downloads a model, with a progress bar on a terminal, else with lines.
func pull(ctx context.Context, a *cli.App, model string) (client.Reply[wire.Job], error) {
	var events io.Writer
	if a.ForPeople() {
		events = a.Env.Stderr
	}
	op := modelOp{Operation: "model_download", Model: model}
	// A bar moves the cursor back, which in a file or a pipe is only noise.
	if events == nil || a.Env.Width == 0 {
		return modelJob(ctx, a, op, events)
	}
	var none client.Reply[wire.Job]
	body, err := client.Encode(op)
	if err != nil {
		return none, err
	}
	submitted, err := a.Hive.Submit(ctx, rand.Text(), body)
	if err != nil {
		return none, err
	}
	// Like App.Run, but the bar wants the events as they are, not as lines.
	bar := &pullBar{w: a.Stderr.Raw(), width: a.Env.Width}
	job, err := a.Hive.WaitJob(ctx, submitted.Value.JobID, client.FollowOptions{OnWait: a.NoticeWait}, func(e client.Reply[wire.Event]) {
		a.Answered()
		bar.show(e.Value)
	})
	bar.end()
	if err != nil && ctx.Err() != nil {
		return none, a.Detached(submitted.Value.JobID)
	}
	if err != nil {
		return job, err
	}
	return job, a.Outcome(job.Value)
}

// pullBar is a progress bar that starts with the first event that has the size.
type pullBar struct {
	w     io.Writer
	width int
	bar   *progressbar.ProgressBar
}

func (b *pullBar) show(e wire.Event) {
	var p struct {
		File         string `json:"file"`
		Bytes, Total int64
	}
	if e.Type != "progress" || json.Unmarshal(e.Data, &p) != nil || p.Total <= 0 {
		return
	}
	// About 60 columns are for the name and the numbers beside it.
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(p.Total,
			progressbar.OptionSetWriter(b.w), progressbar.OptionSetWidth(max(10, min(40, b.width-60))), progressbar.OptionShowBytes(true),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	b.bar.Describe(output.Clean(p.File))
	_ = b.bar.Set64(p.Bytes) // to a terminal that may be gone
}

func (b *pullBar) end() {
	if b.bar != nil {
		_ = b.bar.Clear() // as above
	}
}

// printModel prints one model.
func printModel(a *cli.App, raw json.RawMessage) error {
	var m wire.Model
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("decode the model: %w", err)
	}
	return a.Print(cli.View{Raw: raw, IDs: []string{m.ID}, Table: func(w io.Writer) error {
		fields := [][2]string{
			{"model", output.Clean(m.ID)},
			{"status", a.State(m.Status)},
			{"size", output.Clean(m.Size)},
			{"path", output.Clean(m.Path)},
			{"commit", output.Or(m.Commit)},
			{"workers", output.OrDash(strings.Join(m.Workers, " "))},
		}
		if len(m.Files) == 1 {
			return output.Fields(w, append(fields, [2]string{"sha256", output.Clean(m.Files[0].Sha256)}))
		}
		return output.Fields(w, append(fields, [2]string{"files", fmt.Sprint(len(m.Files))}))
	}})
}
