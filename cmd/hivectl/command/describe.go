package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) describe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe WORKER",
		Short: "Show everything about a worker, with its events",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			worker, err := a.hive.Worker(cmd.Context(), found.WorkerID)
			if err != nil {
				return err
			}
			events, err := a.hive.WorkerEvents(cmd.Context(), found.WorkerID, 0)
			if err != nil {
				return err
			}
			raw, err := describeRaw(worker, events)
			if err != nil {
				return err
			}
			return a.print(view{
				raw:   raw,
				ids:   []string{found.WorkerID},
				table: func(w io.Writer) error { return a.writeDescription(w, worker.Value, events) },
			})
		},
	}
}

// describeRaw puts the two answers side by side, each as it was sent.
func describeRaw(worker client.Reply[wire.Worker], events []client.Reply[wire.Event]) (json.RawMessage, error) {
	both := struct {
		Worker json.RawMessage   `json:"worker"`
		Events []json.RawMessage `json:"events"`
	}{worker.Raw, []json.RawMessage{}}
	for _, e := range events {
		both.Events = append(both.Events, e.Raw)
	}
	raw, err := json.Marshal(both)
	if err != nil {
		return nil, fmt.Errorf("encode the description: %w", err)
	}
	return raw, nil
}

func (a *app) writeDescription(w io.Writer, worker wire.Worker, events []client.Reply[wire.Event]) error {
	if err := a.writeFields(w, a.workerFields(worker)); err != nil {
		return err
	}
	lines := []string{"", "events"}
	for _, e := range events {
		lines = append(lines, "  "+eventLine(e.Value))
	}
	if len(events) == 0 {
		lines = append(lines, "  none")
	}
	return writeLines(w, lines)
}

// workerFields is one worker for a person.
func (a *app) workerFields(w wire.Worker) [][2]string {
	ready := "-"
	if w.ReadyAt != nil {
		ready = clock(*w.ReadyAt)
	}
	fields := [][2]string{
		{"worker", clean(w.WorkerID)},
		{"name", or(w.Name)},
		{"type", clean(w.Type)},
		{"state", a.state(w.State)},
		{"reason", or(w.Reason)},
		{"desired", clean(w.Desired)},
		{"restarts", fmt.Sprint(w.Restarts)},
		{"model", or(w.Model)},
		{"device", or(w.Device)},
		{"url", orDash(w.URL)},
		{"port", strings.Trim(fmt.Sprint(append([]uint16{w.Port}, others(w)...)), "[]")},
		{"pid", or(w.PID)},
		{"lease", or(w.LeaseID)},
		{"log", orDash(w.Log)},
		{"started", clock(w.StartedAt) + " (" + a.age(w.StartedAt) + " ago)"},
		{"ready", ready},
		{"exit", exitText(w.Exit)},
	}
	if w.Stale {
		fields = slices.Insert(fields, 4, [2]string{"stale", "its type has changed since its start"})
	}
	return fields
}

// others are the ports of a worker besides its first.
func others(w wire.Worker) []uint16 {
	var more []uint16
	for _, p := range w.Ports {
		if p != w.Port {
			more = append(more, p)
		}
	}
	return more
}

// exitText says how a process ended.
func exitText(e *wire.Exit) string {
	if e == nil {
		return "-"
	}
	text := "how it ended is not known"
	switch {
	case e.Signal != nil && *e.Signal != "":
		text = "by signal " + clean(*e.Signal)
	case e.Code != nil:
		text = fmt.Sprintf("with code %d", *e.Code)
	}
	if e.OOM {
		text += ", out of memory"
	}
	return text + ", " + clock(e.At)
}
