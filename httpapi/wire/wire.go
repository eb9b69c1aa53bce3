// Package wire holds the JSON shapes of the API, shared by the server and the
// client. Times are RFC 3339 UTC with milliseconds; absent is null, never left
// out; arrays are never null.
package wire

import (
	"encoding/json"
	"time"
)

// Time is a time in the API's form: RFC 3339, UTC, milliseconds.
type Time time.Time

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(b []byte) error {
	return (*time.Time)(t).UnmarshalJSON(b)
}

// Submitted is the answer to POST /v1/jobs.
type Submitted struct {
	JobID     string `json:"job_id"`
	SSEURL    string `json:"sse_url"`
	State     string `json:"state"`
	Operation string `json:"operation"`
}

// Cancelled is the answer to DELETE /v1/jobs/{id}.
type Cancelled struct {
	JobID  string `json:"job_id"`
	Status string `json:"status"`
}

// Job is one submitted operation.
type Job struct {
	JobID      string          `json:"job_id"`
	Operation  string          `json:"operation"`
	State      string          `json:"state"`
	Request    json.RawMessage `json:"request"`
	Result     json.RawMessage `json:"result"`
	Error      *JobError       `json:"error"`
	CreatedAt  Time            `json:"created_at"`
	StartedAt  *Time           `json:"started_at"`
	FinishedAt *Time           `json:"finished_at"`
}

// JobError is why a job failed.
type JobError struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Log     []string `json:"log"`
}

// Jobs is a page of jobs, newest first.
type Jobs struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next"`
}

// Event is the data of one server-sent event; its id is Seq, its event field the type.
type Event struct {
	Seq      uint64          `json:"seq"`
	At       Time            `json:"at"`
	Type     string          `json:"type"`
	JobID    *string         `json:"job_id"`
	WorkerID *string         `json:"worker_id"`
	Message  string          `json:"message"`
	Data     json.RawMessage `json:"data"`
}

// Events is a page of a worker's events, oldest first. Next is the seq to pass
// as ?after= for more, empty when there is none.
type Events struct {
	Events []Event `json:"events"`
	Next   string  `json:"next"`
}

// Spawned is the result of worker_spawn. Status is "ready" or "starting".
type Spawned struct {
	WorkerID string   `json:"worker_id"`
	Name     *string  `json:"name"`
	Port     uint16   `json:"port"`
	Ports    []uint16 `json:"ports"`
	PID      *int     `json:"pid"`
	URL      string   `json:"url"`
	LeaseID  *string  `json:"lease_id"`
	Status   string   `json:"status"`
}

// Exit is how a worker's process ended; code and signal null: unknown.
type Exit struct {
	Code   *int    `json:"code"`
	Signal *string `json:"signal"`
	OOM    bool    `json:"oom"`
	At     Time    `json:"at"`
}

// Worker is a process the hive started.
type Worker struct {
	WorkerID  string   `json:"worker_id"`
	Name      *string  `json:"name"`
	Type      string   `json:"type"`
	Model     *string  `json:"model"`
	Device    *string  `json:"device"`
	Port      uint16   `json:"port"`
	Ports     []uint16 `json:"ports"`
	PID       *int     `json:"pid"`
	URL       string   `json:"url"`
	State     string   `json:"state"`
	Reason    *string  `json:"reason"`
	Stale     bool     `json:"stale"`
	Desired   string   `json:"desired"`
	Restarts  int      `json:"restarts"`
	Exit      *Exit    `json:"exit"`
	LeaseID   *string  `json:"lease_id"`
	Log       string   `json:"log"`
	StartedAt Time     `json:"started_at"`
	ReadyAt   *Time    `json:"ready_at"`
}

// Workers is a page of workers, by port.
type Workers struct {
	Workers []Worker `json:"workers"`
	Next    string   `json:"next"`
}

// Lease is the right to a port. A lease of several ports is listed once for each;
// Ports has all of them. Reason says why it is quarantined or unverified.
type Lease struct {
	Port       uint16   `json:"port"`
	Ports      []uint16 `json:"ports"`
	LeaseID    string   `json:"lease_id"`
	Kind       string   `json:"kind"`
	WorkerID   *string  `json:"worker_id"`
	Owner      *string  `json:"owner"`
	PID        *int     `json:"pid"`
	State      string   `json:"state"`
	Reason     *string  `json:"reason"`
	TTLMS      *int64   `json:"ttl_ms"`
	AcquiredAt Time     `json:"acquired_at"`
	ExpiresAt  *Time    `json:"expires_at"`
}

