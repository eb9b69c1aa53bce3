package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// maxCandidates is how many workers an ambiguous reference lists.
const maxCandidates = 8

// Resolve finds the worker that a WORKER argument means.
func (a *App) Resolve(ctx context.Context, ref string) (wire.Worker, error) {
	workers, err := a.Hive.Workers(ctx)
	if err != nil {
		return wire.Worker{}, err
	}
	return pick(workers.Value, ref)
}

// ResolveAll finds the workers that WORKER arguments mean, each once. It is an error
// unless every argument means one.
func (a *App) ResolveAll(ctx context.Context, refs []string) ([]wire.Worker, error) {
	all, err := a.Hive.Workers(ctx)
	if err != nil {
		return nil, err
	}
	// One list for all, so that the arguments are judged by the same moment.
	var chosen []wire.Worker
	seen := map[string]bool{}
	for _, ref := range refs {
		w, err := pick(all.Value, ref)
		if err != nil {
			return nil, err
		}
		if !seen[w.WorkerID] {
			chosen = append(chosen, w)
		}
		seen[w.WorkerID] = true
	}
	return chosen, nil
}

// pick returns the worker with this id; else this name; else the one whose id or name
// begins with ref. Living workers go before ended ones, or `cpu-8080` would be ambiguous
// for a day after every restart on that port. Of ended workers that had the same name the
// last one is meant.
func pick(list wire.Workers, ref string) (wire.Worker, error) {
	// Every id begins with nothing: an unset variable in a script would mean the only worker.
	if ref == "" {
		return wire.Worker{}, Usage("no worker given: want its name, its id, or the beginning of one", "hivectl workers list")
	}
	var exact, named, begins []wire.Worker
	for _, w := range list.Workers {
		name := ""
		if w.Name != nil {
			name = *w.Name
		}
		switch {
		case w.WorkerID == ref:
			exact = append(exact, w)
		case name == ref:
			named = append(named, w)
		case strings.HasPrefix(w.WorkerID, ref) || (name != "" && strings.HasPrefix(name, ref)):
			begins = append(begins, w)
		}
	}
	if len(exact) > 0 {
		return exact[0], nil
	}
	// Before an ended one that had the name: no command acts on the dead while a living
	// worker answers to the same word.
	if alive := slices.DeleteFunc(slices.Clone(begins), func(w wire.Worker) bool { return client.WorkerEnded(w.State) }); len(named) > 0 && (len(alive) == 0 || anyAlive(named)) {
		return latest(living(named)), nil
	}
	begins = living(begins)
	switch len(begins) {
	case 0:
		for _, v := range list.Wanted {
			if v.Name == ref {
				return wire.Worker{}, NotFound(fmt.Sprintf("%s has no worker yet: it is %s, and hive starts it as soon as it can", ref, v.State), NotWanted)
			}
		}
		return wire.Worker{}, NotFound(fmt.Sprintf("no worker %q", ref), "see hivectl workers list")
	case 1:
		return begins[0], nil
	}
	return wire.Worker{}, Usage(fmt.Sprintf("%q is ambiguous: %s", ref, candidates(begins)), "use more of the id, or the name")
}

// NotWanted is how to give up what is wanted and has no worker.
const NotWanted = "to give it up, take autostart out of its entry and run hivectl reload"

func anyAlive(workers []wire.Worker) bool {
	return slices.ContainsFunc(workers, func(w wire.Worker) bool { return !client.WorkerEnded(w.State) })
}

// living returns the workers that are alive, or all if none is.
func living(workers []wire.Worker) []wire.Worker {
	alive := slices.DeleteFunc(slices.Clone(workers), func(w wire.Worker) bool { return client.WorkerEnded(w.State) })
	if len(alive) == 0 {
		return workers
	}
	return alive
}

func latest(workers []wire.Worker) wire.Worker {
	return slices.MaxFunc(workers, func(a, b wire.Worker) int {
		// The ids decide between equal times, so that the same name always means the same worker.
		return cmp.Or(time.Time(a.StartedAt).Compare(time.Time(b.StartedAt)), strings.Compare(a.WorkerID, b.WorkerID))
	})
}

func candidates(workers []wire.Worker) string {
	var names []string
	for _, w := range workers[:min(len(workers), maxCandidates)] {
		names = append(names, Title(w))
	}
	if more := len(workers) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
