package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// Sweep returns every process that has a mark of this hive on it: the stamp of
// its state id, or a place in a cgroup root of that name. It does not say whether
// a record exists; the caller compares. It reads /proc once, with at most four
// readers. Processes that have neither mark, because they overwrote their
// environment and there is no cgroup, are found only through the log of a known
// worker: see SurveyMembers. Commands are left out: those of this hive are known,
// and those of one that was killed are ended by EndCommands.
func Sweep(ctx context.Context, stateID string) ([]Stray, error) {
	if stateID == "" {
		return nil, nil
	}
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	root, self := rootName(stateID), os.Getpid()
	strays := make([]Stray, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil && all[i] != self {
			strays[i] = strayOf(all[i], root, stateID)
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	return slices.DeleteFunc(strays, func(s Stray) bool { return s.PID == 0 }), nil
}

// strayOf returns PID 0 for a process without a mark.
func strayOf(pid int, root, stateID string) Stray {
	st, err := readStat(pid)
	if err != nil || st.zombie() || st.flags&kernelThread != 0 {
		return Stray{}
	}
	stray := Stray{PID: pid, Start: st.start}
	env := environ(st.living(), StampState, StampLease, StampWorker, StampHook)
	if strings.HasPrefix(env[StampHook], hookMarks(stateID)) {
		return Stray{} // see EndCommands
	}
	if env[StampState] == stateID {
		stray.Proof, stray.LeaseID, stray.WorkerID = ProofStamp, env[StampLease], env[StampWorker]
	}
	leaf, ok := leafBelow(pid, root)
	if strings.HasPrefix(leaf, hookLeaf) {
		return Stray{}
	}
	if ok {
		stray.Proof = ProofCgroup
		if stray.WorkerID == "" {
			stray.WorkerID = leaf
		}
	}
	if stray.Proof == "" {
		return Stray{}
	}
	stray.Program = programOf(&st)
	return stray
}

// leafBelow finds root anywhere in the process's cgroup path: hive may have been
// started in another cgroup this time.
func leafBelow(pid int, root string) (string, bool) {
	p, ok := cgroupOf(pid)
	if !ok {
		return "", false
	}
	parts := strings.Split(path.Clean(p), "/")
	i := slices.Index(parts, root)
	if i < 0 {
		return "", false
	}
	if i+1 == len(parts) {
		return "", true
	}
	return parts[i+1], true
}
