package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

// Sweep returns every process that carries a mark of this hive: the stamps of its
// state id, proven by the state's secret for the process's own user, who is one of
// owners or hive's; or a place in a cgroup root of that name, made by hive's user or
// root. It does not say whether a record exists; the caller compares. Stamps without any
// proof are returned too (Orphan.Unproven): older hives gave none. It reads /proc once,
// with at most four readers. Processes that have neither mark, because they overwrote
// their environment and there is no cgroup, are found only through the log of a known
// worker: see SurveyMembers. Commands are left out: those of this hive are known, and
// those of one that was killed are ended by EndCommands.
func Sweep(ctx context.Context, stateID string, secret store.Secret, owners []uint32) ([]Orphan, error) {
	if stateID == "" {
		return nil, nil
	}
	all, err := procfs.PIDs()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	s := &sweeper{stateID: stateID, secret: secret, claimants: newClaimants(append([]uint32{uint32(os.Geteuid())}, owners...)...)}
	s.mount, _ = findCgroupMount() // without one no process is in a cgroup of hive's
	self := os.Getpid()
	found := make([]Orphan, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil && all[i] != self {
			found[i] = s.examine(all[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	return slices.DeleteFunc(found, func(o Orphan) bool { return o.PID == 0 }), nil
}

// sweeper is one pass of Sweep.
type sweeper struct {
	mount     procfs.CgroupMount
	stateID   string
	secret    store.Secret
	claimants claimants
}

// examine returns PID 0 for a process without a mark.
func (s *sweeper) examine(pid int) Orphan {
	st, err := procfs.ReadStat(pid)
	if err != nil || st.Zombie() || st.KernelThread() {
		return Orphan{}
	}
	var env map[string]string
	if s.claimants.has(&st) {
		env = procfs.Environ(st.ReadableID(), stampPrefix, StampState, StampLease, StampWorker, StampCommand, StampProof)
	}
	o := Orphan{PID: pid, Start: st.Start, UID: uidOf(pid)}
	if mark := env[StampCommand]; strings.HasPrefix(mark, markPrefix(s.stateID)) && proven(env[StampProof], proveCommand(s.secret, mark, o.UID)) {
		return Orphan{} // see EndCommands
	}
	s.byStamp(&o, &st, env)
	leaf, ok := s.leafOf(pid)
	if strings.HasPrefix(leaf, commandLeaf) {
		return Orphan{}
	}
	// The cgroup is the stronger proof, and needs none of the stamps.
	if ok {
		o.Proof, o.Unproven = ProofCgroup, false
		if o.WorkerID == "" {
			o.WorkerID = leaf
		}
	}
	// Else what was read may be of two processes that had the number one after the other.
	if again, err := procfs.ReadStat(pid); o.Proof == "" || err != nil || again.Start != st.Start {
		return Orphan{}
	}
	o.Program = st.Program()
	return o
}

// byStamp accepts stamps that are proven for the process's user, and marks those that
// have no proof at all. A wrong proof is a forgery.
func (s *sweeper) byStamp(o *Orphan, st *procfs.Stat, env map[string]string) {
	if env[StampState] != s.stateID || o.UID == NoUser {
		return
	}
	switch proof := env[StampProof]; {
	case proven(proof, Prove(s.secret, s.stateID, env[StampLease], env[StampWorker], o.UID)):
	case proof == "" && !procfs.GainedRights(st.ReadableID()):
		o.Unproven = true
	default:
		return
	}
	o.Proof, o.LeaseID, o.WorkerID = ProofStamp, env[StampLease], env[StampWorker]
}

// leafOf finds a root of the state anywhere in the process's cgroup path: hive may
// have been started in another cgroup this time.
func (s *sweeper) leafOf(pid int) (string, bool) {
	if s.mount.Dir == "" {
		return "", false
	}
	p, ok := s.mount.Of(pid)
	if !ok {
		return "", false
	}
	parts := strings.Split(path.Clean(p), "/")
	i := slices.Index(parts, rootName(s.stateID))
	if i < 0 || !ownedByHive(filepath.Join(s.mount.Dir, path.Join(parts[:i+1]...)), uint32(os.Geteuid())) {
		return "", false
	}
	if i+1 == len(parts) { // in the root itself
		return "", true
	}
	return parts[i+1], true
}
