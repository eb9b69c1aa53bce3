package proc

// Orphan is a process that carries a mark of this hive. It is one only if no record has
// it, which the caller knows.
type Orphan struct {
	PID     int
	Start   uint64 // clock ticks since boot
	LeaseID string // from the stamp; empty without one
	// WorkerID is from the stamp, else the name of the leaf cgroup (see Spec.Cgroup).
	WorkerID string
	Proof    string // ProofCgroup or ProofStamp
	// Unproven stamps have no proof, like those of a hive that gave none. They count for
	// a worker only if it was started without one, as user UID.
	Unproven bool
	UID      uint32 // the process's user; NoUser where that is not one
	Program  string // as in Member
}
