package proc

import (
	"context"
	"sync"
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
	return s.freeze(ctx, newTimeLeft(killTimeout))
}

// KillWithin is the killing part of a stop without a cgroup, with so much time for who is
// still seen alive.
func KillWithin(ctx context.Context, t *Tree, d time.Duration) ([]Member, error) {
	s := &stopper{tree: t, tracked: make(map[procKey]*trackedMember)}
	defer s.close()
	return s.killMembers(ctx, newTimeLeft(d))
}

// Passes returns in how many passes over /proc trees were looked through that are scanned
// at once while a pass is under way, and who was found of each.
func Passes(ctx context.Context, trees []*Tree) (passes int, found [][]Member, err error) {
	q := &scanQueue{turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	var g sync.WaitGroup
	views, errs := make([]*view, len(trees)), make([]error, len(trees))
	for i, t := range trees {
		g.Go(func() { views[i], errs[i] = q.scan(ctx, t, nil) })
	}
	for queued := 0; queued < len(trees); sleep(time.Millisecond) {
		q.mu.Lock()
		queued = len(q.waiting)
		q.mu.Unlock()
	}
	<-q.turn
	g.Wait()
	surveys := map[*survey]bool{}
	for i, v := range views {
		if errs[i] != nil {
			return 0, nil, errs[i]
		}
		surveys[v.survey] = true
		found = append(found, v.found)
	}
	return len(surveys), found, nil
}

// ScanBehind is a scan whose ctx ends while it waits for its turn, and reports how many
// wait then.
func ScanBehind(t *Tree) (waiting int, err error) {
	q := &scanQueue{turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = q.scan(ctx, t, nil)
	return len(q.waiting), err
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

// Looker is the PID of the process that looks; 0: there is none.
func Looker() int {
	apart.mu.Lock()
	defer apart.mu.Unlock()
	if apart.now == nil {
		return 0
	}
	return apart.now.pid
}

// DismissLooker is what happens when that has had nothing to do for a while.
func DismissLooker() {
	apart.mu.Lock()
	l := apart.now
	apart.mu.Unlock()
	if l != nil {
		apart.dismiss(l)
	}
}

// LookHere is the opposite of LookApart.
func LookHere() {
	apart.mu.Lock()
	defer apart.mu.Unlock()
	apart.enabled = false
	if apart.now != nil {
		_ = apart.now.stdin.Close() // whatever it still looks at
		apart.now = nil
	}
}

// Traceable is traceable.
func Traceable(path string) error { return traceable(path) }

// BehindTheLook has f called between the look at a program and its execve.
func BehindTheLook(f func()) (restore func()) {
	behindTheLook = f
	return func() { behindTheLook = nil }
}

// MainProcesses are those that are marked, by PID.
func MainProcesses() map[int]*Process { return children.mainProcesses() }
