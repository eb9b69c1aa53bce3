package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Describe shows everything about a worker.
func Describe(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "describe WORKER",
		Short: "Show everything about a worker: its lease, the command of its type, its events",
		Long: "Show everything about a worker: what hive has recorded of it, its lease, the command\n" +
			"that its type has now for its model, device and port (a restart would use it), and\n" +
			"its events. With -o json these are worker, lease, type and events, each as the API\n" +
			"returns it; lease and type are null if they no longer exist.",
		Example:           "  hivectl describe demo\n  hivectl describe demo -o yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(cli.WorkerOffers(cli.AnyWorker))),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := newDescription(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			raw, err := d.raw()
			if err != nil {
				return err
			}
			return a.Print(cli.View{
				Raw:   raw,
				IDs:   []string{d.worker.Value.WorkerID},
				Table: func(w io.Writer) error { return writeDescription(a, w, d) },
			})
		},
	}
}

// description is all that describe shows. lease and typ are zero where there is none.
type description struct {
	worker client.Reply[wire.Worker]
	lease  client.Reply[wire.Lease]
	typ    client.Reply[wire.TypeDetail]
	events []client.Reply[wire.Event]
}

// newDescription asks for all of it. What is gone by now is left out, and no error.
func newDescription(ctx context.Context, a *cli.App, ref string) (*description, error) {
	found, err := a.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	var d description
	// Asked for once more, by itself: -o json prints this answer as it was sent.
	if d.worker, err = a.Hive.Worker(ctx, found.WorkerID); err != nil {
		return nil, err
	}
	if d.events, err = a.Hive.WorkerEvents(ctx, found.WorkerID, 0); err != nil {
		return nil, err
	}
	// The API has leases by port only, and the answers are not of one moment.
	w := d.worker.Value
	if w.LeaseID != nil {
		d.lease, err = a.Hive.Lease(ctx, w.Port)
		if err == nil && d.lease.Value.LeaseID != *w.LeaseID {
			d.lease = client.Reply[wire.Lease]{} // its port has been leased to another meanwhile
		}
		if err != nil && !errors.Is(err, client.ErrNotFound) {
			return nil, err
		}
	}
	d.typ, err = a.Hive.Type(ctx, w.Type, typeQuery(w))
	if refused := (*client.Error)(nil); err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	return &d, nil // a type that was removed, or rejects this worker now, has no command
}

// typeQuery asks what a start of this worker would be.
func typeQuery(w wire.Worker) client.TypeQuery {
	q := client.TypeQuery{Port: w.Port}
	for field, from := range map[*string]*string{&q.Model: w.Model, &q.Device: w.Device, &q.Name: w.Name} {
		if from != nil {
			*field = *from
		}
	}
	return q
}

// raw puts the answers side by side, each as it was sent.
func (d *description) raw() (json.RawMessage, error) {
	// events is [] where there are none, and not null.
	all := struct {
		Worker json.RawMessage   `json:"worker"`
		Lease  json.RawMessage   `json:"lease"`
		Type   json.RawMessage   `json:"type"`
		Events []json.RawMessage `json:"events"`
	}{d.worker.Raw, d.lease.Raw, d.typ.Raw, []json.RawMessage{}}
	for _, e := range d.events {
		all.Events = append(all.Events, e.Raw)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode the description: %w", err)
	}
	return raw, nil
}

func writeDescription(a *cli.App, w io.Writer, d *description) error {
	fields := workerFields(a, d.worker.Value)
	if i := slices.IndexFunc(fields, func(f [2]string) bool { return f[0] == "lease" }); d.lease.Raw != nil {
		fields[i][1] += fmt.Sprintf(" (%s for %s)", a.State(d.lease.Value.State), a.Age(d.lease.Value.AcquiredAt))
	}
	fields = append(fields, [2]string{"command", commandText(d.typ)})
	if err := output.Fields(w, fields); err != nil {
		return err
	}
	lines := []string{"", "events"}
	for _, e := range d.events {
		lines = append(lines, "  "+cli.EventLine(e.Value))
	}
	if len(d.events) == 0 {
		lines = append(lines, "  none")
	}
	return output.Lines(w, lines)
}

// commandText is the command of a worker's type, or why there is none.
func commandText(t client.Reply[wire.TypeDetail]) string {
	switch {
	case t.Raw == nil:
		return "- (its type was removed from the configuration, or rejects this worker now)"
	case t.Value.NoCommand != nil:
		return "- (" + output.Clean(*t.Value.NoCommand) + ")"
	}
	return output.ShellWords(t.Value.Command)
}

// workerFields is one worker for a person.
func workerFields(a *cli.App, w wire.Worker) [][2]string {
	ready := "-"
	if w.ReadyAt != nil {
		ready = output.Clock(*w.ReadyAt)
	}
	fields := [][2]string{
		{"worker", output.Clean(w.WorkerID)},
		{"name", output.Or(w.Name)},
		{"type", output.Clean(w.Type)},
		{"state", a.State(w.State)},
		{"reason", output.Or(w.Reason)},
		{"desired", output.Clean(w.Desired)},
		{"restarts", fmt.Sprint(w.Restarts)},
		{"model", output.Or(w.Model)},
		{"device", output.Or(w.Device)},
		{"url", output.OrDash(w.URL)},
		{"port", strings.Trim(fmt.Sprint(append([]uint16{w.Port}, others(w)...)), "[]")},
		{"pid", output.Or(w.PID)},
		{"lease", output.Or(w.LeaseID)},
		{"log", output.OrDash(w.Log)},
		{"started", output.Clock(w.StartedAt) + " (" + a.Age(w.StartedAt) + " ago)"},
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
	text := "exit status unknown"
	switch {
	case e.Signal != nil && *e.Signal != "":
		text = "by signal " + output.Clean(*e.Signal)
	case e.Code != nil:
		text = fmt.Sprintf("with code %d", *e.Code)
	}
	if e.OOM {
		text += ", out of memory"
	}
	return text + ", " + output.Clock(e.At)
}
