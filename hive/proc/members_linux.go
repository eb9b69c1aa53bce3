package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rbeehive/hive/proc/internal/procfs"
)

// readers is how many goroutines read /proc at a time. Each read may hold a
// thread, and threads are never given back: one goroutine per process left a
// daemon with as many threads as it had workers.
const readers = 4

// reading holds a token for each of them. It counts for the whole process, as its
// threads do: many workers are looked after at the same time.
var reading = make(chan struct{}, readers)

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

// survey is one pass over /proc.
type survey struct {
	trees   []*Tree
	mount   procfs.CgroupMount
	own     string         // cgroup of this process, relative to the mount; empty: not known
	cgroups map[string]int // by path relative to the mount
	logs    map[procfs.FileID]int
	leases  map[lease]int
	hooks   map[string]int // by mark of a command, or the beginning of many
	mains   map[int]int    // by PID, living main processes only
	users   users          // whose stamps may count
	// roots are processes proven earlier, from which descent counts too.
	roots map[procKey]int
	// zombies are looked at too: what they have used counts until they are reaped.
	zombies bool
}

type lease struct{ state, id string }

// procKey tells processes with the same PID apart.
type procKey struct {
	pid   int
	start uint64
}

func newSurvey(trees []*Tree) *survey {
	s := &survey{
		trees: trees, cgroups: map[string]int{}, logs: map[procfs.FileID]int{},
		leases: map[lease]int{}, hooks: map[string]int{}, mains: map[int]int{}, roots: map[procKey]int{},
		users: newUsers(uint32(os.Geteuid())),
	}
	if m, err := findCgroupMount(); err == nil {
		s.mount = m
		s.own, _ = m.Of(os.Getpid())
	}
	for i, t := range trees {
		if _, ok := cgroupDir(t.Cgroup); ok {
			s.cgroups[t.Cgroup] = i
		}
		if t.Log != "" {
			if f, _, ok := logOf(t.Log); ok {
				s.logs[f] = i
			}
		}
		s.users.add(t)
		if t.LeaseID != "" {
			s.leases[lease{t.StateID, t.LeaseID}] = i
		}
		if t.hook != "" {
			s.hooks[t.hook] = i
		}
		if t.Main != nil && t.Main.alive() {
			s.mains[t.Main.PID()] = i
		}
	}
	return s
}

// fact is one process of the pass. tree is -1 until a proof is found.
type fact struct {
	procfs.Stat
	tree  int
	proof string
}

func (s *survey) run(ctx context.Context) (map[int][]Member, error) {
	facts, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("survey processes: %w", err)
	}
	s.dropSessions(facts)
	s.descend(facts)
	out := make(map[int][]Member)
	for i := range facts {
		f := &facts[i]
		if _, main := s.mains[f.PID]; main || f.tree < 0 {
			continue
		}
		out[f.tree] = append(out[f.tree], Member{PID: f.PID, Start: f.Start, Proof: f.proof, Program: f.Program()})
	}
	return out, nil
}

