package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hive/config"
	"rbeehive/store/plain"
)

// errMistakes is a configuration with mistakes that have been printed.
var errMistakes = errors.New("the configuration has mistakes")

func newCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "check the configuration, and start nothing",
		Long: `Reads the configuration as a start or a reload does: flags, variables, FILE (or the
one that hive would find) and types.d in the data directory. Prints every mistake
with its line, and warnings. It needs no running hive and changes nothing.

Exit codes: 0 it is valid, 1 it has mistakes, 2 the command line is wrong.`,
		Example: `  hive check
  hive check ./hive.yaml
  hive check --data-dir /srv/hive /etc/hive/hive.yaml && systemctl reload hive`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Sprintf("unexpected argument %q: hive check takes one file", args[1])}
			}
			return nil
		},
		RunE: runCheck,
	}
	config.Flags(cmd.Flags())
	return cmd
}

func runCheck(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && cmd.Flags().Changed("config") {
		return usageError{fmt.Sprintf("both --config and %q name a file; give one of them", args[0])}
	}
	if len(args) == 1 {
		if err := cmd.Flags().Set("config", args[0]); err != nil {
			return usageError{err.Error()}
		}
	}
	cfg, err := config.Load(config.Options{Flags: cmd.Flags(), Environ: os.Environ(), UID: os.Geteuid()})
	mistakes, ok := errors.AsType[config.Mistakes](err)
	if err != nil && !ok {
		return err
	}
	for _, e := range mistakes {
		if len(args) == 1 && e.Source == "--config" { // a flag that nobody has given
			fmt.Fprintln(cmd.ErrOrStderr(), plain.Text(e.Reason))
			continue
		}
		fmt.Fprintln(cmd.ErrOrStderr(), e)
	}
	if len(mistakes) > 0 {
		return errMistakes
	}
	for _, w := range warningsOf(cfg) {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	if cfg.File == "" {
		fmt.Fprintln(cmd.OutOrStdout(), "no configuration file was found, and the rest is valid")
		return nil
	}
	fmt.Fprintln(cmd.OutOrStdout(), plain.Text(cfg.File)+" is valid")
	return nil
}

// warningsOf is what somebody who has written the configuration hardly means, line by line.
func warningsOf(cfg *config.Config) (lines []string) {
	if cfg.Empty {
		lines = append(lines, plain.Text(cfg.File)+":1: has nothing but comments; a running hive that has read more from it refuses to reload it")
	}
	for _, w := range cfg.Warnings {
		lines = append(lines, w.Error())
	}
	for _, file := range cfg.Shadowed {
		lines = append(lines, plain.Text(file)+": is ignored: hive.yaml has an entry of that name")
	}
	if cfg.Unread != "" {
		lines = append(lines, fmt.Sprintf("./%[1]s is not read by root unasked, since another user may have written it; give it by name: ./%[1]s", cfg.Unread))
	}
	return lines
}
