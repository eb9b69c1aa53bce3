package launch

import (
	"os"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Tree is a recorded worker with everything that it has started. p is nil if its main
// process is dead, or cannot be judged.
func (l *Launcher) Tree(rec store.Worker, p *proc.Process) *proc.Tree {
	state := l.StateID
	t := &proc.Tree{Main: p, Cgroup: rec.Cgroup, Log: rec.Log, StateID: state, LeaseID: rec.LeaseID, WorkerID: rec.WorkerID, UID: UserOf(rec)}
	// An older hive gave its workers no proof, and did not record the user.
	if rec.StampUID != nil {
		t.StampProof = proc.Prove(l.Secret, state, rec.LeaseID, rec.WorkerID, t.UID)
	}
	if rec.Identity != nil {
		t.Identity = *rec.Identity
	}
	return t
}

// UserOf is the user as whom a worker was started. What a hive has started that did not
// record it, the user database says now; NoUser if that does not know.
func UserOf(rec store.Worker) uint32 {
	switch {
	case rec.StampUID != nil:
		return *rec.StampUID
	case rec.Spec.User == "":
		return uint32(os.Geteuid())
	}
	user, err := proc.LookUser(rec.Spec.User)
	// A user who is gone proves nothing.
	if err != nil {
		return proc.NoUser
	}
	return user.UID
}
