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
const completionLimit = 800 * time.Millisecond

// Offers asks a hive for what an argument or a flag may be.
type Offers func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error)

// Complete makes a completion of offers. Whatever goes wrong, nothing is offered and
// nothing is said: an error in the middle of a command line helps nobody.
func (a *App) Complete(ask Offers) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		// Without RecoveryWait: Tab is not to wait for a hive that recovers.
		hive, err := a.connect(client.Options{})
		if err != nil {
			return nil, directive
		}
		defer hive.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
		defer cancel()
		found, err := ask(ctx, hive, args)
		if err != nil {
			return nil, directive
		}
		return slices.DeleteFunc(found, func(c cobra.Completion) bool { return !strings.HasPrefix(c, toComplete) }), directive
	}
}

// First offers only the first argument; there are no more.
func First(ask Offers) Offers {
	return func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
		if len(args) > 0 {
			return nil, nil
		}
		return ask(ctx, hive, args)
	}
}

// Offer is one completion with what a shell shows beside it.
func Offer(value, format string, about ...any) cobra.Completion {
	return cobra.CompletionWithDesc(output.Clean(value), output.Clean(fmt.Sprintf(format, about...)))
}

// WorkerOffers offers names and ids of workers that are wanted, but not twice.
func WorkerOffers(wanted func(wire.Worker) bool) Offers {
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
				names = append(names, Offer(*w.Name, "%s %s", w.WorkerID, w.State))
			}
			ids = append(ids, Offer(w.WorkerID, "%s %s", output.Or(w.Name), w.State))
		}
		// Names first: they are what people remember.
		return append(names, ids...), nil
	}
}

// AnyWorker wants every worker, for WorkerOffers.
func AnyWorker(wire.Worker) bool { return true }

// LiveWorker wants the workers that have not ended, for WorkerOffers.
func LiveWorker(w wire.Worker) bool { return !client.WorkerEnded(w.State) }

// TypeOffers offers worker types.
func TypeOffers(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Types(ctx, false)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Types {
		found = append(found, Offer(t.Name, "%s", t.Description))
	}
	return found, nil
}

// Files leaves it to the shell, which offers files (and, for run, programs).
func Files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// Directories are offered by the shell.
func Directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// OneOf offers fixed words.
func OneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// CompleteFlag has Tab offer something for a flag of cmd.
func CompleteFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag, which every test would find
	}
}
