package proc

import (
	"context"
	"fmt"
	"os"
	"time"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
)

// fullScanInterval is how often a Meter searches for members by all proofs. In between it
// finds those that descend from members or are in the session of the main process,
// for which one file of each process is enough.
const fullScanInterval = 10 * time.Second

// ticksPerSecond is USER_HZ, which is 100 wherever Linux runs Go.
const ticksPerSecond = 100

// Meter measures trees again and again. It is not safe for concurrent use, and
// keeps nothing open.
type Meter struct {
	last       map[*Tree]*reading
	fullScanAt time.Time // when members were last searched for by all proofs
	at         uint64    // clock ticks since boot at the last measurement; 0: there was none
}

// reading is what was read of a tree at one measurement.
type reading struct {
	at        time.Time
	hasCgroup bool
	cpu       time.Duration // by its cgroup
	procs     map[procKey]counters
}

// NewMeter makes a Meter that has measured nothing.
func NewMeter() *Meter { return &Meter{last: map[*Tree]*reading{}} }

// Measure returns what each tree has used since the previous Measure, by index into
// trees. A tree is identified by its pointer; one that is not among trees is forgotten.
// The CPU time of a tree with a cgroup is the cgroup's, and exact. Without one it is
// summed over the processes, in steps of 10 ms, and misses what a process used that
// has ended, since the previous Measure, without a member that waited for it. Of I/O the
// latter is true for all: the io controller of a cgroup is rarely there.
//
// It blocks for the read of one file of each process of the machine and another of
// each member, every ten seconds of a few more. Errors: ctx's, and that of listing
// /proc.
func (m *Meter) Measure(ctx context.Context, trees []*Tree) ([]Usage, error) {
	all, at, err := m.scan(ctx, trees)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	usages, procs := groupByTree(all, trees)
	m.readIO(all, procs, trees)
	next := make(map[*Tree]*reading, len(trees))
	for i, t := range trees {
		r := &reading{procs: procs[i], at: time.Now()}
		// Not cgroupDir, which asks for the owner first: a counter is only read, and that at
		// every heartbeat.
		if dir, ok := cgroupPath(t.Cgroup); ok {
			r.cpu, err = cgroup.CPUTime(dir)
			r.hasCgroup = err == nil // else it has been removed
		}
		m.compare(&usages[i], m.last[t], r)
		next[t] = r
	}
	m.last, m.at = next, at
	return usages, nil
}

// scan reads all processes, and finds to which tree each belongs. at is the time before
// that, in clock ticks since boot.
func (m *Meter) scan(ctx context.Context, trees []*Tree) (all []candidate, at uint64, err error) {
	var s *survey
	if time.Since(m.fullScanAt) >= fullScanInterval {
		s, m.fullScanAt = newSurvey(trees), time.Now()
	} else {
		// Without cgroups, logs and stamps the survey reads nothing but stat.
		s = &survey{trees: trees, mains: map[int]int{}, proven: map[procKey]int{}}
		for i, t := range trees {
			if t.Main != nil && t.Main.alive() {
				s.mains[t.Main.PID()] = i
			}
		}
	}
	s.zombies = true
	for i, t := range trees {
		if r := m.last[t]; r != nil {
			for key := range r.procs {
				s.proven[key] = i
			}
		}
	}
	at = uint64(BootTime() / (time.Second / ticksPerSecond))
	all, err = s.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	s.dropSessionProofs(all)
	s.addDescendants(all)
	return all, at, nil
}

// groupByTree sorts the processes by tree.
func groupByTree(all []candidate, trees []*Tree) ([]Usage, []map[procKey]counters) {
	usages, procs := make([]Usage, len(trees)), make([]map[procKey]counters, len(trees))
	page := uint64(os.Getpagesize())
	for i := range all {
		c := &all[i]
		if c.tree < 0 {
			continue
		}
		if procs[c.tree] == nil {
			procs[c.tree] = map[procKey]counters{}
		}
		procs[c.tree][procKey{c.PID, c.Start}] = counters{parent: c.Parent, own: c.OwnTicks, waited: c.WaitedTicks}
		// A zombie has given its memory back, and does not run.
		if !c.Zombie() {
			u := &usages[c.tree]
			u.RSS += c.Resident * page
			u.PIDs = append(u.PIDs, c.PID)
		}
	}
	return usages, procs
}

// readIO adds the bytes of the members. Where the file of one cannot be read now, because
// it is a zombie perhaps, the bytes are what they were: its parent has not inherited them
// yet.
func (m *Meter) readIO(all []candidate, procs []map[procKey]counters, trees []*Tree) {
	type bytesOf struct {
		read, written uint64
		ok            bool
	}
	found := make([]bytesOf, len(all))
	forEach(len(all), func(i int) {
		if c := &all[i]; c.tree >= 0 {
			found[i].read, found[i].written, found[i].ok = procfs.ReadIO(c.PID)
		}
	})
	for i := range all {
		t := all[i].tree
		if t < 0 {
			continue
		}
		key := procKey{all[i].PID, all[i].Start}
		c := procs[t][key]
		c.read, c.written, c.readable = found[i].read, found[i].written, found[i].ok
		if r := m.last[trees[t]]; !c.readable && r != nil {
			was := r.procs[key]
			c.read, c.written, c.readable = was.read, was.written, was.readable
		}
		procs[t][key] = c
	}
}

// compare fills in what was used between two readings; before is nil at the first.
func (m *Meter) compare(u *Usage, before, now *reading) {
	if before == nil {
		return
	}
	u.Over = now.at.Sub(before.at)
	used := usedBetween(before.procs, now.procs, m.at)
	u.CPU = time.Duration(used.own) * time.Second / ticksPerSecond
	// The cgroup's account is the better one if it covers the whole time.
	if before.hasCgroup && now.hasCgroup {
		u.CPU = max(0, now.cpu-before.cpu)
	}
	u.Read, u.Written = used.read, used.written
}
