package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// completionTimeout is how long a shell waits for completions. After it there are none.
const completionTimeout = 800 * time.Millisecond

// maxJobsOffered is how many ended jobs are offered, newest first.
const maxJobsOffered = 50

// completer asks a hive for the values of an argument or a flag.
type completer func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error)

// complete makes cobra's completion of a completer. After any error nothing is offered and
// nothing is printed: a message in the middle of a command line helps nobody.
func (a *app) complete(source completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
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

// firstArg completes only the first argument; there are no more.
func firstArg(source completer) completer {
	return func(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
		if len(args) > 0 {
			return nil, nil
		}
		return source(ctx, hive, args)
	}
}

// completion is one value with what a shell shows beside it.
func completion(value, format string, about ...any) cobra.Completion {
	return cobra.CompletionWithDesc(clean(value), clean(fmt.Sprintf(format, about...)))
}

// completeWorkers offers names and ids of workers that are wanted, but not twice.
func completeWorkers(wanted func(wire.Worker) bool) completer {
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
				names = append(names, completion(*w.Name, "%s %s", w.WorkerID, w.State))
			}
			ids = append(ids, completion(w.WorkerID, "%s %s", or(w.Name), w.State))
		}
		return append(names, ids...), nil
	}
}

func anyWorker(wire.Worker) bool { return true }

func liveWorker(w wire.Worker) bool { return !client.WorkerEnded(w.State) }

// completeTypes offers worker types.
func completeTypes(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Types(ctx, false)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Types {
		found = append(found, completion(t.Name, "%s", t.Description))
	}
	return found, nil
}

// completeJobs offers jobs, those that have not ended first; ended: the others too.
func completeJobs(ended bool) completer {
	filters := []client.JobFilter{{State: "running"}, {State: "queued"}}
	if ended {
		filters = append(filters, client.JobFilter{Limit: maxJobsOffered})
	}
	return func(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
		pages := make([][]wire.Job, len(filters))
		var group errgroup.Group
		for i, filter := range filters {
			group.Go(func() error {
				reply, err := hive.Jobs(ctx, filter)
				pages[i] = reply.Value.Jobs
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		var found []cobra.Completion
		seen := map[string]bool{}
		for _, j := range slices.Concat(pages...) {
			if !seen[j.JobID] {
				found = append(found, completion(j.JobID, "%s %s", j.Operation, j.State))
			}
			seen[j.JobID] = true
		}
		return found, nil
	}
}

// completeLeases offers the ports of leases; own: only those that are no worker's.
func completeLeases(own bool) completer {
	return func(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
		reply, err := hive.Leases(ctx)
		if err != nil {
			return nil, err
		}
		var found []cobra.Completion
		for _, l := range reply.Value.Leases {
			if !own || l.WorkerID == nil {
				found = append(found, completion(fmt.Sprint(l.Port), "%s %s %s", l.Kind, leaseHolder(l), l.State))
			}
		}
		return found, nil
	}
}

// completeLeaseIDs offers the id of the lease whose port is the argument.
func completeLeaseIDs(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
	reply, err := hive.Leases(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, l := range reply.Value.Leases {
		port := fmt.Sprint(l.Port)
		if l.WorkerID == nil && (len(args) == 0 || args[0] == port) {
			found = append(found, completion(l.LeaseID, "port %s %s", port, leaseHolder(l)))
		}
	}
	return found, nil
}

// completeTokens offers the names of tokens.
func completeTokens(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Tokens {
		found = append(found, completion(t.Name, "%s", tokenMay(t)))
	}
	return found, nil
}

// files leaves it to the shell, which completes files (and, for run, programs).
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// directories leaves it to the shell, which completes directories.
func directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// oneOf completes fixed words.
func oneOf(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// completions registers the completions of arguments and flags, by the path of a command.
// Others have none.
func (a *app) completions(root *cobra.Command) {
	all, live := a.complete(firstArg(completeWorkers(anyWorker))), a.complete(completeWorkers(liveWorker))
	several := a.complete(completeWorkers(anyWorker))
	types := a.complete(firstArg(completeTypes))
	jobs, leases := a.complete(firstArg(completeJobs(true))), a.complete(firstArg(completeLeases(true)))
	for path, f := range map[string]cobra.CompletionFunc{
		"up": types, "types explain": types,
		"stop": live, "restart": all, "describe": all, "workers get": all,
		"logs": several, "workers logs": several, "workers wait": several,
		"jobs get": jobs, "jobs watch": jobs, "jobs cancel": a.complete(firstArg(completeJobs(false))),
		"leases get": a.complete(firstArg(completeLeases(false))), "leases renew": leases, "leases release": leases,
		"tokens rotate": a.complete(firstArg(completeTokens)), "tokens revoke": a.complete(firstArg(completeTokens)),
		"run": files, "db backup": files, "db restore": files,
	} {
		findCommand(root, path).ValidArgsFunction = f
	}
	for path, flags := range map[string]map[string]cobra.CompletionFunc{
		"":              {"output": oneOf(outputTable, outputJSON, outputYAML), "token-file": files, "ca-file": files},
		"up":            {"model": files, "wait": oneOf("ready", "started")},
		"workers wait":  {"for": oneOf(workerStates...)},
		"types explain": {"model": files},
		"tokens add":    {"types": a.complete(completeTypes)},
		"jobs list": {
			"state": oneOf(jobStates...), "after": a.complete(completeJobs(true)),
			"operation": oneOf("worker_spawn", "worker_stop", "worker_restart", "worker_process_list", "worker_process_get", "worker_process_delete", "hive_check"),
		},
		"events":         {"type": oneOf("state", "port", "process", "log", "progress", "result", "audit", "end"), "after": oneOf("latest")},
		"db":             {"data-dir": directories},
		"leases renew":   {"lease-id": a.complete(completeLeaseIDs)},
		"leases release": {"lease-id": a.complete(completeLeaseIDs)},
	} {
		for flag, f := range flags {
			if err := findCommand(root, path).RegisterFlagCompletionFunc(flag, f); err != nil {
				panic(err) // there is no such flag, which every test would find
			}
		}
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
}

// findCommand is the command of a path below root.
func findCommand(root *cobra.Command, path string) *cobra.Command {
	cmd, rest, err := root.Find(strings.Fields(path))
	if err != nil || len(rest) > 0 {
		panic("no command " + path)
	}
	return cmd
}
