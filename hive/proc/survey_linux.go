package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"

	"rbeehive/hive/proc/internal/procfs"
)

// Members returns the processes of the tree except its main process, each with
// the proof that it belongs. Zombies are not members. It reads /proc once
// (milliseconds, more on a machine with many processes); ctx ends it early.
// What the system does not let us read is no proof, and no error. Safe for
// concurrent use.
func (t *Tree) Members(ctx context.Context) ([]Member, error) {
	found, err := SurveyMembers(ctx, []*Tree{t})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// SurveyMembers is Members for many trees, by index into trees, in one pass over
// /proc with at most four readers. A tree without members has no entry. A process
// with proofs for two trees counts for the one with the stronger proof.
func SurveyMembers(ctx context.Context, trees []*Tree) (map[int][]Member, error) {
	s := newSurvey(trees)
	return s.run(ctx)
}

// survey is one pass over /proc. Its maps lead from what can be seen of a process to the
// index of a tree.
type survey struct {
	trees     []*Tree
	mount     procfs.CgroupMount
	own       string         // cgroup of this process, relative to the mount; empty: not known
	cgroups   map[string]int // by path relative to the mount
	logs      map[procfs.FileID]int
	leases    map[leaseKey]int
	marks     map[string]int // by mark of a command, or the beginning of many
	mains     map[int]int    // by PID, living main processes only
	claimants claimants      // whose stamps are read
	// proven are processes that were proven earlier: they and their descendants count too.
	proven map[procKey]int
	// others are the main processes of all workers, which are followed under a pidfd. Those
	// that are in no tree of this pass are not looked at.
	others map[int]*Process
	// zombies are examined too: what they have used counts until they are reaped.
	zombies bool
}

type leaseKey struct{ state, id string }

// procKey tells processes with the same PID apart.
type procKey struct {
	pid   int
	start uint64
}

func newSurvey(trees []*Tree) *survey {
	s := &survey{
		trees: trees, cgroups: map[string]int{}, logs: map[procfs.FileID]int{},
		leases: map[leaseKey]int{}, marks: map[string]int{}, mains: map[int]int{}, proven: map[procKey]int{},
		claimants: newClaimants(uint32(os.Geteuid())),
	}
	if m, err := findCgroupMount(); err == nil {
		s.mount = m
		s.own, _ = m.Of(os.Getpid())
	}
	for i, t := range trees {
		// Only a cgroup and a log that are still what hive made prove anything.
		if _, ok := cgroupDir(t.Cgroup); ok {
			s.cgroups[t.Cgroup] = i
		}
		if t.Log != "" {
			if f, _, ok := logFile(t.Log); ok {
				s.logs[f] = i
			}
		}
		s.claimants.add(t)
		if t.LeaseID != "" {
			s.leases[leaseKey{t.StateID, t.LeaseID}] = i
		}
		if t.mark != "" {
			s.marks[t.mark] = i
		}
		if t.Main != nil && t.Main.alive() {
			s.mains[t.Main.PID()] = i
		}
	}
	return s
}

// candidate is one process of the pass. tree is -1 until a proof is found.
type candidate struct {
	procfs.Stat
	tree  int
	proof string // empty of a main process
}

func (s *survey) run(ctx context.Context) (map[int][]Member, error) {
	all, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("survey processes: %w", err)
	}
	s.dropSessionProofs(all)
	s.addDescendants(all)
	out := make(map[int][]Member)
	for i := range all {
		c := &all[i]
		// The main process proves others, and is no member itself.
		if _, main := s.mains[c.PID]; main || c.tree < 0 {
			continue
		}
		out[c.tree] = append(out[c.tree], Member{PID: c.PID, Start: c.Start, Proof: c.proof, Program: c.Program()})
	}
	return out, nil
}

