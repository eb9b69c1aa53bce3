package inspect

import (
	"fmt"
	"slices"
	"time"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/wire"
)

// issue is one thing that is wrong, and what to do about it.
type issue struct {
	Kind    string `json:"kind"`    // worker, wanted, lease, audit or doctor
	Subject string `json:"subject"` // an id, a port, the code of a finding, the name of a check
	Message string `json:"message"`
	Do      string `json:"do"`
}

// issueKinds are the kinds, in the order they are shown, and what shows all of one.
var issueKinds = []struct{ name, all string }{
	{"worker", "hivectl workers list"}, {"wanted", "hivectl ps"}, {"lease", "hivectl leases list"}, {"audit", "hivectl audit"}, {"doctor", "hivectl doctor"},
}

// issues collects what is wrong. What two sources report is listed once.
func (s *survey) issues() []issue {
	var issues []issue
	for _, w := range s.workers.Value.Workers {
		// One that failed and was replaced stays in the list for a while, but nobody need do anything.
		if do := workerHint(w); do != "" && s.concerns(w) && !superseded(w, s.workers.Value.Workers) {
			issues = append(issues, issue{"worker", cli.Title(w), withReason(w.State, w.Reason) + restarted(w), do})
		}
	}
	for _, v := range s.workers.Value.Wanted {
		if v.State != "backoff" && v.State != "failed" {
			continue // it is on its way
		}
		do := "hivectl up " + v.Name + ", or hivectl reload once it is mended"
		if v.State == "backoff" {
			do = "nothing if it passes: hive tries again; hivectl reload tries at once"
		}
		issues = append(issues, issue{"wanted", v.Name, withReason(v.State, v.Reason), do})
	}
	for _, l := range s.leases.Value.Leases {
		switch {
		case l.State == "quarantined":
			issues = append(issues, issue{"lease", fmt.Sprintf("port %d", l.Port), withReason(l.State, l.Reason), "hivectl audit --repair, which frees the port once nothing uses it"})
		case l.State == "unverified" && l.WorkerID == nil: // a worker's is listed with the worker
			issues = append(issues, issue{"lease", fmt.Sprintf("port %d", l.Port), withReason(l.State, l.Reason), fmt.Sprintf("hivectl leases get %d; hivectl doctor", l.Port)})
		}
	}
	// The audit finds those again that were listed with the leases and the workers.
	members, unleased := false, false
	for _, f := range s.audit.Value.Findings {
		if f.Code == "quarantined" || f.Code == "unverified" {
			continue
		}
		members = members || f.Code == "member_without_record"
		unleased = unleased || f.Code == "unleased_port"
		do := findingHints[f.Code]
		if do == "" {
			do = "hivectl audit"
		}
		issues = append(issues, issue{"audit", f.Code, f.Message, do})
	}
	for _, c := range s.doctor.Value.Checks {
		// doctor counts what the lists above name one by one.
		reported := c.Name == "wanted" || c.Name == "quarantined" || c.Name == "unverified" || c.Name == "members" && members || c.Name == "unleased" && unleased
		if c.Status != "warning" || reported {
			continue
		}
		do := "hivectl doctor"
		if c.Do != nil {
			do = *c.Do
		}
		issues = append(issues, issue{"doctor", c.Name, c.Found, do})
	}
	return issues
}

// concerns reports whether a worker is one that somebody still wants. One that failed before
// it had ever served is history, unless hive is to keep it running: who asked for it was told.
func (s *survey) concerns(w wire.Worker) bool {
	return w.State != "failed" || w.ReadyAt != nil || w.Restarts > 0 ||
		slices.ContainsFunc(s.types.Value.Types, func(t wire.TypeSummary) bool { return t.Name == w.Type && t.Autostart })
}

// workerHint is what to do about a worker; empty: nothing.
func workerHint(w wire.Worker) string {
	switch w.State {
	case "unhealthy":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hivectl restart %[1]s", w.WorkerID)
	case "backoff":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hive retries by itself; hivectl restart %[1]s retries now", w.WorkerID)
	case "failed":
		return fmt.Sprintf("hivectl logs --tail 20 %s; hivectl restart %[1]s", w.WorkerID)
	case "unverified":
		return fmt.Sprintf("hivectl doctor shows why hive cannot verify it; hivectl describe %s", w.WorkerID)
	}
	return ""
}

// superseded reports whether a worker that failed has been replaced: a later one has its
// name, or its port.
func superseded(w wire.Worker, all []wire.Worker) bool {
	return w.State == "failed" && slices.ContainsFunc(all, func(o wire.Worker) bool {
		named := w.Name != nil && o.Name != nil && *w.Name == *o.Name
		return o.WorkerID != w.WorkerID && (named || o.Port == w.Port) && time.Time(o.StartedAt).After(time.Time(w.StartedAt))
	})
}

// restarted says how often a worker was restarted: the reason of one that ends again and
// again is the same each time.
func restarted(w wire.Worker) string {
	switch w.Restarts {
	case 0:
		return ""
	case 1:
		return " (1 restart)"
	}
	return fmt.Sprintf(" (%d restarts)", w.Restarts)
}

func withReason(state string, reason *string) string {
	if reason == nil || *reason == "" {
		return state
	}
	return state + ": " + *reason
}
