package proc

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
)

// trackedMember is a member under a pidfd, so that it stays the same process.
type trackedMember struct {
	member Member
	fd     int
}

// maxNewbornRounds bounds how often a scan looks for processes younger than itself. On
// a machine where others start processes all the time there are always some.
const maxNewbornRounds = 50

// scan surveys the tree once, takes a pidfd of every member that is new, and returns how
// many were found, including those that had ended before their pidfd could be opened.
func (s *stopper) scan(ctx context.Context) (int, error) {
	// Members that are still under a pidfd go on proving what descends from them.
	var proven []procKey
	for key, m := range s.tracked {
		if !hasEnded(m.fd) {
			proven = append(proven, key)
		}
	}
	v, err := scans.scan(ctx, s.tree, proven)
	if err != nil {
		return 0, err
	}
	added := 0
	for _, m := range v.found {
		added += s.track(v, m)
	}
	younger, err := s.scanNewborn(ctx, v)
	return added + younger, err
}

// scanNewborn examines the processes that were born during the survey and during this
// scan, until there are none. [measured] A chain that forks every millisecond was always
// ahead of the surveys, each of which takes some: they found nothing, twice in a row, and
// the chain got away unseen. A process that has no proof of its own but its descent is
// left to the next survey.
func (s *stopper) scanNewborn(ctx context.Context, v *view) (int, error) {
	seen := make(map[int]bool, len(v.known))
	for _, pid := range v.known {
		seen[pid] = true
	}
	seen[os.Getpid()] = true
	added := 0
	for range maxNewbornRounds {
		now, err := procfs.PIDs()
		if err != nil {
			return added, err
		}
		young := slices.DeleteFunc(now, func(pid int) bool { return seen[pid] })
		if len(young) == 0 || ctx.Err() != nil {
			return added, ctx.Err()
		}
		// The youngest is the likeliest to be still there.
		slices.Reverse(young)
		for _, pid := range young {
			seen[pid] = true
			c := v.survey.examine(pid)
			if c.PID != 0 && c.tree == v.tree && c.proof != "" {
				added += s.track(v, Member{PID: c.PID, Start: c.Start, Proof: c.proof, Program: c.Program()})
			}
		}
	}
	return added, nil
}

// track keeps a member that was not known; it returns 0 for one that was. One that cannot
// be opened has ended meanwhile, and may have left another behind: it counts.
func (s *stopper) track(v *view, m Member) int {
	key := procKey{m.PID, m.Start}
	if s.tracked[key] != nil {
		return 0
	}
	// Remembered even if it has ended: it is what Stop returns of a chain that got away.
	s.lastFound = m
	t, ok := openMember(v, m)
	if !ok {
		return 1
	}
	s.killed = s.killed || s.newcomerSignal == unix.SIGKILL
	if s.newcomerSignal != 0 {
		_ = sendSignal(t.fd, s.newcomerSignal) // one that may not be signalled is returned as left
	}
	s.tracked[key] = t
	return 1
}

// openMember opens a pidfd and then checks again that the process behind it is the one
// that was proven a member. Descent is a fact of the past and cannot be verified once
// the parent has ended; what can be is that start time and PID are those of the process
// for which it was found.
func openMember(v *view, m Member) (*trackedMember, bool) {
	fd, err := unix.PidfdOpen(m.PID, 0)
	if err != nil {
		return nil, false
	}
	st, err := procfs.ReadStat(m.PID)
	same := err == nil && st.Start == m.Start && !st.Zombie()
	if same && m.Proof != ProofDescent {
		tree, proof := v.survey.findProof(&st)
		same = tree == v.tree && proof != "" && (proof != ProofSession || v.survey.trees[tree].Main.alive())
	}
	// The pidfd comes last: that its process still lives shows that everything above was
	// read of that process.
	if !same || hasEnded(fd) {
		closeAll(fd)
		return nil, false
	}
	return &trackedMember{member: m, fd: fd}, true
}
