package proc

import (
	"rbeehive/store"
)

// The stamps: the variables that hive adds to a worker's environment.
const (
	StampState  = "RBEEHIVE_STATE"
	StampLease  = "RBEEHIVE_LEASE"
	StampWorker = "RBEEHIVE_WORKER"
	// StampProof proves the others, or StampHook: see Prove.
	StampProof = "RBEEHIVE_PROOF"
)

// Spec is what Start needs to know.
type Spec struct {
	// Argv is the worker's exact argument vector; Argv[0] is the absolute path of the program.
	Argv []string
	// Env is the worker's whole environment except the stamps; see Environ.
	Env []string
	// Dir is the working directory; empty: hive's own, or / for a User who is not
	// hive's own. User must be able to enter it.
	Dir string
	// Log is the file that takes stdout and stderr. It is created with mode 0600 and
	// only appended to; a symbolic link is not followed.
	Log string
	// User is whom the program runs as, in the form of LookUser; empty or hive's own
	// user: as hive does. Only root can start programs as another user; to all others
	// that is an error that wraps ErrOtherUser. The program has that user's groups
	// and no others, and Log becomes the user's file. HOME and the like are the
	// caller's to set: see Credential.Environ.
	User string
	// NoNewPrivs has the program and all it starts run with no_new_privs: no setuid
	// program and no file's capabilities give it rights (prctl(2),
	// PR_SET_NO_NEW_PRIVS). Nil: if User is neither hive's own user nor root.
	NoNewPrivs *bool
	// Cgroup is the name of a new leaf cgroup under CgroupRoot(StateID), best the
	// worker's id, which is never used again. Empty: none. Where there is no
	// writable cgroup v2 the process is started without, and Gated.Cgroup is empty.
	Cgroup string
	// LeaseID, WorkerID and StateID become the stamps, which Secret proves; nil: they
	// are not proven, and count for a process of its user only.
	LeaseID, WorkerID, StateID string
	Secret                     store.Secret
	// Foreground makes a child that takes the caller's place instead of a worker:
	// it keeps the caller's session, process group and terminal, has descriptors 0
	// to 2 of the caller as its standard files, and Env as it is. It has no log, no
	// cgroup, no stamps and no other user; the fields for these must be empty. See
	// ForwardSignals.
	Foreground bool
}

// Verdict is what can be said about a recorded process. The zero value is Unknown.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota // cannot be judged: keep its lease, do not signal it
	Alive                  // it runs, and it is the one that was recorded
	Dead                   // it does not run, whoever has its PID now
)

// String returns the verdict in lower case.
func (v Verdict) String() string {
	switch v {
	case Alive:
		return "alive"
	case Dead:
		return "dead"
	default:
		return "unknown"
	}
}

// The proofs of membership, strongest first.
const (
	ProofCgroup  = "cgroup"  // it is in the worker's cgroup
	ProofLog     = "log"     // its stdout or stderr is the worker's log, a regular file, by device and inode, and it is vouched for
	ProofStamp   = "stamp"   // its environment has the stamps of the lease, or the mark of the command, and it is vouched for
	ProofSession = "session" // it is in the session of the worker's living main process
	ProofDescent = "descent" // it descends from a process of the worker
)

// Member is a process that belongs to a worker.
type Member struct {
	PID     int
	Start   uint64 // clock ticks since boot, proc_pid_stat(5) field 22
	Proof   string // one of the Proof constants
	Program string // base name of its executable, or its comm (at most 15 bytes) where that cannot be read
}

// Stray is a process with a mark of this hive on it.
type Stray struct {
	PID     int
	Start   uint64 // clock ticks since boot
	LeaseID string // from the stamp; empty without one
	// WorkerID is from the stamp, else the name of the leaf cgroup (see Spec.Cgroup).
	WorkerID string
	Proof    string // ProofCgroup or ProofStamp
	// Unproven stamps have no proof, as those of a hive that gave none. They count for
	// a worker only if it was started so, as user UID.
	Unproven bool
	UID      uint32 // the process's user; NoUser where that is not one
	Program  string // as in Member
}

// Living is a process that says by itself which worker it is of.
type Living struct {
	PID, Parent int
	Start       uint64 // clock ticks since boot
	Leader      bool   // of its session, as a worker's main process is
	WorkerID    string
	StateID     string // from the stamp, like LeaseID; empty without one
	LeaseID     string
	Cgroup      string // that hive made for the worker, relative to the mount; empty: it is in none
	Proof       string // the strongest one: ProofCgroup, ProofLog or ProofStamp
	Proven      bool   // its stamps have the proof; else they are what its user says
	UID         uint32 // its user; NoUser where that is not one
	Program     string // as in Member
	Argv        []string
	Dir         string // working directory; empty: it cannot be seen
}

// Tree is a worker with everything it has started.
type Tree struct {
	// Main is the worker's main process; nil when it is dead.
	Main *Process
	// Identity is the recorded identity of the main process.
	Identity store.Identity
	// Cgroup is the recorded cgroup, relative to the mount; empty: none.
	Cgroup string
	// Log is the absolute path of the worker's log; empty: none.
	Log string
	// StateID, LeaseID and WorkerID are the stamps.
	StateID, LeaseID, WorkerID string
	// UID is the user as whom the main process was started.
	UID uint32
	// StampProof is what proves the stamps (see Prove). Empty: they were given without
	// one; then they count for processes of UID only.
	StampProof string

	hook   string       // the mark of a command; ending in a slash: of all that begin so
	secret store.Secret // proves the mark, where hook is of more than one
}

// Search is what FindLiving looks for.
type Search struct {
	Logs    string                  // directory of logs, WORKER.log each
	States  []string                // state ids
	Secrets map[string]store.Secret // by state id, as far as they are known
	// Owner is whose the states are: hive's user. Users are those of workers, besides
	// whose the logs are.
	Owner uint32
	Users []uint32
}

// Ownership says whose a socket is. The zero value is OwnerUnknown.
type Ownership int

// The answers.
const (
	OwnerUnknown Ownership = iota // the system does not let us see; never act on it
	Ours                          // all of them belong to the worker
	Foreign                       // at least one belongs to somebody else
)

// String returns the answer in lower case.
func (o Ownership) String() string {
	switch o {
	case Ours:
		return "ours"
	case Foreign:
		return "foreign"
	default:
		return "unknown"
	}
}

// Features is what this kernel offers, for a report to a person.
type Features struct {
	PidfdInode bool // pidfds have an inode that is unique for a boot (kernel >= 6.9)
	ExitInfo   bool // the exit code of a process that is not our child can be had (kernel >= 6.15)
	CgroupV2   bool // hive may make cgroups of its own
}
