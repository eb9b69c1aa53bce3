package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"rbeehive/hive/reference"
	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// workerType is one of the configuration.
type workerType struct {
	name  string
	ports int
	flags string
	late  bool          // it does nothing for a while before it takes its port
	life  time.Duration // it ends by itself after so long; 0: it does not
}

// workerTypes are the reference worker with and without faults.
var workerTypes = []workerType{
	{name: "plain", ports: 1},
	{name: "late", ports: 1, late: true},
	{name: "slow", ports: 1, flags: "--load-time 300ms"},
	{name: "pair", ports: 2},
	{name: "brief", ports: 1, flags: "--exit-after 600ms --exit-code 3", life: 600 * time.Millisecond},
	{name: "unfinished", ports: 1, flags: "--load-time 1h --exit-after 200ms", life: 200 * time.Millisecond},
	{name: "broken", ports: 1, flags: "--exit-code 4", life: 1},
}

// entries are the types as entries of the configuration.
func entries() string {
	var list []string
	for _, s := range workerTypes {
		command := []string{}
		if s.late {
			command = append(command, "sh", "-c", `sleep 0.3; exec "$@"`, "sh")
		}
		command = append(command, "{{.Hive}}", "worker", "--port", "{{.Port}}", "--host", "{{.Host}}", "--model={{.Model}}", "--worker-id", "{{.WorkerID}}")
		quoted, _ := json.Marshal(append(command, strings.Fields(s.flags)...)) // strings: cannot fail
		list = append(list, fmt.Sprintf(`{name: %s, ports: %d, command: %s, ready: {path: /health}, stop: {grace: 5s}}`, s.name, s.ports, quoted))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// running is a worker that a job has said is there.
type running struct {
	wire.Spawned
	workerType
}

// names is how many worker names there are for all clients.
const names = 12

// spawn starts a worker and, when hive says that it is ready, asks it who it is.
func (c *client) spawn(ctx context.Context) {
	tag, s := c.tag(), workerTypes[c.rnd.IntN(len(workerTypes))]
	op := harness.Spawn(s.name)
	op["model"] = tag
	if c.oneIn(4) {
		op["name"] = fmt.Sprintf("name-%d", c.rnd.IntN(names))
	}
	if c.oneIn(5) {
		op["port"] = c.anyPort()
	}
	if c.oneIn(4) {
		op["wait"] = "started"
	}
	call := c.history.ask(tag)
	job, err := c.hive.Do(ctx, op)
	ret := c.history.now()
	switch {
	case err != nil:
		c.expected("spawn", err)
	case job.State == "succeeded":
		c.spawned(ctx, s, job, call, ret)
	default:
		c.failed(ctx, job, call, ret)
	}
}

func (c *client) spawned(ctx context.Context, s workerType, job wire.Job, call, ret moment) {
	r := &running{workerType: s}
	if err := json.Unmarshal(job.Result, &r.Spawned); err != nil || r.LeaseID == nil || r.PID == nil || len(r.Ports) != s.ports {
		c.tally.Violation("WRONG", "result of %s: %s", job.JobID, job.Result)
		return
	}
	c.tally.Add("spawned", 1)
	from := never
	switch {
	case r.Status != "ready":
		from = call // a stranger may have its port: then it ends by itself, or hive ends it
	case s.life > 0:
		from = call + moment(s.life)
	}
	c.record(*r.LeaseID, r.WorkerID+", "+r.Status, r.Ports, call, ret, from)
	if r.Status == "ready" {
		c.askWorker(ctx, r)
	}
	c.recordOthers(ctx, job.JobID, *r.LeaseID, call, ret)
	if s.life == 0 {
		c.held = append(c.held, &holding{lease: *r.LeaseID, ports: r.Ports, worker: r})
	}
}

// failures are the codes of failed spawns that strangers, other clients and the
// kill of hive lead to.
var failures = []string{
	"ports_exhausted", "port_unavailable", "name_in_use", "exited_early", "foreign_listener", "interrupted",
}

func (c *client) failed(ctx context.Context, job wire.Job, call, ret moment) {
	if job.Error == nil {
		c.tally.Violation("WRONG", "%s is %s without an error", job.JobID, job.State)
		return
	}
	c.tally.Add("spawns failed", 1)
	c.expected("spawn", &harness.Failed{Job: job}, failures...)
	c.recordOthers(ctx, job.JobID, "", call, ret)
}

// recordOthers records the leases that a job had and did not keep: a stranger took
// the port before the worker did, or the worker ended.
func (c *client) recordOthers(ctx context.Context, job, kept string, call, ret moment) {
	for i, l := range c.leasesOf(ctx, job) {
		if l.LeaseID != kept {
			c.record(l.LeaseID, job, l.Ports, call, ret, call)
		}
		if i > 0 {
			c.tally.Add("ports taken by strangers", 1) // hive tries another only after that
		}
	}
}

// given is the data of a port event.
type given struct {
	LeaseID string   `json:"lease_id"`
	Ports   []uint16 `json:"ports"`
}

// leasesOf reads from a job's events which leases it had.
func (c *client) leasesOf(ctx context.Context, job string) (list []given) {
	for event, err := range c.hive.Events(ctx, "/v1/jobs/"+job+"/events", "") {
		if err != nil {
			break // hive was killed; what was seen of the leases is known otherwise
		}
		var g given
		if event.Type == "port" && json.Unmarshal(event.Data, &g) == nil && g.LeaseID != "" {
			list = append(list, g)
		}
	}
	return list
}

// whoIs asks who answers at a worker's URL: the id in the header, and the body. It
// closes its connection first, so that TIME_WAIT is not on the worker's port.
func whoIs(ctx context.Context, url string) (worker, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/models", nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("User-Agent", "contention")
	t := &http.Transport{Proxy: nil}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.Header.Get(reference.WorkerHeader), string(raw), err
}

// askWorker asks a worker that hive calls ready who it is. It must be the process
// that hive has named: as long as that one lives nobody else can answer.
func (c *client) askWorker(ctx context.Context, r *running) {
	worker, body, err := whoIs(ctx, r.URL)
	alive := harness.IsWorker(*r.PID, r.WorkerID)
	switch {
	case ctx.Err() != nil:
	case err == nil && worker == r.WorkerID && (alive || r.life > 0):
		c.tally.Add("urls asked", 1)
	case r.life > 0:
		c.tally.Add("gone before it was asked", 1) // the port may be anybody's by now
	case err != nil:
		c.tally.Violation("WRONG", "%s (pid %d, alive: %v) is ready at %s, and there: %v; hive says: %s", r.WorkerID, *r.PID, alive, r.URL, err, c.reason(ctx, r.WorkerID))
	case worker == r.WorkerID:
		c.tally.Violation("WRONG", "%s answers at %s, and pid %d is not it", r.WorkerID, r.URL, *r.PID)
	default:
		c.tally.Violation("STRANGER", "%s (pid %d, alive: %v) is ready at %s, and there answers %q: %.80q", r.WorkerID, *r.PID, alive, r.URL, worker, body)
	}
}

func (c *client) useWorker(ctx context.Context, h *holding) bool {
	switch c.rnd.IntN(10) {
	case 0, 1, 2:
		if h.worker.Status == "ready" {
			c.askWorker(ctx, h.worker)
		}
		return true
	case 3, 4, 5:
		c.killWorker(ctx, h)
		return false
	}
	c.stop(ctx, h)
	return false
}

// killWorker is kill -9, of a process that was verified after it was opened.
func (c *client) killWorker(ctx context.Context, h *holding) {
	p, err := os.FindProcess(*h.worker.PID)
	if err != nil {
		return
	}
	defer func() { _ = p.Release() }()
	if !harness.IsWorker(*h.worker.PID, h.worker.WorkerID) {
		c.gone(ctx, h, "it is no longer there to be killed")
		return
	}
	c.history.mayEnd(h.lease, c.history.now())
	_ = p.Kill()
	c.tally.Add("killed", 1)
}

// stop stops a worker by its id or its PID, and observes its ports.
func (c *client) stop(ctx context.Context, h *holding) {
	op := harness.Stop(h.worker.WorkerID)
	if c.oneIn(3) {
		op = harness.Op{"operation": "worker_process_delete", "pid": *h.worker.PID}
	}
	ended := c.history.endsFrom(h.lease) != never
	c.history.mayEnd(h.lease, c.history.now())
	job, err := c.hive.Do(ctx, op)
	switch {
	case err != nil:
		c.expected("stop", err)
		return
	case job.State == "succeeded":
		c.tally.Add("stopped", 1)
	case job.Error != nil && job.Error.Code == "not_found" && !ended:
		c.gone(ctx, h, job.Error.Message)
	case job.Error != nil && job.Error.Code == "not_found":
		c.tally.Add("not_found", 1)
	default:
		c.tally.Violation("WRONG", "stop of %s: job %s is %s: %+v", h.worker.WorkerID, job.JobID, job.State, job.Error)
	}
	if harness.IsWorker(*h.worker.PID, h.worker.WorkerID) {
		c.tally.Violation("LEAK", "pid %d of %s lives on after its stop", *h.worker.PID, h.worker.WorkerID)
	}
	for _, port := range h.ports {
		c.observePort(ctx, port)
	}
}

// gone is a worker that was ready and that nobody has ended.
func (c *client) gone(ctx context.Context, h *holding, why string) {
	if h.worker.Status == "ready" {
		c.tally.Violation("LOST", "%s was ready, and nobody has ended it: %s; hive says: %s", h.worker.WorkerID, why, c.reason(ctx, h.worker.WorkerID))
		return
	}
	c.tally.Add("gone before it was ready", 1)
}

// reason is what hive says of a worker.
func (r *run) reason(ctx context.Context, id string) string {
	var rec wire.Worker
	if err := r.call(ctx, http.MethodGet, "/v1/workers/"+id, nil, &rec); err != nil {
		return err.Error()
	}
	if rec.Reason == nil {
		return rec.State
	}
	return rec.State + ", " + *rec.Reason
}
