package command

import (
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
)

// recoveryWait is how long a command waits for a hive that recovers. Recovery
// judges for 15 s at most; the rest is for a migration with its backup.
const recoveryWait = time.Minute

// app is one run of hivectl: its world, its global flags, and the hive it talks to. Its
// methods are safe for concurrent use while a command runs, but for print and watchList.
type app struct {
	env       Env
	stdout    *terminal // env.Stdout and env.Stderr are these
	stderr    *terminal
	addr      string
	tokenFile string
	caFile    string
	output    string
	quiet     bool
	hive      *client.Client // set before a command runs; nil for those of cobra
	command   string         // the command that runs, with hivectl; empty: the command line was not understood
	outages   outages
}

// newApp makes the app of one run. close ends it.
func newApp(env Env) *app {
	// Stderr has nothing but texts for people.
	a := &app{env: env, stdout: newTerminal(env.Stdout, env.Width > 0), stderr: newTerminal(env.Stderr, true)}
	a.env.Stdout, a.env.Stderr = a.stdout, a.stderr
	return a
}

// close lets go of the hive, and writes what is left for a terminal.
func (a *app) close() {
	if a.hive != nil {
		a.hive.Close()
	}
	a.stdout.close()
	a.stderr.close()
}

// started reports whether the command line was understood: a command has begun.
func (a *app) started() bool { return a.command != "" }

// flags gives root the flags of all commands.
func (a *app) flags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.addr, "addr", "", "the hive: http://host:port, https://host:port or unix:/path (HIVE_ADDR; default the socket of a hive of this user or of the machine, else "+client.DefaultAddr+")")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the token to send (HIVE_TOKEN_FILE; default the token in the data directory, for a hive on a loopback address; over a unix socket none is needed)")
	flags.StringVar(&a.caFile, "ca-file", "", "file with the certificates to trust, in PEM, instead of the system's (HIVE_CA_FILE)")
	flags.StringVarP(&a.output, "output", "o", outputTable, "table, json or yaml")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print ids only")
	completeFlag(root, "output", oneOf(outputTable, outputJSON, outputYAML))
	completeFlag(root, "token-file", files)
	completeFlag(root, "ca-file", files)
}

// start runs before every command: the command line was understood.
func (a *app) start(cmd *cobra.Command) error {
	a.command = cmd.CommandPath()
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

// local reports whether a command is cobra's own: help, the completion scripts, and
// what they call. Those must work whatever the settings are.
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
