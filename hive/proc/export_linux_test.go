package proc

import (
	"context"
	"time"

	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

// ParentOf reads a process's parent.
func ParentOf(pid int) (int, error) {
	s, err := procfs.ReadStat(pid)
	return s.Parent, err
}

// ZombieExit is zombieExit.
func ZombieExit(id store.Identity) (store.Exit, bool) {
	status, ok := zombieExit(id)
	return exitOf(status), ok
}

// CgroupDir is cgroupDir.
func CgroupDir(rel string) (string, bool) { return cgroupDir(rel) }

// CommandMembers returns who has the mark of a command, or is in the cgroup of one:
// a process that is ending has no environment any more.
func CommandMembers(ctx context.Context, stateID string, secret store.Secret) ([]Member, error) {
	found, err := SurveyMembers(ctx, append(commandCgroups(stateID), &Tree{mark: markPrefix(stateID), markSecret: secret, UID: NoUser}))
	var all []Member
	for _, members := range found {
		all = append(all, members...)
	}
	return all, err
}

// Freeze is the freezing part of a stop.
func Freeze(ctx context.Context, t *Tree) error {
	s := &stopper{tree: t, tracked: make(map[procKey]*trackedMember)}
	defer s.close()
	return s.freeze(ctx, time.Now().Add(killTimeout))
}

// Elapsed is how the time of a stop's grace is counted.
var Elapsed = elapsed

// SuspendThreshold is the most that one step of it counts.
const SuspendThreshold = suspendThreshold

// Reading is what one process had used when it was read.
type Reading struct {
	PID, Parent   int
	Start         uint64
	Own, Waited   uint64
	Read, Written uint64
}

func countersOf(rs []Reading) map[procKey]counters {
	out := map[procKey]counters{}
	for _, r := range rs {
		out[procKey{r.PID, r.Start}] = counters{r.Parent, r.Own, r.Waited, r.Read, r.Written, true}
	}
	return out
}

// UsedBetween is usedBetween: clock ticks and bytes.
func UsedBetween(was, is []Reading, since uint64) (cpu, read, written uint64) {
	c := usedBetween(countersOf(was), countersOf(is), since)
	return c.own, c.read, c.written
}

// Renumber makes p, which has ended, a process whose number another has got since.
func Renumber(p *Process, pid int) { p.id.PID = pid }
