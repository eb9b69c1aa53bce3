package proc

import (
	"os"
	"path"
	"strings"

	"rbeehive/hive/proc/internal/procfs"
)

// A cgroup, a session and a parent are facts that the kernel states. A log and stamps are
// claims: what a process says of itself. A claim counts if the kernel says that the
// process's user is the worker's, and nothing speaks against it.

// claim is what a process says of itself: that it belongs to a tree.
type claim struct {
	tree  int
	proof string // ProofLog or ProofStamp
	// uid is the user for whom it counts.
	uid uint32
	// isProven: only hive and processes of that user can make it.
	isProven bool
}

// accepts reports whether the claim of a process counts.
//
// It counts from a process of the worker's user, in each of its four uids: a program
// that has changed one of them (setuid) has its environment from somebody else. In a
// tree without a cgroup of its own a claim that others cannot make (the log, which only
// the worker's user can open; a stamp with its proof) also counts from the processes of
// the session that hive made, whatever user they have changed to, and a proven stamp
// from a process of hive's own user. With a cgroup such a process is in it.
func (s *survey) accepts(c claim, st *procfs.Stat) bool {
	t := s.trees[c.tree]
	if s.inOtherLeaf(t, st.PID) {
		return false
	}
	uid := uidOf(st.PID)
	switch {
	case uid == c.uid && uid != NoUser:
		return c.isProven || !procfs.GainedRights(st.ReadableID())
	case t.Cgroup != "" || !c.isProven:
		return false
	case c.proof == ProofStamp && uid == uint32(os.Geteuid()):
		return true
	}
	// The number of a session is not given out again while anybody is in it.
	return t.Identity.PID != 0 && st.Session == t.Identity.PID && st.Start >= t.Identity.StartTicks
}

// inOtherLeaf reports whether a process is in the cgroup of another worker or command, of
// this hive or another. The cgroup of a worker in which this hive itself runs says
// nothing, nor does one of the same name in the place where hive was started before.
func (s *survey) inOtherLeaf(t *Tree, pid int) bool {
	if s.mount.Dir == "" {
		return false
	}
	at, _ := s.mount.Of(pid)
	leaf := leafIn(at)
	if leaf == "" || leaf == t.Cgroup || within(s.own, leaf) {
		return false
	}
	if t.mark != "" {
		return !strings.HasPrefix(path.Base(leaf), commandLeaf)
	}
	return t.WorkerID == "" || path.Base(leaf) != t.WorkerID
}

// byLog finds the tree whose log a process has as its stdout or stderr.
func (s *survey) byLog(pid int) (claim, bool) {
	if len(s.logs) == 0 {
		return claim{}, false
	}
	for _, fd := range []int{1, 2} {
		f, ok := procfs.OpenFile(pid, fd)
		if !ok {
			continue
		}
		if i, ok := s.logs[f]; ok {
			return claim{tree: i, proof: ProofLog, uid: s.trees[i].UID, isProven: true}, true
		}
	}
	return claim{}, false
}

// byStamp finds the tree whose stamps, or whose mark of a command, are in the environment
// of a process.
func (s *survey) byStamp(st *procfs.Stat) (claim, bool) {
	if len(s.leases) == 0 && len(s.marks) == 0 || !s.claimants.has(st) {
		return claim{}, false
	}
	env := procfs.Environ(st.ReadableID(), stampPrefix, StampState, StampLease, StampCommand, StampProof)
	if i, ok := s.leases[leaseKey{env[StampState], env[StampLease]}]; ok && env[StampLease] != "" {
		return s.stampClaim(i, env[StampProof])
	}
	return s.byMark(st, env[StampCommand], env[StampProof])
}

// stampClaim is the claim of a process with the stamps, or the mark, of a tree. If they
// were given with a proof, it is none without it.
func (s *survey) stampClaim(i int, proof string) (claim, bool) {
	t := s.trees[i]
	c := claim{tree: i, proof: ProofStamp, uid: t.UID, isProven: proven(proof, t.StampProof)}
	return c, c.isProven || t.StampProof == ""
}

// byMark finds the tree of a command by its mark, or the one that stands for every
// command of its hive.
func (s *survey) byMark(st *procfs.Stat, mark, proof string) (claim, bool) {
	if mark == "" {
		return claim{}, false
	}
	if i, ok := s.marks[mark]; ok {
		return s.stampClaim(i, proof)
	}
	state, _, _ := strings.Cut(mark, "/")
	i, ok := s.marks[markPrefix(state)]
	if !ok {
		return claim{}, false
	}
	// Nothing is recorded of the command, its user included: the proof is for whoever the
	// process runs as.
	uid := uidOf(st.PID)
	return claim{tree: i, proof: ProofStamp, uid: uid, isProven: true}, proven(proof, proveCommand(s.trees[i].markSecret, mark, uid))
}
