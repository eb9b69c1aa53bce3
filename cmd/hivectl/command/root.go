package command

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/admin"
	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/inspect"
	"rbeehive/cmd/hivectl/command/jobs"
	"rbeehive/cmd/hivectl/command/leases"
	"rbeehive/cmd/hivectl/command/start"
	"rbeehive/cmd/hivectl/command/workers"
)

// Run runs one command and returns the exit code. SIGINT and SIGTERM end it
// gently; a second one ends the process.
func Run(env cli.Env) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the first signal on the next one has its default action again, and kills.
	context.AfterFunc(ctx, stop)
	a := cli.New(env)
	defer a.Close()
	root := tree(a)
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return cli.ExitOK
	}
	if !a.Started() {
		// Flags, arguments and command names are checked by cobra before anything runs.
		err = cli.Usage(err.Error(), helpHint(root, env.Args))
	}
	return a.Report(err)
}

// Tree returns all commands, for documents and tests. It must not be executed.
func Tree() *cobra.Command {
	return tree(cli.New(cli.Env{Getenv: func(string) string { return "" }}))
}

// tree is the command tree. The groups of commands know the app and not each
// other, and the app knows no command: this is the only place that knows them all.
func tree(a *cli.App) *cobra.Command {
	root := &cobra.Command{
		Use:   "hivectl",
		Short: "Control a hive: start, stop and inspect its workers",
		Long: "hivectl controls a hive, the daemon that runs worker processes on this machine.\n\n" +
			"WORKER is a name, an id, or an unambiguous beginning of one (running workers are\n" +
			"preferred to ended ones).\n\n" +
			"Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 daemon not reachable.",
		Example:                    "  hivectl up cpu --model test --name demo\n  hivectl ps\n  hivectl logs demo\n  hivectl stop demo",
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableSuggestions:         true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.Start(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Args: cli.UnknownCommand,
	}
	a.Flags(root)
	root.AddCommand(
		start.Up(a), workers.Down(a), workers.PS(a), workers.Logs(a), workers.Stop(a), start.Restart(a), workers.Describe(a), leases.Run(a), inspect.Audit(a), admin.Reload(a), jobs.Events(a),
		workers.Workers(a), leases.Leases(a), jobs.Jobs(a), inspect.Ports(a), inspect.Status(a), admin.Version(a),
		inspect.Doctor(a), admin.DB(a),
		start.Types(a),
		start.Models(a),
		admin.Tokens(a),
	)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp) // where nothing else is said
	// cobra's own commands, which it adds to a tree that runs.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for path, example := range map[string]string{
		"help":                  "  hivectl help up",
		"completion":            "  source <(hivectl completion bash)",
		"completion bash":       "  source <(hivectl completion bash)",
		"completion zsh":        "  hivectl completion zsh > _hivectl",
		"completion fish":       "  hivectl completion fish > hivectl.fish",
		"completion powershell": "  hivectl completion powershell > hivectl.ps1",
	} {
		named(root, path).Example = example
	}
	return root
}

// helpHint names the help of the command that the arguments meant, or the
// commands whose names are close to what was typed.
func helpHint(root *cobra.Command, args []string) string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd == nil {
		cmd = root
	}
	// What cobra could not place begins with the word that was mistyped.
	if rest := cmd.Flags().Args(); cmd.HasSubCommands() && len(rest) > 0 {
		if near := cmd.SuggestionsFor(rest[0]); len(near) > 0 {
			return "did you mean: " + cmd.CommandPath() + " " + strings.Join(near, ", ")
		}
	}
	return cmd.CommandPath() + " --help"
}

// named is the command of a path below root.
func named(root *cobra.Command, path string) *cobra.Command {
	cmd, rest, err := root.Find(strings.Fields(path))
	if err != nil || len(rest) > 0 {
		panic("no command " + path)
	}
	return cmd
}