// read looks at every process but kernel threads, zombies and ourselves.
func (s *survey) read(ctx context.Context) ([]fact, error) {
	all, err := procfs.PIDs()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	all = slices.DeleteFunc(all, func(pid int) bool { return pid == self })
	facts := make([]fact, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil {
			facts[i] = s.look(all[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(facts, func(f fact) bool { return f.PID == 0 }), nil
}

// forEach runs fn for 0..n-1 on at most readers goroutines, counted over all
// callers, and waits for them. fn must not call it.
func forEach(n int, fn func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(readers, n) {
		wg.Go(func() {
			reading <- struct{}{}
			defer func() { <-reading }()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				fn(int(i))
			}
		})
	}
	wg.Wait()
}

// look returns a fact with PID 0 for what is no candidate.
func (s *survey) look(pid int) fact {
	st, err := procfs.ReadStat(pid)
	if err != nil || st.Zombie() && !s.zombies || st.KernelThread() {
		return fact{}
	}
	if i, ok := s.mains[pid]; ok {
		return fact{Stat: st, tree: i}
	}
	i, proof := s.prove(&st)
	if again, err := procfs.ReadStat(pid); i >= 0 && (err != nil || again.Start != st.Start) {
		return fact{} // what proves it may have been read of another with its PID
	}
	return fact{Stat: st, tree: i, proof: proof}
}

// prove looks for a proof that the process carries itself, strongest first.
func (s *survey) prove(st *procfs.Stat) (int, string) {
	if i, ok := s.byCgroup(st.PID); ok {
		return i, ProofCgroup
	}
	if w, ok := s.byLog(st.ReadableID()); ok && s.vouched(w, st) {
		return w.tree, ProofLog
	}
	if w, ok := s.byStamp(st); ok && s.vouched(w, st) {
		return w.tree, ProofStamp
	}
	// A session keeps the number of its first process for as long as anybody is
	// in it, and the number can be given out again after that process has ended:
	// it says something only while the main process is verified alive.
	if i, ok := s.mains[st.Session]; ok {
		return i, ProofSession
	}
	if i, ok := s.roots[procKey{st.PID, st.Start}]; ok {
		return i, ProofDescent
	}
	return -1, ""
}

func (s *survey) byCgroup(pid int) (int, bool) {
	if len(s.cgroups) == 0 {
		return 0, false
	}
	p, ok := s.mount.Of(pid)
	if !ok {
		return 0, false
	}
	for ; ; p = path.Dir(p) {
		if i, ok := s.cgroups[p]; ok {
			return i, true
		}
		if path.Dir(p) == p {
			return 0, false
		}
	}
}

func (s *survey) byLog(pid int) (word, bool) {
	if len(s.logs) == 0 {
		return word{}, false
	}
	for _, fd := range []int{1, 2} {
		f, ok := procfs.OpenFile(pid, fd)
		if !ok {
			continue
		}
		if i, ok := s.logs[f]; ok {
			return word{tree: i, proof: ProofLog, uid: s.trees[i].UID, secret: true}, true
		}
	}
	return word{}, false
}

func (s *survey) byStamp(st *procfs.Stat) (word, bool) {
	if len(s.leases) == 0 && len(s.hooks) == 0 || !s.users.may(st) {
		return word{}, false
	}
	env := procfs.Environ(st.ReadableID(), stampPrefix, StampState, StampLease, StampHook, StampProof)
	if i, ok := s.leases[lease{env[StampState], env[StampLease]}]; ok && env[StampLease] != "" {
		return s.stampOf(i, env[StampProof])
	}
	return s.byHook(st, env[StampHook], env[StampProof])
}

// stampOf is the word of a process with the stamps, or the mark, of a tree. If they were
// given with a proof, they are nothing without it.
func (s *survey) stampOf(i int, proof string) (word, bool) {
	t := s.trees[i]
	w := word{tree: i, proof: ProofStamp, uid: t.UID, secret: proven(proof, t.StampProof)}
	return w, w.secret || t.StampProof == ""
}

// byHook finds a command by its mark, or by that of all commands of its hive.
func (s *survey) byHook(st *procfs.Stat, mark, proof string) (word, bool) {
	if mark == "" {
		return word{}, false
	}
	if i, ok := s.hooks[mark]; ok {
		return s.stampOf(i, proof)
	}
	state, _, _ := strings.Cut(mark, "/")
	i, ok := s.hooks[hookMarks(state)]
	if !ok {
		return word{}, false
	}
	uid := ownerOf(st.PID)
	return word{tree: i, proof: ProofStamp, uid: uid, secret: true}, proven(proof, proveCommand(s.trees[i].secret, mark, uid))
}

// dropSessions takes back what rested on a session whose main process has ended
// while we looked.
func (s *survey) dropSessions(facts []fact) {
	for pid, i := range s.mains {
		if s.trees[i].Main.alive() {
			continue
		}
		delete(s.mains, pid)
		for j := range facts {
			f := &facts[j]
			if f.tree == i && (f.proof == ProofSession || f.proof == "" && f.PID == pid) {
				f.tree, f.proof = -1, ""
			}
		}
	}
}

// descend adds the descendants of everything that has been proven. A parent is
// never younger than its child: a younger one has got the parent's number.
func (s *survey) descend(facts []fact) {
	children := make(map[int][]int, len(facts))
	var queue []int
	for i := range facts {
		children[facts[i].Parent] = append(children[facts[i].Parent], i)
		if facts[i].tree >= 0 {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		parent := &facts[queue[0]]
		queue = queue[1:]
		for _, i := range children[parent.PID] {
			child := &facts[i]
			if child.tree >= 0 || child.Start < parent.Start {
				continue
			}
			child.tree, child.proof = parent.tree, ProofDescent
			queue = append(queue, i)
		}
	}
}
