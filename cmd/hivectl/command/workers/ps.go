package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// PS lists the workers that are alive.
func PS(a *cli.App) *cobra.Command {
	return a.ListCommand(&cobra.Command{
		Use:     "ps",
		Short:   "List the workers that are alive",
		Example: "  hivectl ps\n  hivectl ps --watch\n  hivectl stop $(hivectl ps -q)",
	}, func(ctx context.Context) (cli.Listing, error) {
		reply, err := a.Hive.Workers(ctx)
		if err != nil {
			return cli.Listing{}, err
		}
		alive, raw, err := liveOnly(reply)
		if err != nil {
			return cli.Listing{}, err
		}
		return workerListing(a, alive, reply.Value.Wanted, raw, false)
	})
}

// liveOnly drops the ended workers from a response and leaves the others byte for byte as
// they were sent.
func liveOnly(reply client.Reply[wire.Workers]) ([]wire.Worker, json.RawMessage, error) {
	var list struct {
		Workers []json.RawMessage `json:"workers"`
		Wanted  json.RawMessage   `json:"wanted,omitempty"`
		Next    string            `json:"next"`
	}
	if err := json.Unmarshal(reply.Raw, &list); err != nil {
		return nil, nil, fmt.Errorf("decode the list of workers: %w", err)
	}
	var alive []wire.Worker
	// Not nil, which would be null instead of [].
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

// workerListing is a list of workers, and behind them of what is wanted and has none;
// reasons: with how they ended. There is a column for stale or restarts only if there are
// some, and one of reasons if something is wanted.
func workerListing(a *cli.App, workers []wire.Worker, wanted []wire.Wanted, raw json.RawMessage, reasons bool) (cli.Listing, error) {
	items, err := cli.ItemsOf(raw, "workers")
	if err != nil {
		return cli.Listing{}, err
	}
	// A hive before there were services sends none.
	wanted = client.WithoutWorker(wanted, workers)
	if len(wanted) > 0 {
		more, err := cli.ItemsOf(raw, "wanted")
		if err != nil {
			return cli.Listing{}, err
		}
		items, reasons = append(items, more...), true
	}
	l := cli.Listing{Raw: raw, Items: items, Columns: []output.Column{
		{Name: "worker"},
		{Name: "name", MinWidth: 8, Drop: 1},
		{Name: "state"},
		{Name: "port", Drop: 2},
		{Name: "pid", Drop: 4},
		{Name: "age", Drop: 5},
		{Name: "model", MinWidth: 8, Drop: 6},
		{Name: "device", MinWidth: 6, Drop: 7},
	}}
	rare := rareColumns(workers)
	for _, w := range workers {
		l.IDs = append(l.IDs, w.WorkerID)
		row := []string{output.Clean(w.WorkerID), output.Or(w.Name), a.State(w.State), fmt.Sprint(w.Port), output.Or(w.PID), a.Age(w.StartedAt), output.Or(w.Model), output.Or(w.Device)}
		for i, c := range rare {
			row = slices.Insert(row, 3+i, c.text(w))
		}
		if reasons {
			row = append(row, output.Or(w.Reason))
		}
		l.Rows = append(l.Rows, row)
	}
	for _, v := range wanted {
		row := []string{"-", output.Clean(v.Name), a.State(v.State), "-", "-", a.Age(v.Since), "-", "-", output.Or(v.Reason)}
		for range rare {
			row = slices.Insert(row, 3, "-")
		}
		l.Rows = append(l.Rows, row)
	}
	for i, c := range rare {
		l.Columns = slices.Insert(l.Columns, 3+i, output.Column{Name: c.name, Drop: 3})
	}
	if reasons {
		l.Columns = append(l.Columns, output.Column{Name: "reason", MinWidth: 16, Drop: 3})
	}
	return l, nil
}

// rareColumn is a column that is there only if it says something of a worker: for one with
// "-" in every row the terminal has no room.
type rareColumn struct {
	name string
	text func(w wire.Worker) string // "-": nothing
}

// rareColumns are those of them that say something.
func rareColumns(workers []wire.Worker) []rareColumn {
	all := []rareColumn{
		{"stale", func(w wire.Worker) string { return map[bool]string{true: "yes", false: "-"}[w.Stale] }},
		{"restarts", func(w wire.Worker) string {
			if w.Restarts == 0 {
				return "-"
			}
			return fmt.Sprint(w.Restarts)
		}},
	}
	return slices.DeleteFunc(all, func(c rareColumn) bool {
		return !slices.ContainsFunc(workers, func(w wire.Worker) bool { return c.text(w) != "-" })
	})
}
