package proc

import "rbeehive/store"

// The proofs of membership, strongest first.
const (
	ProofCgroup  = "cgroup"  // it is in the worker's cgroup
	ProofLog     = "log"     // its stdout or stderr is the worker's log, a regular file, by device and inode, and its claim is accepted
	ProofStamp   = "stamp"   // its environment has the stamps of the lease, or the mark of the command, and its claim is accepted
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

// Ending is how the end of a tree went.
type Ending struct {
	Left   []Member // what could not be ended
	Killed bool     // SIGKILL was needed
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

	mark       string       // of a command; ending in a slash: of every command whose mark begins so
	markSecret store.Secret // proves the marks, where mark stands for more than one
}
