package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
)

// recoveryWait is how long a command waits for a hive that recovers. Recovery takes 15 s at
// most; the rest is for a migration with its backup.
const recoveryWait = time.Minute

// app is one run of hivectl.
type app struct {
	env       Env
	stdout    *terminal // env.Stdout and env.Stderr are these
	stderr    *terminal
	addr      string
	tokenFile string
	caFile    string
	output    string
	quiet     bool
	dataDir   string         // of db
	hive      *client.Client // set before a command runs
	started   bool           // the command line was parsed
	command   string         // the command that runs, with hivectl
	outages   outages
}

// Run runs one command and returns the exit code. SIGINT and SIGTERM end it
// gently; a second one ends the process.
func Run(env Env) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// Stderr has nothing but texts for people.
	a := &app{env: env, stdout: newTerminal(env.Stdout, env.Width > 0), stderr: newTerminal(env.Stderr, true)}
	a.env.Stdout, a.env.Stderr = a.stdout, a.stderr
	root := a.root()
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	defer a.stderr.end(a.stderr.sanitizer)
	defer a.stdout.end(a.stdout.sanitizer)
	err := root.ExecuteContext(ctx)
	if a.hive != nil {
		a.hive.Close()
	}
	if err == nil {
		return exitOK
	}
	if !a.started {
		// Flags, arguments and command names are checked by cobra before anything runs.
		err = usage(err.Error(), helpHint(root, env.Args))
	}
	return a.report(err)
}

// Tree returns all commands, for documents and tests. It must not be executed.
func Tree() *cobra.Command {
	return (&app{env: Env{Getenv: func(string) string { return "" }}}).root()
}

func (a *app) root() *cobra.Command {
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
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.start(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Args: unknownCommand,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.addr, "addr", "", "the hive: http://host:port, https://host:port or unix:/path (HIVE_ADDR; default the socket of a hive of this user or of the machine, else "+client.DefaultAddr+")")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the token to send (HIVE_TOKEN_FILE; default the token in the data directory, for a hive on a loopback address; over a unix socket none is needed)")
	flags.StringVar(&a.caFile, "ca-file", "", "file with the certificates to trust, in PEM, instead of the system's (HIVE_CA_FILE)")
	flags.StringVarP(&a.output, "output", "o", outputTable, "table, json or yaml")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print ids only")
	root.AddCommand(
		a.up(), a.down(), a.ps(), a.logs(), a.stop(), a.restart(), a.describe(), a.runOnPort(), a.audit(), a.reload(), a.events(),
		a.workers(), a.leases(), a.jobs(), a.ports(), a.status(), a.version(),
		a.doctor(), a.db(),
		a.types(),
		a.models(),
		a.tokens(),
	)
	a.completions(root)
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
		findCommand(root, path).Example = example
	}
	return root
}

// unknownCommand refuses arguments of a command that only has subcommands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q", strings.Join(append(commandWords(cmd), args[0]), " "))
}

// group makes a command that only has subcommands.
func group(use, short, example string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: unknownCommand, SuggestionsMinimumDistance: 2}
	var names []string
	for _, sub := range subcommands {
		names = append(names, sub.Name())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return usage(fmt.Sprintf("%s: missing subcommand: want one of %s", cmd.Name(), strings.Join(names, ", ")), "hivectl "+cmd.Name()+" --help")
	}
	cmd.AddCommand(subcommands...)
	return cmd
}

// commandWords is the path of cmd without "hivectl".
func commandWords(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

// helpHint names the help of the command that the arguments meant, or the
// commands whose names are close to what was typed.
func helpHint(root *cobra.Command, args []string) string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd == nil {
		cmd = root
	}
	if rest := cmd.Flags().Args(); cmd.HasSubCommands() && len(rest) > 0 {
		if near := cmd.SuggestionsFor(rest[0]); len(near) > 0 {
			return "did you mean: " + cmd.CommandPath() + " " + strings.Join(near, ", ")
		}
	}
	return cmd.CommandPath() + " --help"
}

// start runs before every command, after the command line was parsed.
func (a *app) start(cmd *cobra.Command) error {
	a.started, a.command = true, cmd.CommandPath()
	if local(cmd) {
		return nil
	}
	if err := a.checkOutput(); err != nil {
		return err
	}
	var err error
	a.hive, err = a.connect(client.Options{
		RecoveryWait: recoveryWait,
		OnRecovering: func(e *client.Error) { a.noticeWait(e) },
	})
	return err
}

// local reports whether a command is cobra's own: help, the completion scripts, and what
// they call. They must work whatever the settings are.
func local(cmd *cobra.Command) bool {
	for ; cmd != nil; cmd = cmd.Parent() {
		switch cmd.Name() {
		case "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return true
		}
	}
	return false
}

// connect makes a client of the hive that flags and environment name. It does not
// send anything yet.
func (a *app) connect(opts client.Options) (*client.Client, error) {
	opts.Addr = a.addr
	if opts.Addr == "" {
		opts.Addr = a.env.Getenv("HIVE_ADDR")
	}
	if opts.Addr == "" {
		opts.Addrs = a.ownAddrs()
	}
	opts.UserAgent = "hivectl/" + a.env.Version
	if err := a.setToken(&opts); err != nil {
		return nil, err
	}
	var err error
	if opts.RootCAs, err = a.roots(); err != nil {
		return nil, err
	}
	return client.New(opts)
}