// read examines every process but kernel threads, zombies and ourselves.
func (s *survey) read(ctx context.Context) ([]candidate, error) {
	pids, err := procfs.PIDs()
	if err != nil {
		return nil, err
	}
	// hive itself is no worker's member, whatever it was started with.
	self := os.Getpid()
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == self })
	all := make([]candidate, len(pids))
	forEach(len(pids), func(i int) {
		if ctx.Err() == nil {
			all[i] = s.examine(pids[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return c.PID == 0 }), nil
}

// examine returns a candidate with PID 0 for a process that is none.
func (s *survey) examine(pid int) candidate {
	if p := s.others[pid]; p != nil && p.alive() {
		if _, ours := s.mains[pid]; !ours {
			return candidate{}
		}
	}
	st, err := procfs.ReadStat(pid)
	if err != nil || st.Zombie() && !s.zombies || st.KernelThread() {
		return candidate{}
	}
	// A main process is followed under a pidfd: as long as that says that it lives, the
	// number is its own.
	if i, ok := s.mains[pid]; ok {
		return candidate{Stat: st, tree: i}
	}
	i, proof := s.findProof(&st)
	if again, err := procfs.ReadStat(pid); i >= 0 && (err != nil || again.Start != st.Start) {
		return candidate{} // the proof may have been read from another process with its PID
	}
	return candidate{Stat: st, tree: i, proof: proof}
}

// findProof looks for a proof that the process carries itself, strongest first.
func (s *survey) findProof(st *procfs.Stat) (int, string) {
	if i, ok := s.byCgroup(st.PID); ok {
		return i, ProofCgroup
	}
	if c, ok := s.byLog(st.ReadableID()); ok && s.accepts(c, st) {
		return c.tree, ProofLog
	}
	if c, ok := s.byStamp(st); ok && s.accepts(c, st) {
		return c.tree, ProofStamp
	}
	// A session keeps the number of its first process for as long as anybody is
	// in it, and the number can be given out again after that process has ended:
	// it says something only while the main process is verified alive.
	if i, ok := s.mains[st.Session]; ok {
		return i, ProofSession
	}
	if i, ok := s.proven[procKey{st.PID, st.Start}]; ok {
		return i, ProofDescent
	}
	return -1, ""
}

// byCgroup finds the tree in whose cgroup, or below which, a process is.
func (s *survey) byCgroup(pid int) (int, bool) {
	if len(s.cgroups) == 0 {
		return 0, false
	}
	p, ok := s.mount.Of(pid)
	if !ok {
		return 0, false
	}
	// A worker may make cgroups of its own below its leaf.
	for ; ; p = path.Dir(p) {
		if i, ok := s.cgroups[p]; ok {
			return i, true
		}
		if path.Dir(p) == p {
			return 0, false
		}
	}
}

// dropSessionProofs takes back what rested on a session whose main process has ended
// while the pass was reading.
func (s *survey) dropSessionProofs(all []candidate) {
	for pid, i := range s.mains {
		if s.trees[i].Main.alive() {
			continue
		}
		delete(s.mains, pid)
		for j := range all {
			c := &all[j]
			if c.tree == i && (c.proof == ProofSession || c.proof == "" && c.PID == pid) {
				c.tree, c.proof = -1, ""
			}
		}
	}
}

// addDescendants adds the descendants of everything that has been proven. A parent is
// never younger than its child: a younger one has got the parent's number.
func (s *survey) addDescendants(all []candidate) {
	children := make(map[int][]int, len(all))
	var queue []int
	for i := range all {
		children[all[i].Parent] = append(children[all[i].Parent], i)
		if all[i].tree >= 0 {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		parent := &all[queue[0]]
		queue = queue[1:]
		for _, i := range children[parent.PID] {
			child := &all[i]
			// A proof of its own is stronger than descent, also for another tree.
			if child.tree >= 0 || child.Start < parent.Start {
				continue
			}
			child.tree, child.proof = parent.tree, ProofDescent
			queue = append(queue, i)
		}
	}
}
