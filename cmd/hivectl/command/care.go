package command

import (
	"fmt"
	"slices"
	"time"

	"rbeehive/httpapi/wire"
)

// careFor is one thing that needs care, and what to do about it.
type careFor struct {
	Kind    string `json:"kind"`    // worker, lease, audit or doctor
	Subject string `json:"subject"` // an id, a port, the code of a finding, the name of a check
	Message string `json:"message"`
	Do      string `json:"do"`
}

// careKinds are the kinds, in the order they are shown, and what shows all of one.
var careKinds = []struct{ name, all string }{
	{"worker", "hivectl workers list"}, {"lease", "hivectl leases list"}, {"audit", "hivectl audit"}, {"doctor", "hivectl doctor"},
}

// cares collects what needs care. What two sources say of the same thing is said once.
func (s *survey) cares() []careFor {
	var cares []careFor
	for _, w := range s.workers.Value.Workers {
		if do := workerCare(w); do != "" && !succeeded(w, s.workers.Value.Workers) {
			cares = append(cares, careFor{"worker", title(w), becauseOf(w.State, w.Reason), do})
		}
	}
	for _, l := range s.leases.Value.Leases {
		switch {
		case l.State == "quarantined":
			cares = append(cares, careFor{"lease", fmt.Sprintf("port %d", l.Port), becauseOf(l.State, l.Reason), "hivectl audit --repair, which frees the port if nobody is on it any more"})
		case l.State == "unverified" && l.WorkerID == nil: // a worker's is said with the worker
			cares = append(cares, careFor{"lease", fmt.Sprintf("port %d", l.Port), becauseOf(l.State, l.Reason), fmt.Sprintf("hivectl leases get %d; hivectl doctor", l.Port)})
		}
	}
	members := false
	for _, f := range s.audit.Value.Findings {
		if f.Code == "quarantined" || f.Code == "unverified" {
			continue
		}
		members = members || f.Code == "member_without_record"
		do := findingHints[f.Code]
		if do == "" {
			do = "hivectl audit"
		}
		cares = append(cares, careFor{"audit", f.Code, f.Message, do})
	}
	for _, c := range s.doctor.Value.Checks {
		said := c.Name == "quarantined" || c.Name == "unverified" || c.Name == "members" && members
		if c.Status != "care" || said {
			continue
		}
		do := "hivectl doctor"
		if c.Do != nil {
			do = *c.Do
		}
		cares = append(cares, careFor{"doctor", c.Name, c.Found, do})
	}
	return cares
}

// workerCare is what to do about a worker; empty: it needs no care.
func workerCare(w wire.Worker) string {
	switch w.State {
	case "unhealthy":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hivectl restart %[1]s", w.WorkerID)
	case "backoff":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hive tries again by itself, hivectl restart %[1]s at once", w.WorkerID)
	case "failed":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hivectl restart %[1]s", w.WorkerID)
	case "unverified":
		return fmt.Sprintf("hivectl doctor says what keeps hive from seeing; hivectl describe %s", w.WorkerID)
	}
	return ""
}

// succeeded reports whether somebody has seen to a worker that failed: a later one
// has its name, or its port.
func succeeded(w wire.Worker, all []wire.Worker) bool {
	return w.State == "failed" && slices.ContainsFunc(all, func(o wire.Worker) bool {
		named := w.Name != nil && o.Name != nil && *w.Name == *o.Name
		return o.WorkerID != w.WorkerID && (named || o.Port == w.Port) && time.Time(o.StartedAt).After(time.Time(w.StartedAt))
	})
}

func becauseOf(state string, reason *string) string {
	if reason == nil || *reason == "" {
		return state
	}
	return state + ": " + *reason
}
