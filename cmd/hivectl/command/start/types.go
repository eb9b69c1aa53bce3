package start

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Types is the commands for worker types.
func Types(a *cli.App) *cobra.Command {
	return cli.Group("types", "List and explain the worker types", "  hivectl types list", typesList(a), typesExplain(a))
}

func typesList(a *cli.App) *cobra.Command {
	versions := true
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the worker types with source, program and version; -q prints the names",
		Long: "List the worker types: the entries of the configuration, those that worker_install has\n" +
			"made (installed), the presets, and those that are built in. The hive runs the programs\n" +
			"it has presets for to learn their versions, for up to two seconds each; after that none\n" +
			"is shown.",
		Example: "  hivectl types list\n  hivectl types list -q",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// -q is for scripts: no program is run for names that show no version.
			reply, err := a.Hive.Types(cmd.Context(), versions && !a.Quiet)
			if err != nil {
				return err
			}
			var ids []string
			var rows [][]string
			for _, t := range reply.Value.Types {
				installed := a.Paint(output.Green, "yes")
				if !t.Installed {
					installed = "no"
				}
				ids = append(ids, output.Clean(t.Name))
				rows = append(rows, []string{output.Clean(t.Name), sourceText(t.Source, t.Preset), installed, output.Or(t.Program), output.Or(t.Version)})
			}
			cols := []output.Column{{Name: "type"}, {Name: "source", MinWidth: 12, Drop: 1}, {Name: "installed"}, {Name: "program", MinWidth: 12, Drop: 2}, {Name: "version", MinWidth: 8, Drop: 3}}
			return a.Print(cli.View{Raw: reply.Raw, IDs: ids, Table: func(w io.Writer) error { return a.Table(w, cols, rows) }})
		},
	}
	cmd.Flags().BoolVar(&versions, "versions", true, "run the programs to learn their versions")
	return cmd
}

// sourceText is where a type comes from, with the preset that an entry builds on.
func sourceText(source string, preset *string) string {
	if preset != nil && (source == "configuration" || source == "installed") {
		return output.Clean(source + " (" + *preset + ")")
	}
	return output.Clean(source)
}

