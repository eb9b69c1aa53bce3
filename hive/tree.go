package hive

import (
	"os"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// treeOf is a recorded worker with everything that it has started. p is nil if its main
// process is dead, or cannot be judged.
func (h *Hive) treeOf(rec store.Worker, p *proc.Process) *proc.Tree {
	state := h.store.Meta().StateID
	t := &proc.Tree{Main: p, Cgroup: rec.Cgroup, Log: rec.Log, StateID: state, LeaseID: rec.LeaseID, WorkerID: rec.WorkerID, UID: userOf(rec)}
	if rec.StampUID != nil {
		t.StampProof = proc.Prove(h.store.Secret(), state, rec.LeaseID, rec.WorkerID, t.UID)
	}
	if rec.Identity != nil {
		t.Identity = *rec.Identity
	}
	return t
}

// treeOfLease is treeOf where no more than the lease need be known: the worker has
// ended, and its record may be gone.
func (h *Hive) treeOfLease(l store.Lease) *proc.Tree {
	rec := store.Worker{WorkerID: l.WorkerID, LeaseID: l.LeaseID, Identity: l.Identity, Cgroup: l.Cgroup, StampUID: l.StampUID}
	if l.Kind == store.LeaseWorker {
		rec.Log = h.logs.Path(l.WorkerID)
		if known, err := h.Worker(l.WorkerID); err == nil && known.WorkerID == l.WorkerID {
			rec.Spec.User = known.Spec.User // of a lease that does not say as whom it was
		}
	}
	return h.treeOf(rec, nil)
}

// userOf is the user as whom a worker was started. What a hive has started that did not
// record it, the user database says now; NoUser if that does not know.
func userOf(rec store.Worker) uint32 {
	switch {
	case rec.StampUID != nil:
		return *rec.StampUID
	case rec.Spec.User == "":
		return uint32(os.Geteuid())
	}
	user, err := proc.LookUser(rec.Spec.User)
	if err != nil {
		return proc.NoUser
	}
	return user.UID
}
