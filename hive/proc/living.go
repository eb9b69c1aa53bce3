package proc

import "rbeehive/store"

// Living is a process that shows by itself which worker it belongs to.
type Living struct {
	PID, Parent int
	Start       uint64 // clock ticks since boot
	Leader      bool   // of its session, as a worker's main process is
	WorkerID    string
	StateID     string // from the stamp, like LeaseID; empty without one
	LeaseID     string
	// Name is from the stamp too. Whoever knows the secret of the state has seen it proven;
	// else it is what the process's user says, in any form. Empty: it has none.
	Name    string
	Cgroup  string // that hive made for the worker, relative to the mount; empty: it is in none
	Proof   string // the strongest one: ProofCgroup, ProofLog or ProofStamp
	Proven  bool   // its stamps have the proof; without it they are only what its user says
	UID     uint32 // its user; NoUser where that is not one
	Program string // as in Member
	Argv    []string
	Dir     string // working directory; empty: it cannot be read
}

// Search is what FindLiving looks for.
type Search struct {
	Logs    string                  // directory of logs, WORKER.log each
	States  []string                // state ids
	Secrets map[string]store.Secret // by state id, as far as they are known
	// Owner is whose the states are: hive's user. Users are those of workers, besides
	// the owners of the logs.
	Owner uint32
	Users []uint32
}