func typesExplain(a *cli.App) *cobra.Command {
	var op spawn
	var params []string
	var version bool
	cmd := &cobra.Command{
		Use:   "explain TYPE",
		Short: "Show the exact command, environment, probe and stop of a spawn, without spawning; -q prints the command",
		Long: "Show what `hivectl up` with the same flags would do: the exact command, what hive\n" +
			"changes in the environment, when the worker counts as ready, and how it is stopped.\n" +
			"Nothing is run. Values of an entry's env are never shown. The port is an example\n" +
			"unless --port gives one.",
		Example:           "  hivectl types explain llama-server --model ./qwen.gguf --device 0",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.FirstArg(cli.CompleteTypes)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return cli.Usage("explain needs a worker type", "hivectl types list")
			}
			// complete checks it, and explain has no flag for it.
			op.Wait = "ready"
			if err := op.complete(params, cmd.Flags().Changed("port")); err != nil {
				return err
			}
			return explain(cmd.Context(), a, args[0], client.TypeQuery{
				Model: op.Model, Device: op.Device, Name: op.Name, Port: op.Port, Params: op.Params, Version: version,
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&op.Model, "model", "", modelHelp)
	flags.StringVar(&op.Device, "device", "", "device to use: 0, or 0,1, or cpu")
	flags.StringVar(&op.Name, "name", "", "name of the worker")
	flags.Uint16Var(&op.Port, "port", 0, "port of the worker")
	flags.StringArrayVar(&params, "param", nil, "parameter of the worker type, `key=value`; may be repeated")
	flags.BoolVar(&version, "version", false, "run the program to learn its version")
	cli.CompleteFlag(cmd, "model", cli.Files)
	return cmd
}

func explain(ctx context.Context, a *cli.App, name string, q client.TypeQuery) error {
	reply, err := a.Hive.Type(ctx, name, q)
	if errors.Is(err, client.ErrNotFound) {
		return cli.NotFound(err.Error(), "hivectl types list")
	}
	if err != nil {
		return err
	}
	t := reply.Value
	if t.NoCommand == nil {
		return a.Print(cli.View{
			Raw: reply.Raw, IDs: []string{output.ShellWords(t.Command)},
			Table: func(w io.Writer) error { return output.Fields(w, explainFields(a, t)) },
		})
	}
	why := &cli.Error{Code: cli.ExitFailed, Text: output.Clean(t.Name + ": " + *t.NoCommand)}
	if t.NeedsModel && t.Model == nil && q.Model == "" {
		why.Code, why.Hint = cli.ExitUsage, "give one with --model"
	}
	if a.Output == cli.OutputTable {
		return why
	}
	// Programs find the reason in the answer, at no_command, and get the exit code as well.
	if err := a.Print(cli.View{Raw: reply.Raw}); err != nil {
		return err
	}
	return why
}

func explainFields(a *cli.App, t wire.TypeDetail) [][2]string {
	program := output.Or(t.Program)
	if !t.Installed {
		program = a.Paint(output.Red, "not installed") + ": " + output.Or(t.Reason)
	}
	fields := [][2]string{
		{"type", output.Clean(t.Name)}, {"source", sourceText(t.Source, t.Preset)}, {"about", output.Clean(t.Description)}, {"program", program},
	}
	if t.Version != nil {
		fields = append(fields, [2]string{"version", output.Clean(*t.Version)})
	}
	fields = append(fields, [2]string{"command", output.ShellWords(t.Command)})
	for i, v := range t.Env {
		label := ""
		if i == 0 {
			label = "env"
		}
		fields = append(fields, [2]string{label, variableText(v)})
	}
	fields = append(fields, paramFields(t.Parameters)...)
	for _, f := range [][2]string{{"envfile", output.Or(t.EnvFile)}, {"dir", output.Or(t.Dir)}, {"user", output.Or(t.User)}, {"before", output.OrDash(output.ShellWords(t.BeforeStart))}} {
		if f[1] != "-" {
			fields = append(fields, f)
		}
	}
	if t.NoNewPrivileges != nil && *t.NoNewPrivileges {
		fields = append(fields, [2]string{"rights", "no new ones, whatever it executes (no_new_privileges)"})
	}
	return append(fields,
		[2]string{"passed", output.Clean(strings.Join(t.Inherited, " "))},
		[2]string{"removed", output.Clean(strings.Join(t.Removed, " "))},
		[2]string{"host", output.Or(t.Host)},
		[2]string{"port", output.Or(t.Port)},
		[2]string{"ready", readyText(t.Ready)},
		[2]string{"live", liveText(t.Live)},
		[2]string{"restart", restartText(t.Restart, t.Autostart)},
		[2]string{"stop", stopText(t.Stop)},
	)
}

// paramFields is the parameters: the default of each, and what a spawn may make of it.
func paramFields(params map[string]wire.TypeParam) (fields [][2]string) {
	for i, name := range slices.Sorted(maps.Keys(params)) {
		label := ""
		if i == 0 {
			label = "params"
		}
		p := params[name]
		text := output.Clean(name) + "=" + output.ShellWord(p.Default)
		if p.Fixed || p.Pattern == nil {
			text += " (fixed: only the configuration sets it)"
		} else {
			text += " (--param: what matches " + output.Clean(*p.Pattern) + ")"
		}
		fields = append(fields, [2]string{label, text})
	}
	return fields
}

func liveText(l *wire.TypeLive) string {
	if l == nil {
		return "only its exit is watched"
	}
	what := "it listens"
	if l.URL != nil {
		what = "GET " + output.Clean(*l.URL)
	}
	action := "it is restarted"
	if l.Action == "report" {
		action = "it is shown as unhealthy"
	}
	if l.TimeoutMS > 0 { // an older hive does not say it
		what += " within " + milliseconds(l.TimeoutMS)
	}
	return fmt.Sprintf("%s every %s; after %d failures %s", what, milliseconds(l.IntervalMS), l.Failures, action)
}

func restartText(r *wire.TypeRestart, autostart bool) string {
	text := "-"
	switch {
	case r == nil:
		return text
	case r.Policy == "never":
		text = "never"
	default:
		text = fmt.Sprintf("%s, at most %d times in %s, after %s to %s", output.Clean(r.Policy), r.Max, milliseconds(r.WindowMS), milliseconds(r.BackoffMS), milliseconds(r.MaxBackoffMS))
	}
	if autostart {
		text += "; started with hive (autostart)"
	}
	return text
}

// variableText is NAME=value as a shell takes it, or why there is no value.
func variableText(v wire.Variable) string {
	if v.Value != nil {
		return output.Clean(v.Name) + "=" + output.ShellWord(*v.Value)
	}
	switch v.From {
	case "entry":
		return output.Clean(v.Name) + " (of the entry; its value is not shown)"
	case "environment":
		return output.Clean(v.Name) + " (passed on from hive's own environment)"
	case "spawn":
		return output.Clean(v.Name) + " (generated at the start)"
	}
	return output.Clean(v.Name) + " (" + output.Clean(v.From) + ")"
}

func readyText(r *wire.TypeReady) string {
	if r == nil {
		return "-"
	}
	text := "it listens on its port"
	if r.URL != nil {
		text = fmt.Sprintf("GET %s answers %d", output.Clean(*r.URL), r.Status)
	}
	var limits []string
	if r.StallMS > 0 {
		limits = append(limits, "no progress for "+milliseconds(r.StallMS))
	}
	if r.TimeoutMS > 0 {
		limits = append(limits, milliseconds(r.TimeoutMS)+" in all")
	}
	if len(limits) == 0 {
		return text + "; no timeout"
	}
	return text + "; given up after " + strings.Join(limits, " or ")
}

func stopText(s *wire.TypeStop) string {
	if s == nil {
		return "-"
	}
	var steps []string
	if len(s.Command) > 0 {
		steps = append(steps, output.ShellWords(s.Command)+", "+milliseconds(s.GraceMS))
	}
	for _, name := range s.Signals {
		steps = append(steps, output.Clean(name)+", "+milliseconds(s.GraceMS))
	}
	whom := "the main process first"
	if s.Scope == "tree" {
		whom = "all of its processes"
	}
	return strings.Join(append(steps, "SIGKILL"), ", then ") + " (" + whom + ")"
}

// milliseconds is a duration without the units that are zero: 5m, not 5m0s.
func milliseconds(ms int64) string {
	s := (time.Duration(ms) * time.Millisecond).String()
	// With the unit before it, or 30s would become 3.
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
