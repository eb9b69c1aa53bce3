package cli

import (
	"time"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
)

// recoveryWait is how long a command waits for a hive that recovers. Recovery takes 15 s at
// most; the rest is for a migration with its backup.
const recoveryWait = time.Minute

// App is one run of hivectl: its world, its global flags, and the hive it talks to. Its
// methods are safe for concurrent use while a command runs, but for Print and a watched list.
// Those that ask the hive block until it has answered, or ctx is done; over an outage only
// where they say so.
type App struct {
	Env       Env
	Stdout    *output.Terminal // Env.Stdout and Env.Stderr are these
	Stderr    *output.Terminal
	addr      string
	tokenFile string
	caFile    string
	Output    string         // what -o says: see OutputTable
	Quiet     bool           // what -q says: ids and nothing else
	Hive      *client.Client // set before a command runs; nil for those of cobra
	command   string         // the command that runs, with hivectl; empty: the command line was not understood
	outages   outages
}

// New makes the app of one run. Close ends it.
func New(env Env) *App {
	// Stderr has nothing but texts for people.
	a := &App{Env: env, Stdout: output.NewTerminal(env.Stdout, env.Width > 0), Stderr: output.NewTerminal(env.Stderr, true)}
	a.Env.Stdout, a.Env.Stderr = a.Stdout, a.Stderr
	return a
}

// Close lets go of the hive, and writes what is left for a terminal.
func (a *App) Close() {
	if a.Hive != nil {
		a.Hive.Close()
	}
	a.Stdout.Close()
	a.Stderr.Close()
}

// Started reports whether the command line was understood: a command has begun.
func (a *App) Started() bool { return a.command != "" }

// Flags gives root the flags of all commands, and what Tab offers for them.
func (a *App) Flags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.addr, "addr", "", "the hive: http://host:port, https://host:port or unix:/path (HIVE_ADDR; default the socket of a hive of this user or of the machine, else "+client.DefaultAddr+")")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the token to send (HIVE_TOKEN_FILE; default the token in the data directory, for a hive on a loopback address; over a unix socket none is needed)")
	flags.StringVar(&a.caFile, "ca-file", "", "file with the certificates to trust, in PEM, instead of the system's (HIVE_CA_FILE)")
	flags.StringVarP(&a.Output, "output", "o", OutputTable, "table, json or yaml")
	flags.BoolVarP(&a.Quiet, "quiet", "q", false, "print ids only")
	CompleteFlag(root, "output", OneOf(OutputTable, outputJSON, outputYAML))
	CompleteFlag(root, "token-file", Files)
	CompleteFlag(root, "ca-file", Files)
}

// Start runs before every command: the command line was understood.
func (a *App) Start(cmd *cobra.Command) error {
	a.command = cmd.CommandPath() // from here on an error is no longer cobra's
	if local(cmd) {
		return nil
	}
	if err := a.checkOutput(); err != nil {
		return err
	}
	var err error
	a.Hive, err = a.connect(client.Options{
		RecoveryWait: recoveryWait,
		OnRecovering: func(e *client.Error) { a.NoticeWait(e) },
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
func (a *App) connect(opts client.Options) (*client.Client, error) {
	opts.Addr = a.addr
	if opts.Addr == "" {
		opts.Addr = a.Env.Getenv("HIVE_ADDR")
	}
	if opts.Addr == "" {
		// Only if nobody says: where a hive was asked for and does not answer, another one
		// must not take its place.
		opts.Addrs = a.ownAddrs()
	}
	opts.UserAgent = "hivectl/" + a.Env.Version
	if err := a.setToken(&opts); err != nil {
		return nil, err
	}
	var err error
	if opts.RootCAs, err = a.roots(); err != nil {
		return nil, err
	}
	return client.New(opts)
}
