package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) types() *cobra.Command {
	return group("types", "List and explain the worker types", "  hivectl types list", a.typesList(), a.typesExplain())
}

func (a *app) typesList() *cobra.Command {
	versions := true
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the worker types: where from, installed where, which version; -q prints the names",
		Long: "List the worker types: the entries of the configuration, those that worker_install has\n" +
			"made (installed), the presets, and those that are built in. The hive runs the programs it has presets for to learn their versions,\n" +
			"for up to two seconds each; one that does not tell in time shows none.",
		Example: "  hivectl types list\n  hivectl types list -q",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.hive.Types(cmd.Context(), versions && !a.quiet)
			if err != nil {
				return err
			}
			var ids []string
			var rows [][]string
			for _, t := range reply.Value.Types {
				installed := a.paint(green, "yes")
				if !t.Installed {
					installed = "no"
				}
				ids = append(ids, clean(t.Name))
				rows = append(rows, []string{clean(t.Name), sourceText(t.Source, t.Preset), installed, or(t.Program), or(t.Version)})
			}
			cols := []column{{name: "type"}, {name: "source", least: 12, drop: 1}, {name: "installed"}, {name: "program", least: 12, drop: 2}, {name: "version", least: 8, drop: 3}}
			return a.print(view{raw: reply.Raw, ids: ids, table: func(w io.Writer) error { return a.writeTable(w, cols, rows) }})
		},
	}
	cmd.Flags().BoolVar(&versions, "versions", true, "run the programs to learn their versions")
	return cmd
}

// sourceText is where a type comes from, with the preset that an entry builds on.
func sourceText(source string, preset *string) string {
	if preset != nil && (source == "configuration" || source == "installed") {
		return clean(source + " (" + *preset + ")")
	}
	return clean(source)
}

