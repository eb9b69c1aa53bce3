package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) ps() *cobra.Command {
	return a.listCommand(&cobra.Command{
		Use:     "ps",
		Short:   "List the workers that are alive",
		Example: "  hivectl ps\n  hivectl ps --watch\n  hivectl stop $(hivectl ps -q)",
	}, func(ctx context.Context) (listing, error) {
		reply, err := a.hive.Workers(ctx)
		if err != nil {
			return listing{}, err
		}
		alive, raw, err := liveOnly(reply)
		if err != nil {
			return listing{}, err
		}
		return a.workerListing(alive, raw, false)
	})
}

// liveOnly drops the ended workers from a response and leaves the others byte for byte as
// they were sent.
func liveOnly(reply client.Reply[wire.Workers]) ([]wire.Worker, json.RawMessage, error) {
	var list struct {
		Workers []json.RawMessage `json:"workers"`
		Next    string            `json:"next"`
	}
	if err := json.Unmarshal(reply.Raw, &list); err != nil {
		return nil, nil, fmt.Errorf("decode the list of workers: %w", err)
	}
	var alive []wire.Worker
	kept := []json.RawMessage{}
	for i, w := range reply.Value.Workers {
		if !client.WorkerEnded(w.State) {
			alive = append(alive, w)
			kept = append(kept, list.Workers[i])
		}
	}
	list.Workers = kept
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the list of workers: %w", err)
	}
	return alive, raw, nil
}

// workerListing is a list of workers; ended: with how they ended. There is a
// column for stale only if one is.
func (a *app) workerListing(workers []wire.Worker, raw json.RawMessage, ended bool) (listing, error) {
	items, err := itemsOf(raw, "workers")
	if err != nil {
		return listing{}, err
	}
	l := listing{raw: raw, items: items, columns: []column{
		{name: "worker"},
		{name: "name", minWidth: 8, drop: 1},
		{name: "state"},
		{name: "port", drop: 2},
		{name: "pid", drop: 4},
		{name: "age", drop: 5},
		{name: "model", minWidth: 8, drop: 6},
		{name: "device", minWidth: 6, drop: 7},
	}}
	stale := slices.ContainsFunc(workers, func(w wire.Worker) bool { return w.Stale })
	for _, w := range workers {
		l.ids = append(l.ids, w.WorkerID)
		row := []string{clean(w.WorkerID), or(w.Name), a.state(w.State), fmt.Sprint(w.Port), or(w.PID), a.age(w.StartedAt), or(w.Model), or(w.Device)}
		if stale {
			row = slices.Insert(row, 3, map[bool]string{true: "yes", false: "-"}[w.Stale])
		}
		if ended {
			row = append(row, or(w.Reason))
		}
		l.rows = append(l.rows, row)
	}
	if stale {
		l.columns = slices.Insert(l.columns, 3, column{name: "stale", drop: 3})
	}
	if ended {
		l.columns = append(l.columns, column{name: "reason", minWidth: 16, drop: 3})
	}
	return l, nil
}
