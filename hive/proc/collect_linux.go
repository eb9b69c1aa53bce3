package proc

import (
	"context"
	"os"
	"slices"

	"rbeehive/hive/proc/internal/procfs"
)

// chaseRounds bounds how often a scan looks for processes younger than itself. On
// a machine where others start processes all the time there are always some.
const chaseRounds = 50

// collect scans once, takes a pidfd of everybody new and returns how many were
// found, those among them that were gone before they could be held.
func (s *stopper) collect(ctx context.Context) (int, error) {
	v := newSurvey([]*Tree{s.tree})
	for key, h := range s.held {
		if !readable(h.fd) {
			v.roots[key] = 0
		}
	}
	known, err := procfs.PIDs() // before the scan lists them: who is in neither is younger
	if err != nil {
		return 0, err
	}
	found, err := v.run(ctx)
	if err != nil {
		return 0, err
	}
	added := 0
	for _, m := range found[0] {
		added += s.take(v, m)
	}
	younger, err := s.chase(ctx, v, known)
	return added + younger, err
}

// chase looks at the processes that were born during the scan and during this
// look, until there are none. [measured] A chain that forks every millisecond was
// always ahead of the scans, each of which takes some: they found nobody, twice in a
// row, and the chain had got away unseen. Who has no proof of its own but its
// descent is left to the next scan.
func (s *stopper) chase(ctx context.Context, v *survey, known []int) (int, error) {
	seen := make(map[int]bool, len(known))
	for _, pid := range known {
		seen[pid] = true
	}
	seen[os.Getpid()] = true
	added := 0
	for range chaseRounds {
		now, err := procfs.PIDs()
		if err != nil {
			return added, err
		}
		young := slices.DeleteFunc(now, func(pid int) bool { return seen[pid] })
		if len(young) == 0 || ctx.Err() != nil {
			return added, ctx.Err()
		}
		slices.Reverse(young) // the youngest is the likeliest to be still there
		for _, pid := range young {
			seen[pid] = true
			f := v.look(pid)
			if f.PID != 0 && f.tree >= 0 && f.proof != "" {
				added += s.take(v, Member{PID: f.PID, Start: f.Start, Proof: f.proof, Program: f.Program()})
			}
		}
	}
	return added, nil
}

// take holds a member that was not known; it returns 0 for one that was. One that
// cannot be held has ended meanwhile, and may have left another behind: it counts.
func (s *stopper) take(v *survey, m Member) int {
	key := procKey{m.PID, m.Start}
	if s.held[key] != nil {
		return 0
	}
	s.last = m
	h, ok := hold(v, m)
	if !ok {
		return 1
	}
	if s.urgent != 0 {
		_ = sendSignal(h.fd, s.urgent) // who may not be signalled shows up as left
	}
	s.held[key] = h
	return 1
}