// AcquireLease is the body of POST /v1/leases: PID, or TTL as a duration with a
// unit. What is left out is not sent.
type AcquireLease struct {
	PID       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"start_time,omitempty"`
	TTL       string `json:"ttl,omitempty"`
	Port      uint16 `json:"port,omitempty"`
	Ports     int    `json:"ports,omitempty"`
	Owner     string `json:"owner,omitempty"`
}

// RenewLease is the body of PUT /v1/leases/{port}.
type RenewLease struct {
	LeaseID   string `json:"lease_id"`
	PID       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"start_time,omitempty"`
	TTL       string `json:"ttl,omitempty"`
}

// Released is the answer to DELETE /v1/leases/{port}. Status is "released", or
// "quarantined" where somebody still listens on one of the ports.
type Released struct {
	Port    uint16 `json:"port"`
	LeaseID string `json:"lease_id"`
	Status  string `json:"status"`
}

// Leases is a page of leases, by port.
type Leases struct {
	Leases []Lease `json:"leases"`
	Next   string  `json:"next"`
}

// Ports is the port range; the counts sum to Total.
type Ports struct {
	Range       string   `json:"range"`
	Total       int      `json:"total"`
	Free        int      `json:"free"`
	Leased      int      `json:"leased"`
	Quarantined int      `json:"quarantined"`
	Reserved    int      `json:"reserved"`
	Foreign     int      `json:"foreign"`
	Draining    int      `json:"draining"`
	Holders     []Holder `json:"holders"`
}

// Holder is who has a port of the range.
type Holder struct {
	Port    uint16  `json:"port"`
	Kind    string  `json:"kind"`
	PID     *int    `json:"pid"`
	Program *string `json:"program"`
	User    *string `json:"user"`
	Since   *Time   `json:"since"`
}

// Hive describes the daemon.
type Hive struct {
	HiveID    string   `json:"hive_id"`
	Version   string   `json:"version"`
	StateID   string   `json:"state_id"`
	StartedAt Time     `json:"started_at"`
	Recovery  Recovery `json:"recovery"`
}

// Recovery is what the last recovery did.
type Recovery struct {
	TookMS     int64 `json:"took_ms"`
	Adopted    int   `json:"adopted"`
	Freed      int   `json:"freed"`
	Restarted  int   `json:"restarted"`
	Unverified int   `json:"unverified"`
	Orphans    *int  `json:"orphans"`
}

// Doctor is what the hive finds when it looks at itself and at the place it runs in.
type Doctor struct {
	Checks []Checkup `json:"checks"`
	Care   int       `json:"care"` // how many of them have the status "care"
}

// Checkup is one thing that was looked at. Status is "ok", "care" or "unknown";
// Means and Do are null when it is ok.
type Checkup struct {
	Name   string  `json:"name"`
	Status string  `json:"status"`
	Found  string  `json:"found"`
	Means  *string `json:"means"`
	Do     *string `json:"do"`
}

// Audit is what an audit has found; At is null as long as none has run.
type Audit struct {
	At       *Time     `json:"at"`
	TookMS   int64     `json:"took_ms"`
	Runs     int       `json:"runs"`
	Findings []Finding `json:"findings"`
}

// Finding is something that records, processes and listeners disagree about.
// Sightings is how many audits in a row have seen it.
type Finding struct {
	Code      string  `json:"code"`
	Port      *uint16 `json:"port"`
	WorkerID  *string `json:"worker_id"`
	LeaseID   *string `json:"lease_id"`
	PID       *int    `json:"pid"`
	Program   *string `json:"program"`
	Message   string  `json:"message"`
	Since     Time    `json:"since"`
	Sightings int     `json:"sightings"`
}

// Plan is what a reload changes, or with DryRun would change. Applied and
// NeedStart are settings, as keys of the file; the second wait for the next start
// of hive.
type Plan struct {
	DryRun    bool           `json:"dry_run"`
	Types     []TypeChange   `json:"types"`
	Workers   []WorkerChange `json:"workers"`
	Autostart []string       `json:"autostart"`
	Applied   []string       `json:"applied"`
	NeedStart []string       `json:"need_start"`
}

// TypeChange is a worker type that is not as it was. Change is "added", "removed"
// or "changed"; Keys are those of its entry.
type TypeChange struct {
	Name   string   `json:"name"`
	Change string   `json:"change"`
	Keys   []string `json:"keys"`
}

// WorkerChange is a worker that a reload concerns. Action is "stale", "restart"
// (stale, and restarted) or "current" (not stale any more).
type WorkerChange struct {
	WorkerID string  `json:"worker_id"`
	Name     *string `json:"name"`
	Type     string  `json:"type"`
	Port     uint16  `json:"port"`
	Action   string  `json:"action"`
	Reason   string  `json:"reason"`
}

// Problem is an error (RFC 9457, application/problem+json).
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
}
