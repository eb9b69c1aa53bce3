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
)

// FindLiving returns every process that shows by itself which worker it belongs to, as
// far as that can be trusted. It needs nothing that hive has recorded.
//
//   - It is in a cgroup of one of the states, made by hive's user or root.
//   - Its stdout or stderr is a log in the directory of logs, whatever that was called
//     when it was started, and its user owns the log.
//   - It has the stamp of one of the states, proven by the state's secret for its user;
//     or, without a secret or a proof, its user owns the worker's log, or is hive's if
//     there is no log.
//
// A process in the cgroup of another worker belongs to that one. It reads /proc once,
// with at most four readers; what cannot be read says nothing. Commands that hive runs
// beside workers are left out.
func FindLiving(ctx context.Context, what Search) ([]Living, error) {
	all, err := procfs.PIDs()
	if err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	f := newFinder(what)
	self := os.Getpid()
	found := make([]Living, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil && all[i] != self {
			found[i] = f.examine(all[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	return slices.DeleteFunc(found, func(l Living) bool { return l.WorkerID == "" }), nil
}

// finder is one pass of FindLiving.
type finder struct {
	Search
	mount     procfs.CgroupMount
	own       string // cgroup of this process
	logs      map[procfs.FileID]workerLog
	roots     map[string]bool // names of the states' root cgroups
	claimants claimants
}

func newFinder(what Search) *finder {
	f := &finder{
		Search: what, logs: findLogs(what.Logs), roots: map[string]bool{},
		claimants: newClaimants(append(what.Users, what.Owner)...),
	}
	for _, log := range f.logs {
		f.claimants.uids[log.owner] = true
	}
	f.mount, _ = findCgroupMount() // without one no process is in a cgroup of hive's
	if f.mount.Dir != "" {
		f.own, _ = f.mount.Of(os.Getpid())
	}
	for _, id := range what.States {
		f.roots[rootName(id)] = true
	}
	return f
}

// workerLog says of which worker a log is, and who owns it: the worker's user.
type workerLog struct {
	worker string
	owner  uint32
}

// findLogs finds the logs in a directory.
func findLogs(dir string) map[procfs.FileID]workerLog {
	logs := map[procfs.FileID]workerLog{}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well formed
	for _, path := range paths {
		if f, owner, ok := logFile(path); ok {
			logs[f] = workerLog{strings.TrimSuffix(filepath.Base(path), ".log"), owner}
		}
	}
	return logs
}

// examine returns a Living without a WorkerID for a process that shows nothing, or whose
// claim is not accepted.
func (f *finder) examine(pid int) Living {
	st, err := procfs.ReadStat(pid)
	if err != nil || st.Zombie() || st.KernelThread() {
		return Living{}
	}
	// A stranger's environment is not read: see claimants.
	var env map[string]string
	if f.claimants.has(&st) {
		env = procfs.Environ(st.ReadableID(), stampPrefix, StampState, StampLease, StampWorker, StampCommand, StampProof, StampName, StampNameProof)
	}
	l := Living{PID: pid, Parent: st.Parent, Start: st.Start, Leader: st.Session == pid, UID: uidOf(pid)}
	at := ""
	if f.mount.Dir != "" {
		at, _ = f.mount.Of(pid)
	}
	// A command has the log of its worker, and is none of its processes.
	if env[StampCommand] == "" {
		f.byLog(&l, &st)
		f.byStamp(&l, &st, env)
	}
	// Last, because the cgroup overrules what the process claims.
	f.byCgroup(&l, at)
	if again, err := procfs.ReadStat(pid); l.WorkerID == "" || err != nil || again.Start != st.Start {
		return Living{}
	}
	l.Program = st.Program()
	l.Argv, l.Dir = procfs.Argv(st.ReadableID()), procfs.WorkDir(st.ReadableID())
	return l
}

// byLog accepts a log from processes of the user who owns it.
func (f *finder) byLog(l *Living, st *procfs.Stat) {
	for _, fd := range []int{1, 2} {
		file, ok := procfs.OpenFile(st.ReadableID(), fd)
		if log := f.logs[file]; ok && log.worker != "" && log.owner == l.UID {
			l.WorkerID, l.Proof = log.worker, ProofLog
			return
		}
	}
}

// byStamp takes the ids from stamps that agree with the log; without a log the stamps
// themselves are the claim, which must be accepted.
func (f *finder) byStamp(l *Living, st *procfs.Stat, env map[string]string) {
	worker, proof := env[StampWorker], env[StampProof]
	if worker == "" || l.UID == NoUser || l.Proof == ProofLog && worker != l.WorkerID {
		return
	}
	// Stamps of a state that is not searched for say nothing by themselves; beside a log
	// they still tell the lease.
	secret, known := f.Secrets[env[StampState]]
	l.Proven = proven(proof, Prove(secret, env[StampState], env[StampLease], worker, l.UID))
	switch {
	case known && proof != "" && !l.Proven: // forged
		return
	case l.Proof == ProofLog:
	case !slices.Contains(f.States, env[StampState]):
		return
	case !l.Proven && (l.UID != f.logOwner(worker) || procfs.GainedRights(st.ReadableID())):
		return
	}
	l.WorkerID, l.StateID, l.LeaseID = worker, env[StampState], env[StampLease]
	if name := env[StampName]; !known || proven(env[StampNameProof], ProveName(secret, l.LeaseID, worker, name, l.UID)) {
		l.Name = name
	}
	if l.Proof == "" {
		l.Proof = ProofStamp
	}
}

// logOwner returns who owns the log of a worker; without a log, hive's user.
func (f *finder) logOwner(worker string) uint32 {
	for _, log := range f.logs {
		if log.worker == worker {
			return log.owner
		}
	}
	return f.Owner
}

// byCgroup checks whether the process is in a leaf that hive made for a worker. The leaf
// counts if its name is the worker that the process claims, in a root of any state; or if
// its root is of a state that is searched for, whatever the process claims. A process in
// the leaf of any other worker does not belong to the one it claims.
func (f *finder) byCgroup(l *Living, at string) {
	leaf := leafIn(at)
	if leaf == "" || within(f.own, leaf) {
		return
	}
	parts := strings.Split(leaf, "/")
	// A worker may be a hive itself, with leaves of its own: the outermost of a state that
	// is searched for counts.
	for i, part := range parts[:len(parts)-1] {
		if f.roots[part] {
			leaf = strings.Join(parts[:i+2], "/")
			break
		}
	}
	root, worker := path.Dir(leaf), path.Base(leaf)
	known := f.roots[path.Base(root)] && !strings.HasPrefix(worker, commandLeaf)
	switch {
	case (known || worker == l.WorkerID) && ownedByHive(filepath.Join(f.mount.Dir, root), f.Owner):
		if worker != l.WorkerID { // what it claims besides is about another worker
			*l = Living{PID: l.PID, Parent: l.Parent, Start: l.Start, Leader: l.Leader, UID: l.UID}
		}
		l.WorkerID, l.Cgroup, l.Proof = worker, leaf, ProofCgroup
	case worker != l.WorkerID:
		l.WorkerID = ""
	}
}
