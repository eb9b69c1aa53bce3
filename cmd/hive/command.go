package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/reference"
	"rbeehive/store/plain"
)

// run is the program; it returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	return runWith(args, stdout, stderr, (*hive.Hive).Alive)
}

// runWith is run with another health check.
func runWith(args []string, stdout, stderr io.Writer, check healthCheck) int {
	if len(args) > 0 && args[0] == "worker" {
		return reference.Main(args[1:], stdout, stderr)
	}
	cmd := newCommand(stderr, check)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.Execute()
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errMistakes) {
		return exitFailed
	}
	// By an output: a daemon's last word must not keep it from ending.
	last := newOutput(stderr)
	fmt.Fprintf(last, "hive: %s\n", oneLine(err))
	last.finish(finishTimeout)
	if errors.As(err, new(usageError)) || errors.Is(err, config.ErrConfig) {
		return exitUsage
	}
	return exitFailed
}

// oneLine joins the lines of errors.Join: an error is one line for the user, of plain
// text, whatever the names in it are.
func oneLine(err error) string {
	return plain.Text(strings.Join(strings.Split(strings.TrimSpace(err.Error()), "\n"), "; "))
}

func newCommand(stderr io.Writer, check healthCheck) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hive",
		Short: "hive runs inference servers on this machine and gives each a port",
		Long: `hive starts worker processes, leases each one a TCP port, and serves a job API.
Workers keep running when hive stops; when it starts again it adopts them.

Settings may also be given as variables (--data-dir as HIVE_DATA_DIR) and, but
for --port, in the configuration file (data_dir). Flags win over variables,
variables over the file. hive check says what is wrong with them.`,
		Example: `  hive
  hive --config ./hive.yaml --port 7900
  hive check ./hive.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Sprintf("unexpected argument %q", args[0])}
			}
			return nil
		},
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runFlags(cmd, stderr, check)
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().Bool("version", false, "print the version and exit")
	cmd.Flags().Bool("build-info", false, "print the kind of build and exit (for rbee's keeper)")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{err.Error()}
	})
	cmd.AddCommand(newCheckCommand(), newGatewayCommand())
	// Only for the help text: run recognises the word before cobra is set up.
	cmd.AddCommand(&cobra.Command{
		Use: "worker --port N", Short: "the reference worker, which the built-in worker type cpu runs",
		DisableFlagParsing: true, Run: func(*cobra.Command, []string) {},
	})
	return cmd
}

// runFlags handles --version and --build-info, or runs the daemon.
func runFlags(cmd *cobra.Command, stderr io.Writer, check healthCheck) error {
	stdout := cmd.OutOrStdout()
	if yes, err := cmd.Flags().GetBool("build-info"); err != nil || yes {
		fmt.Fprintln(stdout, "release")
		return err
	}
	if yes, err := cmd.Flags().GetBool("version"); err != nil || yes {
		fmt.Fprintf(stdout, "hive %s (%s, %s/%s)\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the daemon runs on Linux only, this is %s; hivectl works here, with --addr of a hive elsewhere", runtime.GOOS)
	}
	passed, err := passedListeners()
	if err != nil {
		return err
	}
	var passedAddrs []config.Address
	for _, ln := range passed {
		passedAddrs = append(passedAddrs, addressOf(ln))
	}
	load := func(again *config.Config) (*config.Config, error) {
		return config.Load(config.Options{Flags: cmd.Flags(), Environ: os.Environ(), UID: os.Geteuid(), Passed: passedAddrs, Previous: again})
	}
	cfg, err := load(nil)
	if err != nil {
		return err
	}
	ignoreSIGPIPE()
	out, errs := newOutput(stdout), newOutput(stderr)
	defer out.finish(finishTimeout)
	defer errs.finish(finishTimeout)
	log, err := newLogger(cfg, errs)
	if err != nil {
		return err
	}
	tell := func(lost uint64) {
		log.WithField("lines", lost).Warn("lines of this log were dropped, because nobody read them")
	}
	errs.resumed.Store(&tell)
	d := newDaemon(cfg, load, passed, log, out, check)
	d.droppedLines = errs.lost.Load
	return d.run(cmd.Context())
}

// version is set by the linker: make build passes -X main.version=... .
var version string

// programVersion is version, or what the Go toolchain stamped into the binary.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
