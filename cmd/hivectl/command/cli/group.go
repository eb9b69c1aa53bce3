package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// UnknownCommand refuses arguments of a command that only has subcommands.
func UnknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q", strings.Join(append(commandWords(cmd), args[0]), " "))
}

// Group makes a command that only has subcommands.
func Group(use, short, example string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: UnknownCommand, SuggestionsMinimumDistance: 2}
	var names []string
	for _, sub := range subcommands {
		names = append(names, sub.Name())
	}
	// Not the help and exit code 0, by which a script would take a forgotten word for success.
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return Usage(fmt.Sprintf("%s: missing subcommand: want one of %s", cmd.Name(), strings.Join(names, ", ")), "hivectl "+cmd.Name()+" --help")
	}
	cmd.AddCommand(subcommands...)
	return cmd
}

// commandWords is the path of cmd without "hivectl".
func commandWords(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }
