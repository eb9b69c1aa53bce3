package store

import (
	"encoding/json"
	"time"
)

// Identity is what proves that a process is the same one that was recorded. A PID alone
// proves nothing: it is reused after pid_max forks.
type Identity struct {
	// BootID is /proc/sys/kernel/random/boot_id when the process was recorded.
	BootID string `json:"boot_id"`
	// PID is the process id in PIDNamespace.
	PID int `json:"pid"`
	// StartTicks is field 22 of /proc/<pid>/stat: clock ticks since boot (proc_pid_stat(5)).
	StartTicks uint64 `json:"start_ticks"`
	// PidfdInode is the inode of the process's pidfd, unique for a boot where
	// pidfds have their own file system (PID_FS_MAGIC, kernel >= 6.9); else 0.
	PidfdInode uint64 `json:"pidfd_inode"`
	// PIDNamespace is the inode of /proc/self/ns/pid of the daemon that recorded it.
	PIDNamespace uint64 `json:"pid_namespace"`
}

// Requester is who has asked for something: hive itself, a token, or a user.
type Requester struct {
	Hive  bool    `json:"hive,omitempty"`
	Token string  `json:"token,omitempty"` // its name
	UID   *uint32 `json:"uid,omitempty"`
	User  string  `json:"user,omitempty"` // the name of UID then
	PID   int     `json:"pid,omitempty"`  // of the process that asked; 0: not known
}

// LeaseKind says what keeps a lease alive.
type LeaseKind string

// The kinds of lease.
const (
	LeaseWorker  LeaseKind = "worker"  // a process hive started
	LeaseProcess LeaseKind = "process" // a process hive did not start
	LeaseTTL     LeaseKind = "ttl"     // renewals by its holder
)

// LeaseState is the state of a lease.
type LeaseState string

// The states of a lease.
const (
	LeaseHeld        LeaseState = "held"
	LeaseReleasing   LeaseState = "releasing"
	LeaseQuarantined LeaseState = "quarantined" // its holder is gone, but something may still be reached on the port
	LeaseUnverified  LeaseState = "unverified"  // recovery could not verify the holder
)

// Lease is the right to one port, or to several in a row. A port has at most one
// lease. A lease of several ports has a record under each of them, which differ
// in Port only and are written and ended together.
type Lease struct {
	Port uint16 `json:"port"`
	// Ports is all ports of the lease, ascending; nil: Port alone. See All.
	Ports    []uint16  `json:"ports,omitempty"`
	LeaseID  string    `json:"lease_id"`
	Kind     LeaseKind `json:"kind"`
	WorkerID string    `json:"worker_id,omitempty"`
	Owner    string    `json:"owner,omitempty"`
	// Requester is who has acquired it, and may end it; nil: a worker's, or of an
	// older hive.
	Requester *Requester `json:"requester,omitempty"`
	// Identity is the holder; nil for a ttl lease and for a quarantined one,
	// which then have no PID mapping either.
	Identity *Identity `json:"identity,omitempty"`
	// Cgroup is the holder's cgroup v2 path, relative to the mount; empty where there is none.
	Cgroup string `json:"cgroup,omitempty"`
	// StampUID is Worker.StampUID of a worker's lease.
	StampUID *uint32    `json:"stamp_uid,omitempty"`
	State    LeaseState `json:"state"`
	Reason   string     `json:"reason,omitempty"` // why it is quarantined or unverified, for a person
	// TTL is how long a ttl lease lives after each renewal. When it runs out is not
	// recorded: a start gives every ttl lease its whole time again.
	TTL        time.Duration `json:"ttl_ns,omitempty"`
	AcquiredAt time.Time     `json:"acquired_at"`
}

// All returns the ports of the lease, ascending. The caller must not change them.
func (l Lease) All() []uint16 {
	if len(l.Ports) == 0 {
		return []uint16{l.Port}
	}
	return l.Ports
}

// Tombstone is what remains of an ended lease, for seven days if there are not too many: with it a
// left-over process can be told from one of a living lease.
type Tombstone struct {
	Lease   Lease     `json:"lease"`
	EndedAt time.Time `json:"ended_at"`
}

// WorkerState is the recorded state of a worker. The API shows spawning and
// running as "starting".
type WorkerState string

// The states of a worker's record.
const (
	WorkerSpawning   WorkerState = "spawning"   // recorded; its gate may not have opened
	WorkerRunning    WorkerState = "running"    // the program was executed
	WorkerLoading    WorkerState = "loading"    // it listens, its probe does not succeed yet
	WorkerReady      WorkerState = "ready"      // it listens and its probe succeeds
	WorkerUnhealthy  WorkerState = "unhealthy"  // it was ready, and is not now
	WorkerStopping   WorkerState = "stopping"   // being stopped
	WorkerStopped    WorkerState = "stopped"    // ended on request
	WorkerFailed     WorkerState = "failed"     // ended by itself, or could not be started
	WorkerBackoff    WorkerState = "backoff"    // ended by itself; it is restarted at NextTry
	WorkerUnverified WorkerState = "unverified" // recovery could not verify its process
)

// Ended reports whether a worker in this state has no process and no lease.
func (s WorkerState) Ended() bool { return s == WorkerStopped || s == WorkerFailed }

// Desired is what the last request wanted of a worker.
type Desired string

// What can be wanted of a worker.
const (
	DesiredRunning Desired = "running"
	DesiredStopped Desired = "stopped"
)

// Exit is how a process ended. With neither Code nor Signal the exit is unknown.
type Exit struct {
	Code   *int      `json:"code"`
	Signal string    `json:"signal"` // "SIGKILL", or empty
	OOM    bool      `json:"oom"`
	At     time.Time `json:"at"`
}

// Ready is how a worker's readiness is decided.
type Ready struct {
	Path    string        `json:"path"`       // HTTP path to probe; empty: listening is enough
	Status  int           `json:"status"`     // expected HTTP status
	Stall   time.Duration `json:"stall_ns"`   // longest time without progress; 0: no limit
	Timeout time.Duration `json:"timeout_ns"` // longest time in all; 0: no limit
	// TLS is whether it is spoken to by TLS, by probes and by its clients: its scheme is https.
	TLS bool `json:"tls,omitempty"`
	// AnyListener takes whoever listens on the port for the worker: a container
	// runtime listens for its clients.
	AnyListener bool `json:"any_listener,omitempty"`
}

// Stop is how a worker is stopped.
type Stop struct {
	// Command is run instead of the signals, and may take Grace; empty: none.
	Command []string      `json:"command,omitempty"`
	Signals []string      `json:"signals"`  // sent in turn, each with Grace; then SIGKILL
	Grace   time.Duration `json:"grace_ns"` // how long to wait after each signal
	Tree    bool          `json:"tree"`     // signal the whole tree instead of the main process
}

// Live is how a worker that is ready is watched. Interval 0: by its exit only.
type Live struct {
	Path     string        `json:"path"` // HTTP path to probe; empty: listening is enough
	Interval time.Duration `json:"interval_ns"`
	Timeout  time.Duration `json:"timeout_ns,omitempty"` // of one probe, at most Interval; 0: see AnswerTimeout
	Failures int           `json:"failures"`             // in a row, before anything is done
	Restart  bool          `json:"restart"`              // restart it; else it is only shown as unhealthy
}

// AnswerTimeout is how long one probe waits for its answer. Where Timeout does not say it,
// as in the record of an older hive, that is 5 s, or Interval if that is shorter.
func (l Live) AnswerTimeout() time.Duration {
	if l.Timeout > 0 {
		return l.Timeout
	}
	return min(5*time.Second, l.Interval)
}

// RestartPolicy says when a worker that ends by itself is restarted.
type RestartPolicy string

// The restart policies.
const (
	RestartNever     RestartPolicy = "never"
	RestartOnFailure RestartPolicy = "on-failure" // unless it exits with 0 after it was ready
	RestartAlways    RestartPolicy = "always"
)

// Restart is how a worker that ends by itself is restarted: at most Max times within
// Window, after waits that double from Backoff to MaxBackoff.
type Restart struct {
	Policy     RestartPolicy `json:"policy"`
	Max        int           `json:"max"`
	Window     time.Duration `json:"window_ns"`
	Backoff    time.Duration `json:"backoff_ns"`
	MaxBackoff time.Duration `json:"max_backoff_ns"`
}

// Asked is what the request that started a worker said, to restart it from the
// configuration as it is then.
type Asked struct {
	Model  string            `json:"model,omitempty"`
	Device string            `json:"device,omitempty"`
	Params map[string]string `json:"params,omitempty"`
	Port   uint16            `json:"port,omitempty"` // the port that the request, or else the entry, fixed
}

// Spec is what a worker was started as: all that is needed to follow and stop
// it after a restart of hive. Values of environment variables are never in it.
type Spec struct {
	Argv []string `json:"argv"` // Argv[0] is the program's absolute path
	Dir  string   `json:"dir,omitempty"`
	Host string   `json:"host"`
	// BasePath is the path below which it serves, as in /comfy: a part of its URL.
	BasePath string            `json:"base_path,omitempty"`
	Model    string            `json:"model,omitempty"`
	Device   string            `json:"device,omitempty"`
	Params   map[string]string `json:"params,omitempty"`
	User     string            `json:"user,omitempty"` // user that it runs as; empty: hive's
	// NoNewPrivs is whether it runs with no_new_privs; nil: if its user is neither
	// hive's nor root.
	NoNewPrivs *bool `json:"no_new_privs,omitempty"`
	Ready      Ready `json:"ready"`
	Live       Live  `json:"live"`
	Stop       Stop  `json:"stop"`
	// Restart is what hive does when it ends by itself. The zero value: nothing.
	Restart Restart `json:"restart"`
}

// Worker is the record of a process hive started.
type Worker struct {
	WorkerID string    `json:"worker_id"` // <type>-<port>-<6>, never used again
	Name     string    `json:"name,omitempty"`
	Type     string    `json:"type"`
	Asked    Asked     `json:"asked"`
	Spec     Spec      `json:"spec"`
	Port     uint16    `json:"port"`
	Ports    []uint16  `json:"ports"`
	LeaseID  string    `json:"lease_id"`
	Identity *Identity `json:"identity,omitempty"`
	Cgroup   string    `json:"cgroup,omitempty"`
	// StampUID is the user as whom it was started, for whom its stamps were proven
	// with the Secret of the state; nil: by a hive that did not prove stamps yet.
	StampUID *uint32     `json:"stamp_uid,omitempty"`
	State    WorkerState `json:"state"`
	Desired  Desired     `json:"desired"`
	Reason   string      `json:"reason,omitempty"` // why it is in this state, for a person
	Restarts int         `json:"restarts"`         // how often it was restarted
	// Failures are the times of its latest ends by itself, oldest first, as many as its
	// restart policy counts.
	Failures []time.Time `json:"failures,omitempty"`
	NextTry  *time.Time  `json:"next_try,omitempty"` // of backoff
	// RestartJob is the job for which its process is being ended, to start another; empty: it
	// is ended for something else, or not at all.
	RestartJob string `json:"restart_job,omitempty"`
	// Stale says that its type was changed in the configuration after its start.
	Stale bool `json:"stale,omitempty"`
	// Changed are the keys of its type that were; none, though it is stale, if the
	// type is no longer configured.
	Changed   []string   `json:"changed,omitempty"`
	Exit      *Exit      `json:"exit,omitempty"`
	Log       string     `json:"log"` // absolute path
	JobID     string     `json:"job_id,omitempty"`
	StartedAt time.Time  `json:"started_at"`
	ReadyAt   *time.Time `json:"ready_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
}

// JobState is the state of a job.
type JobState string

// The states of a job.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobSucceeded JobState = "succeeded"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Ended reports whether the job will not change any more.
func (s JobState) Ended() bool {
	return s == JobSucceeded || s == JobFailed || s == JobCancelled
}

// JobError is why a job failed.
type JobError struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Log     []string `json:"log"` // last lines of the worker's log; never nil
}

// Job is one submitted operation.
type Job struct {
	JobID     string          `json:"job_id"` // job-<uuid v7>: sorts by time
	Operation string          `json:"operation"`
	Request   json.RawMessage `json:"request"`
	State     JobState        `json:"state"`
	WorkerID  string          `json:"worker_id,omitempty"`
	// RequestedBy is who has submitted it; nil: it is not known, as of an older hive.
	RequestedBy *Requester `json:"requested_by,omitempty"`
	// Key is the caller's idempotency key; empty: none was given. See PutKeyedJob.
	Key        string          `json:"key,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
	Error      *JobError       `json:"error,omitempty"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  *time.Time      `json:"started_at,omitempty"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
}

// EventType is the kind of an event.
type EventType string

// The types of event.
const (
	EventState    EventType = "state"
	EventPort     EventType = "port"
	EventProcess  EventType = "process"
	EventLog      EventType = "log"
	EventProgress EventType = "progress"
	EventResult   EventType = "result"
	EventAudit    EventType = "audit"
	EventEnd      EventType = "end"
)

// EventTypes returns all types of event.
func EventTypes() []EventType {
	return []EventType{EventState, EventPort, EventProcess, EventLog, EventProgress, EventResult, EventAudit, EventEnd}
}

// Event is one entry in the history of a job or a worker.
type Event struct {
	Seq uint64 `json:"seq"` // one ascending sequence for the whole hive
	// JobSeq is 1, 2, 3, ... without gaps among the events of JobID; 0: of no job. Older
	// files do not record it; it is made when an event is read.
	JobSeq   uint64          `json:"job_seq,omitempty"`
	JobID    string          `json:"job_id,omitempty"`
	WorkerID string          `json:"worker_id,omitempty"`
	Type     EventType       `json:"type"`
	At       time.Time       `json:"at"`
	Message  string          `json:"message"`        // one line for a person
	Data     json.RawMessage `json:"data,omitempty"` // for a program
}