func (a *app) typesExplain() *cobra.Command {
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
		ValidArgsFunction: a.complete(first(typeOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return usage("explain needs a worker type", "hivectl types list")
			}
			op.Wait = "ready"
			if err := op.complete(params, cmd.Flags().Changed("port")); err != nil {
				return err
			}
			return a.explain(cmd.Context(), args[0], client.TypeQuery{
				Model: op.Model, Device: op.Device, Name: op.Name, Port: op.Port, Params: op.Params, Version: version,
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&op.Model, "model", "", "model to serve; the path of an existing file is made absolute")
	flags.StringVar(&op.Device, "device", "", "device to use: 0, or 0,1, or cpu")
	flags.StringVar(&op.Name, "name", "", "name of the worker")
	flags.Uint16Var(&op.Port, "port", 0, "port of the worker")
	flags.StringArrayVar(&params, "param", nil, "parameter of the worker type, `key=value`; may be repeated")
	flags.BoolVar(&version, "version", false, "run the program to learn its version")
	completeFlag(cmd, "model", files)
	return cmd
}

func (a *app) explain(ctx context.Context, name string, q client.TypeQuery) error {
	reply, err := a.hive.Type(ctx, name, q)
	if err != nil {
		return err
	}
	t := reply.Value
	if t.NoCommand == nil {
		return a.print(view{
			raw: reply.Raw, ids: []string{shellWords(t.Command)},
			table: func(w io.Writer) error { return writeFields(w, a.explainFields(t)) },
		})
	}
	why := &cliError{code: exitFailed, text: clean(t.Name + ": " + *t.NoCommand)}
	if t.NeedsModel && t.Model == nil && q.Model == "" {
		why.code, why.hint = exitUsage, "give one with --model"
	}
	if a.output == outputTable {
		return why
	}
	if err := a.print(view{raw: reply.Raw}); err != nil {
		return err
	}
	return why
}

func (a *app) explainFields(t wire.TypeDetail) [][2]string {
	program := or(t.Program)
	if !t.Installed {
		program = a.paint(red, "not installed") + ": " + or(t.Reason)
	}
	fields := [][2]string{
		{"type", clean(t.Name)}, {"source", sourceText(t.Source, t.Preset)}, {"about", clean(t.Description)}, {"program", program},
	}
	if t.Version != nil {
		fields = append(fields, [2]string{"version", clean(*t.Version)})
	}
	fields = append(fields, [2]string{"command", shellWords(t.Command)})
	for i, v := range t.Env {
		label := ""
		if i == 0 {
			label = "env"
		}
		fields = append(fields, [2]string{label, variableText(v)})
	}
	fields = append(fields, paramFields(t.Parameters)...)
	for _, f := range [][2]string{{"envfile", or(t.EnvFile)}, {"dir", or(t.Dir)}, {"user", or(t.User)}, {"before", orDash(shellWords(t.BeforeStart))}} {
		if f[1] != "-" {
			fields = append(fields, f)
		}
	}
	if t.NoNewPrivileges != nil && *t.NoNewPrivileges {
		fields = append(fields, [2]string{"rights", "no new ones, whatever it executes (no_new_privileges)"})
	}
	return append(fields,
		[2]string{"passed", clean(strings.Join(t.Inherited, " "))},
		[2]string{"removed", clean(strings.Join(t.Removed, " "))},
		[2]string{"host", or(t.Host)},
		[2]string{"port", or(t.Port)},
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
		text := clean(name) + "=" + shellWord(p.Default)
		if p.Fixed || p.Pattern == nil {
			text += " (fixed: only the configuration sets it)"
		} else {
			text += " (--param: what matches " + clean(*p.Pattern) + ")"
		}
		fields = append(fields, [2]string{label, text})
	}
	return fields
}

func liveText(l *wire.TypeLive) string {
	if l == nil {
		return "it is watched by its exit only"
	}
	what := "it listens"
	if l.URL != nil {
		what = "GET " + clean(*l.URL)
	}
	action := "it is started again"
	if l.Action == "report" {
		action = "it is shown as unhealthy"
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
		text = fmt.Sprintf("%s, at most %d times in %s, after %s to %s", clean(r.Policy), r.Max, milliseconds(r.WindowMS), milliseconds(r.BackoffMS), milliseconds(r.MaxBackoffMS))
	}
	if autostart {
		text += "; started with hive (autostart)"
	}
	return text
}

// variableText is NAME=value as a shell takes it, or why there is no value.
func variableText(v wire.Variable) string {
	if v.Value != nil {
		return clean(v.Name) + "=" + shellWord(*v.Value)
	}
	switch v.From {
	case "entry":
		return clean(v.Name) + " (of the entry; its value is not shown)"
	case "environment":
		return clean(v.Name) + " (passed on from hive's own environment)"
	case "spawn":
		return clean(v.Name) + " (made at the spawn)"
	}
	return clean(v.Name) + " (" + clean(v.From) + ")"
}

func readyText(r *wire.TypeReady) string {
	if r == nil {
		return "-"
	}
	text := "it listens on its port"
	if r.URL != nil {
		text = fmt.Sprintf("GET %s answers %d", clean(*r.URL), r.Status)
	}
	var limits []string
	if r.StallMS > 0 {
		limits = append(limits, "no progress for "+milliseconds(r.StallMS))
	}
	if r.TimeoutMS > 0 {
		limits = append(limits, milliseconds(r.TimeoutMS)+" in all")
	}
	if len(limits) == 0 {
		return text + "; it is waited for without a limit"
	}
	return text + "; given up after " + strings.Join(limits, " or ")
}

func stopText(s *wire.TypeStop) string {
	if s == nil {
		return "-"
	}
	var steps []string
	if len(s.Command) > 0 {
		steps = append(steps, shellWords(s.Command)+", "+milliseconds(s.GraceMS))
	}
	for _, name := range s.Signals {
		steps = append(steps, clean(name)+", "+milliseconds(s.GraceMS))
	}
	whom := "the main process first"
	if s.Scope == "tree" {
		whom = "all of its processes at once"
	}
	return strings.Join(append(steps, "SIGKILL"), ", then ") + " (" + whom + ")"
}

// milliseconds is a duration without the units that are zero: 5m, not 5m0s.
func milliseconds(ms int64) string {
	s := (time.Duration(ms) * time.Millisecond).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
