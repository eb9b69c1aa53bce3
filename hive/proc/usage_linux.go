package proc

import (
	"context"
	"fmt"
	"os"
	"time"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
)

// proveEvery is how often a Meter looks for members by all proofs. In between it
// finds those that descend from members or are in the session of the main process,
// for which one file of each process is enough.
const proveEvery = 10 * time.Second

// ticksPerSecond is USER_HZ, which is 100 wherever Linux runs Go.
const ticksPerSecond = 100

// Meter measures trees again and again. It is not safe for concurrent use, and
// holds nothing open.
type Meter struct {
	gauges map[*Tree]*gauge
	proven time.Time // when members were last looked for by all proofs
	at     uint64    // clock ticks since boot at the last measurement; 0: there was none
}

// gauge is what was read of a tree at the last measurement.
type gauge struct {
	at    time.Time
	cpu   time.Duration // by its cgroup
	bound bool          // it has one
	procs map[procKey]counters
}

// counters are those of one process since its start.
type counters struct {
	parent        int
	own, waited   uint64 // clock ticks: its own, and those of children that it has waited for
	read, written uint64 // bytes, of waited-for children too
	readable      bool   // the bytes are known
}

// NewMeter makes a Meter that has measured nothing.
func NewMeter() *Meter { return &Meter{gauges: map[*Tree]*gauge{}} }

// Measure returns what each tree has used since the Measure before, by index into
// trees. A tree is told by its pointer; one that is not among trees is forgotten.
// The CPU time of a tree with a cgroup is the cgroup's, and exact. Without one it is
// summed over the processes, in steps of 10 ms, and misses what a process used that
// ended, since the last Measure, without a member that waited for it. Of I/O the
// latter holds for all: the io controller of a cgroup is rarely there.
//
// It blocks for the read of one file of each process of the machine and another of
// each member, every ten seconds of a few more. Errors: ctx's, and that of listing
// /proc.
func (m *Meter) Measure(ctx context.Context, trees []*Tree) ([]Usage, error) {
	facts, at, err := m.look(ctx, trees)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	usages, procs := gather(facts, trees)
	m.readIO(facts, procs, trees)
	next := make(map[*Tree]*gauge, len(trees))
	for i, t := range trees {
		g := &gauge{procs: procs[i], at: time.Now()}
		if dir, ok := cgroupPath(t.Cgroup); ok {
			g.cpu, err = cgroup.CPUTime(dir)
			g.bound = err == nil // else it has been removed
		}
		m.compare(&usages[i], m.gauges[t], g)
		next[t] = g
	}
	m.gauges, m.at = next, at
	return usages, nil
}

// look reads all processes, and finds to which tree each belongs.
func (m *Meter) look(ctx context.Context, trees []*Tree) ([]fact, uint64, error) {
	var s *survey
	if time.Since(m.proven) >= proveEvery {
		s, m.proven = newSurvey(trees), time.Now()
	} else {
		s = &survey{trees: trees, mains: map[int]int{}, roots: map[procKey]int{}}
		for i, t := range trees {
			if t.Main != nil && t.Main.alive() {
				s.mains[t.Main.PID()] = i
			}
		}
	}
	s.zombies = true
	for i, t := range trees {
		if g := m.gauges[t]; g != nil {
			for key := range g.procs {
				s.roots[key] = i
			}
		}
	}
	at := uint64(BootTime() / (time.Second / ticksPerSecond))
	facts, err := s.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	s.dropSessions(facts)
	s.descend(facts)
	return facts, at, nil
}

// gather sorts the processes by tree.
func gather(facts []fact, trees []*Tree) ([]Usage, []map[procKey]counters) {
	usages, procs := make([]Usage, len(trees)), make([]map[procKey]counters, len(trees))
	page := uint64(os.Getpagesize())
	for i := range facts {
		f := &facts[i]
		if f.tree < 0 {
			continue
		}
		if procs[f.tree] == nil {
			procs[f.tree] = map[procKey]counters{}
		}
		procs[f.tree][procKey{f.PID, f.Start}] = counters{parent: f.Parent, own: f.OwnTicks, waited: f.WaitedTicks}
		if !f.Zombie() {
			u := &usages[f.tree]
			u.RSS += f.Resident * page
			u.PIDs = append(u.PIDs, f.PID)
		}
	}
	return usages, procs
}

// readIO adds the bytes of the members. Those of one whose file cannot be read now, a
// zombie's perhaps, are what they were: they have not been handed on yet.
func (m *Meter) readIO(facts []fact, procs []map[procKey]counters, trees []*Tree) {
	type bytesOf struct {
		read, written uint64
		ok            bool
	}
	found := make([]bytesOf, len(facts))
	forEach(len(facts), func(i int) {
		if f := &facts[i]; f.tree >= 0 {
			found[i].read, found[i].written, found[i].ok = procfs.ReadIO(f.PID)
		}
	})
	for i := range facts {
		f := &facts[i]
		if f.tree < 0 {
			continue
		}
		key := procKey{f.PID, f.Start}
		c := procs[f.tree][key]
		c.read, c.written, c.readable = found[i].read, found[i].written, found[i].ok
		if g := m.gauges[trees[f.tree]]; !c.readable && g != nil {
			was := g.procs[key]
			c.read, c.written, c.readable = was.read, was.written, was.readable
		}
		procs[f.tree][key] = c
	}
}

// compare fills in what was used between two readings; was is nil at the first.
func (m *Meter) compare(u *Usage, was, is *gauge) {
	if was == nil {
		return
	}
	u.Over = is.at.Sub(was.at)
	used := spent(was.procs, is.procs, m.at)
	u.CPU = time.Duration(used.own) * time.Second / ticksPerSecond
	if was.bound && is.bound {
		u.CPU = max(0, is.cpu-was.cpu)
	}
	u.Read, u.Written = used.read, used.written
}

// spent is what the processes of a tree have used between two readings; own is all
// of the CPU time then. since is when the first was, in clock ticks since boot.
//
// A parent that waits for a child inherits what the child has used in all of its
// life, of which the part before the first reading was counted already.
func spent(was, is map[procKey]counters, since uint64) (used counters) {
	var waited counters // may be inherited
	for key, now := range is {
		before, ok := was[key]
		switch {
		case ok:
			used.own += less(now.own, before.own)
			waited.own += less(now.waited, before.waited)
			if now.readable && before.readable {
				waited.read += less(now.read, before.read)
				waited.written += less(now.written, before.written)
			}
		case key.start >= since: // it has begun since
			used.own += now.own + now.waited
			used.read += now.read
			used.written += now.written
		}
	}
	byPID := make(map[int]procKey, len(was))
	for key := range was {
		byPID[key.pid] = key
	}
	for key, before := range was {
		if _, ok := is[key]; ok || !inherited(before, was, is, byPID) {
			continue
		}
		waited.own = less(waited.own, before.own+before.waited)
		waited.read = less(waited.read, before.read)
		waited.written = less(waited.written, before.written)
	}
	used.own += waited.own
	used.read += waited.read
	used.written += waited.written
	return used
}

// inherited reports whether a process that has ended has an ancestor in the tree that
// has not, who may have what it used.
func inherited(c counters, was, is map[procKey]counters, byPID map[int]procKey) bool {
	for range len(was) {
		key, ok := byPID[c.parent]
		if !ok {
			return false
		}
		if _, alive := is[key]; alive {
			return true
		}
		c = was[key]
	}
	return false
}

// less is a - b, not below 0: counters of the kernel go back by a tick at times.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
