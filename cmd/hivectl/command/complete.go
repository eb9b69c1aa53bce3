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

// completionLimit is how long a shell waits for what Tab offers. Later is too late:
// nothing is offered then.
const completionLimit = 800 * time.Millisecond

// jobsOffered is how many ended jobs are offered, newest first.
const jobsOffered = 50

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

// jobOffers offers jobs, those that have not ended first; ended: the others too.
func jobOffers(ended bool) offers {
	filters := []client.JobFilter{{State: "running"}, {State: "queued"}}
	if ended {
		filters = append(filters, client.JobFilter{Limit: jobsOffered})
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
				found = append(found, offer(j.JobID, "%s %s", j.Operation, j.State))
			}
			seen[j.JobID] = true
		}
		return found, nil
	}
}

// leaseOffers offers the ports of leases; own: only those that are no worker's.
func leaseOffers(own bool) offers {
	return func(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
		reply, err := hive.Leases(ctx)
		if err != nil {
			return nil, err
		}
		var found []cobra.Completion
		for _, l := range reply.Value.Leases {
			if !own || l.WorkerID == nil {
				found = append(found, offer(fmt.Sprint(l.Port), "%s %s %s", l.Kind, leaseHolder(l), l.State))
			}
		}
		return found, nil
	}
}

// leaseIDOffers offers the id of the lease whose port is the argument.
func leaseIDOffers(ctx context.Context, hive *client.Client, args []string) ([]cobra.Completion, error) {
	reply, err := hive.Leases(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, l := range reply.Value.Leases {
		port := fmt.Sprint(l.Port)
		if l.WorkerID == nil && (len(args) == 0 || args[0] == port) {
			found = append(found, offer(l.LeaseID, "port %s %s", port, leaseHolder(l)))
		}
	}
	return found, nil
}

// tokenOffers offers the names of tokens.
func tokenOffers(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Tokens {
		found = append(found, offer(t.Name, "%s", tokenMay(t)))
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

// completions says what Tab offers for arguments and flags, by the path of a command.
// What is not here offers nothing.
func (a *app) completions(root *cobra.Command) {
	all, live := a.complete(first(workerOffers(anyWorker))), a.complete(workerOffers(liveWorker))
	several := a.complete(workerOffers(anyWorker))
	types := a.complete(first(typeOffers))
	jobs, leases := a.complete(first(jobOffers(true))), a.complete(first(leaseOffers(true)))
	for path, f := range map[string]cobra.CompletionFunc{
		"up": types, "types explain": types,
		"stop": live, "restart": all, "describe": all, "workers get": all,
		"logs": several, "workers logs": several, "workers wait": several,
		"jobs get": jobs, "jobs watch": jobs, "jobs cancel": a.complete(first(jobOffers(false))),
		"leases get": a.complete(first(leaseOffers(false))), "leases renew": leases, "leases release": leases,
		"tokens rotate": a.complete(first(tokenOffers)), "tokens revoke": a.complete(first(tokenOffers)),
		"run": files, "db backup": files, "db restore": files,
	} {
		named(root, path).ValidArgsFunction = f
	}
	for path, flags := range map[string]map[string]cobra.CompletionFunc{
		"":              {"output": oneOf(outputTable, outputJSON, outputYAML), "token-file": files, "ca-file": files},
		"up":            {"model": files, "wait": oneOf("ready", "started")},
		"workers wait":  {"for": oneOf(workerStates...)},
		"types explain": {"model": files},
		"tokens add":    {"types": a.complete(typeOffers)},
		"jobs list": {
			"state": oneOf(jobStates...), "after": a.complete(jobOffers(true)),
			"operation": oneOf("worker_spawn", "worker_stop", "worker_restart", "worker_process_list", "worker_process_get", "worker_process_delete", "hive_check"),
		},
		"events":         {"type": oneOf("state", "port", "process", "log", "progress", "result", "audit", "end"), "after": oneOf("latest")},
		"db":             {"data-dir": directories},
		"leases renew":   {"lease-id": a.complete(leaseIDOffers)},
		"leases release": {"lease-id": a.complete(leaseIDOffers)},
	} {
		for flag, f := range flags {
			if err := named(root, path).RegisterFlagCompletionFunc(flag, f); err != nil {
				panic(err) // there is no such flag, which every test would see
			}
		}
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
}

// named is the command of a path below root.
func named(root *cobra.Command, path string) *cobra.Command {
	cmd, rest, err := root.Find(strings.Fields(path))
	if err != nil || len(rest) > 0 {
		panic("no command " + path)
	}
	return cmd
}
