package cli

import (
	"fmt"
	"time"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

// Title is a worker's id, with its name if it has one.
func Title(w wire.Worker) string {
	if w.Name == nil || *w.Name == "" {
		return w.WorkerID
	}
	return w.WorkerID + " (" + *w.Name + ")"
}

// RequesterName says who requested something; a dash if that is not known.
func RequesterName(r *wire.Requester) string {
	if r == nil {
		return "-"
	}
	return output.OrDash(r.Name)
}

// EventLine is one event for a person. Local time: it is read next to a clock.
func EventLine(e wire.Event) string {
	return output.Clean(fmt.Sprintf("%s  %-8s  %s", time.Time(e.At).Local().Format("15:04:05.000"), e.Type, e.Message))
}
