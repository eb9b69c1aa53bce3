package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) ps() *cobra.Command {
	return &cobra.Command{
		Use:   "ps",
		Short: "List the workers that are alive",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.hive.Workers(cmd.Context())
			if err != nil {
				return err
			}
			alive, raw, err := liveOnly(reply)
			if err != nil {
				return err
			}
			return a.printWorkers(alive, raw, false)
		},
	}
}

// liveOnly drops the ended workers from an answer and leaves the others byte
// for byte as they were sent.
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

// printWorkers prints a list of workers; ended: with how they ended. There is a
// column for stale only if one is.
func (a *app) printWorkers(workers []wire.Worker, raw json.RawMessage, ended bool) error {
	var ids []string
	var rows [][]string
	stale := slices.ContainsFunc(workers, func(w wire.Worker) bool { return w.Stale })
	for _, w := range workers {
		ids = append(ids, w.WorkerID)
		row := []string{w.WorkerID, or(w.Name), a.state(w.State), fmt.Sprint(w.Port), or(w.PID), a.age(w.StartedAt), or(w.Model), or(w.Device)}
		if stale {
			row = slices.Insert(row, 3, map[bool]string{true: "yes", false: "-"}[w.Stale])
		}
		if ended {
			row = append(row, or(w.Reason))
		}
		rows = append(rows, row)
	}
	header := []string{"worker", "name", "state", "port", "pid", "age", "model", "device"}
	if stale {
		header = slices.Insert(header, 3, "stale")
	}
	if ended {
		header = append(header, "reason")
	}
	return a.print(view{raw: raw, ids: ids, table: func(out io.Writer) error { return a.writeTable(out, header, rows) }})
}
