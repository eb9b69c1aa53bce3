package salvage

import (
	"encoding/json"
	"fmt"
	"slices"

	"rbeehive/store"
)

// names keeps which worker name had which port; those who live say best.
func (d *decision) names() {
	ports := map[string]uint16{}
	for _, n := range records(d.known.file.Names, d.known.backup.Names, d.known.file.Whole["names"]) {
		if _, known := ports[n.Name]; !known {
			ports[n.Name] = n.Port
		}
	}
	for _, w := range d.content.Workers {
		if w.Name != "" && !w.State.Ended() {
			ports[w.Name] = w.Port
		}
	}
	for name, port := range ports {
		d.content.Names = append(d.content.Names, store.NamedPort{Name: name, Port: port})
	}
}

// interrupted is why a job that had not ended is given up.
const interrupted = "the state file was damaged and salvaged before it had ended"

// jobs keeps the latest that is known of each job, and ends those that have not.
func (d *decision) jobs() {
	jobs := map[string]store.Job{}
	var order []string
	for _, j := range records(d.known.file.Jobs, d.known.backup.Jobs, d.known.file.Whole["jobs"]) {
		old, known := jobs[j.JobID]
		if !known {
			order = append(order, j.JobID)
		}
		// A job only moves forward, so this is the newer record.
		if !known || stage(j) > stage(old) {
			jobs[j.JobID] = j
		}
	}
	slices.Sort(order)
	for _, id := range order {
		j := jobs[id]
		if !j.State.Ended() {
			d.interrupt(&j)
		}
		d.content.Jobs = append(d.content.Jobs, j)
	}
	kept := map[string]bool{}
	for _, k := range records(d.known.file.Keys, d.known.backup.Keys, d.known.file.Whole["keys"]) {
		// A key needs its job: it would answer a new request with nothing.
		if j, ok := jobs[k.JobID]; ok && j.Key == k.Key && !kept[k.Key] {
			kept[k.Key] = true
			d.content.Keys = append(d.content.Keys, k)
		}
	}
}

// stage says how far a job was when the record was written.
func stage(j store.Job) int {
	switch {
	case j.State.Ended():
		return 2
	case j.State == store.JobRunning:
		return 1
	}
	return 0
}

func (d *decision) interrupt(j *store.Job) {
	j.State, j.FinishedAt = store.JobFailed, &d.now
	j.Error = &store.JobError{Code: "interrupted", Message: interrupted, Log: []string{}}
	if j.StartedAt == nil {
		j.StartedAt = &d.now
	}
	// Followers of the job wait for its end event.
	d.event(store.Event{
		JobID: j.JobID, WorkerID: j.WorkerID, Type: store.EventEnd,
		Message: fmt.Sprintf("%s failed: interrupted: %s", j.Operation, interrupted),
	}, map[string]any{"state": j.State, "error": j.Error})
}

// event appends an event of the salvage itself.
func (d *decision) event(ev store.Event, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		raw = nil // data is made of strings and structs; they always encode
	}
	d.content.Sequence++
	ev.Seq, ev.At, ev.Data = d.content.Sequence, d.now, raw
	d.content.Events = append(d.content.Events, ev)
}

// events keeps every event that was found: they never change.
func (d *decision) events() {
	for _, k := range d.living {
		d.event(store.Event{WorkerID: k.WorkerID, Type: store.EventAudit, Message: k.WorkerID + " was salvaged: its record is from " + k.From},
			map[string]any{"pid": k.PID, "port": k.Port})
	}
	d.event(store.Event{Type: store.EventAudit, Message: d.lastWords()}, map[string]any{"living": len(d.living), "failed": len(d.failed)})
	// The same event can be on several pages, old and new.
	seen := map[uint64]bool{}
	for _, ev := range records(d.known.file.Events, d.known.backup.Events, d.known.file.Whole["events"]) {
		if !seen[ev.Seq] {
			seen[ev.Seq] = true
			d.content.Events = append(d.content.Events, ev)
		}
	}
}

// losses says in words what the new file does not have.
func (d *decision) losses() {
	file := d.known.file
	bare := 0
	for _, k := range d.living {
		if k.From == "its processes" {
			bare++
		}
	}
	if bare > 0 {
		d.lost = append(d.lost, fmt.Sprintf("parameters, readiness probe and restart policy of %s, known only from their processes; the name, if these don't have it in their environment", counted(bare, "worker", "workers")))
	}
	for _, b := range []struct{ bucket, what string }{
		{"jobs", "jobs"}, {"events", "events"}, {"names", "ports of names"}, {"leases", "leases of programs that hive did not start"},
	} {
		if !file.Whole[b.bucket] {
			d.lost = append(d.lost, fmt.Sprintf("%s that were on damaged pages and are not in the backup; what ended or was released since may reappear", b.what))
		}
	}
	if n := d.interruptedJobs(); n > 0 {
		d.lost = append(d.lost, fmt.Sprintf("%s not ended: failed, interrupted", counted(n, "job that had", "jobs that had")))
	}
}

func (d *decision) interruptedJobs() (n int) {
	for _, j := range d.content.Jobs {
		if j.Error != nil && j.Error.Message == interrupted && j.FinishedAt.Equal(d.now) {
			n++
		}
	}
	return n
}
