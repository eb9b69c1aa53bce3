package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

// FindLiving returns every process that says by itself which worker it is of, and of
// which that can be believed. Nothing that hive has recorded is needed for it.
//
//   - It is in a cgroup of one of the states, which hive's user or root has made.
//   - Its stdout or stderr is a log in the directory of logs, whatever that was called
//     when it was started, and its user is whose the log is.
//   - It has the stamp of one of the states, proven by the state's secret for its user;
//     or, if there is no secret or no proof, its user is whose the worker's log is, or
//     else hive's.
//
// A process in the cgroup of another worker is of that one. It reads /proc once, with at
// most four readers; what cannot be read says nothing. Commands that hive runs beside
// workers are left out.
func FindLiving(ctx context.Context, what Search) ([]Living, error) {
	all, err := procfs.PIDs()
	if err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	f := &finder{Search: what, logs: logsIn(what.Logs), roots: map[string]bool{}, users: newUsers(append(what.Users, what.Owner)...)}
	for _, log := range f.logs {
		f.users.uids[log.owner] = true
	}
	f.mount, _ = findCgroupMount() // without one there is nothing to find in it
	if f.mount.Dir != "" {
		f.own, _ = f.mount.Of(os.Getpid())
	}
	for _, id := range what.States {
		f.roots[rootName(id)] = true
	}
	self := os.Getpid()
	found := make([]Living, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil && all[i] != self {
			found[i] = f.look(all[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	return slices.DeleteFunc(found, func(l Living) bool { return l.WorkerID == "" }), nil
}

type finder struct {
	Search
	mount procfs.CgroupMount
	own   string // cgroup of this process
	logs  map[procfs.FileID]log
	roots map[string]bool
	users users
}

// log is one of a worker, and whose it is: its worker's user's.
type log struct {
	worker string
	owner  uint32
}

// logsIn finds which file is whose log.
func logsIn(dir string) map[procfs.FileID]log {
	logs := map[procfs.FileID]log{}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well formed
	for _, path := range paths {
		if f, owner, ok := logOf(path); ok {
			logs[f] = log{strings.TrimSuffix(filepath.Base(path), ".log"), owner}
		}
	}
	return logs
}

// look returns a Living without a WorkerID for a process that says nothing, or is not
// to be believed.
func (f *finder) look(pid int) Living {
	st, err := procfs.ReadStat(pid)
	if err != nil || st.Zombie() || st.KernelThread() {
		return Living{}
	}
	var env map[string]string
	if f.users.may(&st) {
		env = procfs.Environ(st.ReadableID(), stampPrefix, StampState, StampLease, StampWorker, StampHook, StampProof)
	}
	l := Living{PID: pid, Parent: st.Parent, Start: st.Start, Leader: st.Session == pid, UID: ownerOf(pid)}
	at := ""
	if f.mount.Dir != "" {
		at, _ = f.mount.Of(pid)
	}
	if env[StampHook] == "" { // a command has the log of its worker
		f.byLog(&l, &st)
		f.byStamp(&l, &st, env)
	}
	f.byCgroup(&l, at)
	if again, err := procfs.ReadStat(pid); l.WorkerID == "" || err != nil || again.Start != st.Start {
		return Living{}
	}
	l.Program = st.Program()
	l.Argv, l.Dir = procfs.Argv(st.ReadableID()), procfs.WorkDir(st.ReadableID())
	return l
}

func (f *finder) byLog(l *Living, st *procfs.Stat) {
	for _, fd := range []int{1, 2} {
		is, ok := procfs.OpenFile(st.ReadableID(), fd)
		if log := f.logs[is]; ok && log.worker != "" && log.owner == l.UID {
			l.WorkerID, l.Proof = log.worker, ProofLog
			return
		}
	}
}

// byStamp takes the stamp for what it says beside a log, and without one if it is
// to be believed.
func (f *finder) byStamp(l *Living, st *procfs.Stat, env map[string]string) {
	worker, proof := env[StampWorker], env[StampProof]
	if worker == "" || l.UID == NoUser || l.Proof == ProofLog && worker != l.WorkerID {
		return
	}
	secret, known := f.Secrets[env[StampState]]
	l.Proven = proven(proof, Prove(secret, env[StampState], env[StampLease], worker, l.UID))
	switch {
	case known && proof != "" && !l.Proven: // forged
		return
	case l.Proof == ProofLog:
	case !slices.Contains(f.States, env[StampState]):
		return
	case !l.Proven && (l.UID != f.userOf(worker) || procfs.GainedRights(st.ReadableID())):
		return
	}
	l.WorkerID, l.StateID, l.LeaseID = worker, env[StampState], env[StampLease]
	if l.Proof == "" {
		l.Proof = ProofStamp
	}
}

// userOf returns whose the log of a worker is; without one hive's user.
func (f *finder) userOf(worker string) uint32 {
	for _, log := range f.logs {
		if log.worker == worker {
			return log.owner
		}
	}
	return f.Owner
}

// byCgroup sees whether the process is in a leaf that hive made for a worker: for the
// one that it says it is of, and then of whatever state, or of a state that is known,
// whatever it says. What is in the leaf of somebody else's worker is not of this one.
func (f *finder) byCgroup(l *Living, at string) {
	leaf := leafIn(at)
	if leaf == "" || within(f.own, leaf) {
		return
	}
	parts := strings.Split(leaf, "/")
	for i, part := range parts[:len(parts)-1] { // the outermost of a state that is known
		if f.roots[part] {
			leaf = strings.Join(parts[:i+2], "/")
			break
		}
	}
	root, worker := path.Dir(leaf), path.Base(leaf)
	known := f.roots[path.Base(root)] && !strings.HasPrefix(worker, hookLeaf)
	switch {
	case (known || worker == l.WorkerID) && ownedByHive(filepath.Join(f.mount.Dir, root), f.Owner):
		if worker != l.WorkerID {
			*l = Living{PID: l.PID, Parent: l.Parent, Start: l.Start, Leader: l.Leader, UID: l.UID}
		}
		l.WorkerID, l.Cgroup, l.Proof = worker, leaf, ProofCgroup
	case worker != l.WorkerID:
		l.WorkerID = ""
	}
}

// Judge verifies a recorded process, as Adopt does, and does not follow it.
func Judge(id store.Identity) (Verdict, error) {
	fd, verdict, err := judge(id)
	if verdict == Alive {
		return verdict, unix.Close(fd)
	}
	return verdict, err
}
