package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// completionLimit is how long a shell waits for what Tab offers. Later is too late:
// nothing is offered then.
const completionLimit = 800 * time.Millisecond

// offers asks a hive for what an argument or a flag may be.
type offers func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error)

// complete makes a completion of offers. Whatever goes wrong, nothing is offered and
// nothing is said: an error in the middle of a command line helps nobody.
func (a *app) complete(ask offers) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
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

// first offers only the first argument; there are no more.
func first(ask offers) offers {
	return func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
		if len(args) > 0 {
			return nil, nil
		}
		return ask(ctx, hive, args)
	}
}

// offer is one completion with what a shell shows beside it.
func offer(value, format string, about ...any) cobra.Completion {
	return cobra.CompletionWithDesc(clean(value), clean(fmt.Sprintf(format, about...)))
}

// workerOffers offers names and ids of workers that are wanted, but not twice.
func workerOffers(wanted func(wire.Worker) bool) offers {
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
				names = append(names, offer(*w.Name, "%s %s", w.WorkerID, w.State))
			}
			ids = append(ids, offer(w.WorkerID, "%s %s", or(w.Name), w.State))
		}
		return append(names, ids...), nil
	}
}

func anyWorker(wire.Worker) bool { return true }

func liveWorker(w wire.Worker) bool { return !client.WorkerEnded(w.State) }

// typeOffers offers worker types.
func typeOffers(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Types(ctx, false)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Types {
		found = append(found, offer(t.Name, "%s", t.Description))
	}
	return found, nil
}

// files leaves it to the shell, which offers files (and, for run, programs).
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// directories are offered by the shell.
func directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// oneOf offers fixed words.
func oneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// completeFlag has Tab offer something for a flag of cmd.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag, which every test would see
	}
}
