package command

import (
	"fmt"
	"time"

	"rbeehive/httpapi/wire"
)

// title is a worker's id, with its name if it has one.
func title(w wire.Worker) string {
	if w.Name == nil || *w.Name == "" {
		return w.WorkerID
	}
	return w.WorkerID + " (" + *w.Name + ")"
}

// requesterName says who has asked for something; a dash if that is not known.
func requesterName(r *wire.Requester) string {
	if r == nil {
		return "-"
	}
	return orDash(r.Name)
}

// eventLine is one event for a person. Local time: it is read next to a clock.
func eventLine(e wire.Event) string {
	return clean(fmt.Sprintf("%s  %-8s  %s", time.Time(e.At).Local().Format("15:04:05.000"), e.Type, e.Message))
}
