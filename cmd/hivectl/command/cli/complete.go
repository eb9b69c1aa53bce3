package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// completionTimeout is how long a shell waits for completions. After it there are none.
const completionTimeout = 800 * time.Millisecond

// Completer asks a hive for the values of an argument or a flag.
type Completer func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error)

// Complete makes cobra's completion of a Completer. After any error nothing is offered and
// nothing is printed: a message in the middle of a command line helps nobody.
func (a *App) Complete(source Completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		// Without RecoveryWait: Tab is not to wait for a hive that recovers.
		hive, err := a.connect(client.Options{})
		if err != nil {
			return nil, directive
		}
		defer hive.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		found, err := source(ctx, hive, args)
		if err != nil {
			return nil, directive
		}
		return slices.DeleteFunc(found, func(c cobra.Completion) bool { return !strings.HasPrefix(c, toComplete) }), directive
	}
}

// FirstArg completes only the first argument; there are no more.
func FirstArg(source Completer) Completer {
	return func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
		if len(args) > 0 {
			return nil, nil
		}
		return source(ctx, hive, args)
	}
}

// Completion is one value with what a shell shows beside it.
func Completion(value, format string, about ...any) cobra.Completion {
	return cobra.CompletionWithDesc(output.Clean(value), output.Clean(fmt.Sprintf(format, about...)))
}

// CompleteWorkers offers names and ids of workers that are wanted, but not twice.
func CompleteWorkers(wanted func(wire.Worker) bool) Completer {
	return func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
		reply, err := hive.Workers(ctx)
		if err != nil {
			return nil, err
		}
		var names, ids []cobra.Completion
		for _, w := range reply.Value.Workers {
			if !wanted(w) || slices.Contains(args, w.WorkerID) || w.Name != nil && slices.Contains(args, *w.Name) {
				continue
			}
			if w.Name != nil && *w.Name != "" {
				names = append(names, Completion(*w.Name, "%s %s", w.WorkerID, w.State))
			}
			ids = append(ids, Completion(w.WorkerID, "%s %s", output.Or(w.Name), w.State))
		}
		// Names first: they are what people remember.
		return append(names, ids...), nil
	}
}

// AnyWorker wants every worker, for CompleteWorkers.
func AnyWorker(wire.Worker) bool { return true }

// EndedWorker wants the workers that have ended, for CompleteWorkers.
func EndedWorker(w wire.Worker) bool { return client.WorkerEnded(w.State) }

// LiveWorker wants the workers that have not ended, for CompleteWorkers.
func LiveWorker(w wire.Worker) bool { return !client.WorkerEnded(w.State) }

// CompleteTypes offers worker types.
func CompleteTypes(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Types(ctx, false)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Types {
		found = append(found, Completion(t.Name, "%s", t.Description))
	}
	return found, nil
}

// Files leaves it to the shell, which completes files (and, for run, programs).
func Files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// Directories leaves it to the shell, which completes directories.
func Directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// OneOf completes fixed words.
func OneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// CompleteFlag registers the completion of a flag of cmd.
func CompleteFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag, which every test would find
	}
}
