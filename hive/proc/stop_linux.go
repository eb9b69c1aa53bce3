package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

const (
	// killTimeout is how long the part after the grace may take.
	killTimeout = 5 * time.Second
	// scanInterval lies between the scans for members that got away.
	scanInterval = 50 * time.Millisecond
	// afterMainTimeout is how long the rest of a tree may take, within the grace, to end by
	// itself after its main process has.
	afterMainTimeout = time.Second
	// pollInterval is how often the members are checked while waiting for all to end.
	pollInterval = 10 * time.Millisecond
)

// Stop ends the tree: each signal of how in turn, to the main process or, with
// how.Tree or when the main process is dead, to every member; after each it waits
// how.Grace for the whole tree to end (if only the main process got the signal, at most
// a second of it once that has ended). What remains is killed: with a cgroup by
// cgroup.kill, and Stop returns when the kernel says that nothing is left, and has
// removed the cgroup; that is proof. Without one every member is stopped with SIGSTOP
// until a scan finds no new one, then killed, and searched for twice more: five seconds
// at most, and best effort, because a chain that forks faster than it is scanned gets
// away.
//
// left is what still runs, or the member found last where every scan found a new one;
// not empty means that the stop is incomplete. Before the killing an ended ctx ends Stop
// with ctx's error, and whatever was frozen is thawed. An unknown signal name is an error
// before anything is done. Only processes that are proven members get a signal, through a
// pidfd that was verified after it was opened. It must not be called twice at once for a
// tree.
func (t *Tree) Stop(ctx context.Context, how store.Stop) (left []Member, err error) {
	sigs, err := parseSignals(how.Signals)
	if err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	s := &stopper{tree: t, tracked: make(map[procKey]*trackedMember)}
	s.dir, s.hasCgroup = cgroupDir(t.Cgroup)
	defer s.close()
	if err := s.requestStop(ctx, sigs, how); err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	// A tree whose main process has left the cgroup is killed there and searched for, too.
	mainOutside := s.hasCgroup && s.mainLeftCgroup()
	if s.hasCgroup {
		left, err = s.killCgroup(ctx)
	}
	if err == nil && (!s.hasCgroup || mainOutside) {
		left, err = s.killMembers(ctx)
	}
	if err != nil {
		return left, fmt.Errorf("stop: %w", err)
	}
	return left, nil
}

// stopper is one stop of one tree.
type stopper struct {
	tree      *Tree
	dir       string // of the cgroup
	hasCgroup bool
	tracked   map[procKey]*trackedMember
	// newcomerSignal is what every new member is sent as soon as it is tracked; 0: nothing.
	newcomerSignal syscall.Signal
	lastFound      Member
}

func (s *stopper) close() {
	for _, m := range s.tracked {
		closeAll(m.fd)
	}
}

// requestStop signals and waits. It returns nil when it is time to kill, or nothing is
// left to kill.
func (s *stopper) requestStop(ctx context.Context, sigs []syscall.Signal, how store.Stop) error {
	all := how.Tree || !s.mainAlive()
	for _, sig := range sigs {
		if !s.hasCgroup || all {
			// Also when only the main process gets the signal: once it has ended, its
			// session and its children prove nothing any more.
			if _, err := s.scan(ctx); err != nil {
				return err
			}
		}
		if all {
			s.signalMembers(sig)
		}
		if s.mainAlive() {
			_ = s.tree.Main.Signal(sig) // it may have ended just now
		}
		if ended, err := s.awaitTree(ctx, how.Grace, all); ended || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// awaitTree waits until the tree has ended, as far as it is known, at most for grace. If
// only the main process got the signal, the others have no reason to end soon after it,
// and get afterMainTimeout.
func (s *stopper) awaitTree(ctx context.Context, grace time.Duration, all bool) (bool, error) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var done <-chan struct{}
	if !all {
		done = s.tree.Main.Done()
	}
	for last := time.Now(); ; {
		if s.treeEnded() {
			return true, nil
		}
		if grace <= 0 {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-done:
			done = nil // else it would be chosen again and again
			grace = min(grace, afterMainTimeout)
		case <-tick.C:
		}
		grace -= elapsed(&last)
	}
}

// suspendThreshold is the most that the time between two polls counts as grace. If it was
// longer hive was suspended meanwhile, and most likely the processes that it waits for
// were too: docker pause freezes a container, and the clock goes on.
const suspendThreshold = time.Second

// elapsed returns the time since last, at most suspendThreshold, and moves last on.
func elapsed(last *time.Time) time.Duration {
	now := time.Now()
	d := min(now.Sub(*last), suspendThreshold)
	*last = now
	return d
}

func (s *stopper) mainAlive() bool { return s.tree.Main != nil && s.tree.Main.alive() }

// mainLeftCgroup reports a living main process outside its recorded cgroup: to kill the
// cgroup does not kill the whole tree then.
func (s *stopper) mainLeftCgroup() bool {
	if !s.mainAlive() {
		return false
	}
	m, err := findCgroupMount()
	if err != nil {
		return true // to search for members does no harm
	}
	p, ok := m.Of(s.tree.Main.PID())
	return !ok || !within(p, s.tree.Cgroup)
}

func (s *stopper) treeEnded() bool {
	if s.mainAlive() || len(s.livingMembers()) > 0 {
		return false
	}
	if !s.hasCgroup {
		return true
	}
	busy, err := cgroup.Populated(s.dir)
	return err == nil && !busy
}

// livingMembers returns the members under a pidfd that have not ended.
func (s *stopper) livingMembers() []Member {
	var out []Member
	for _, m := range s.tracked {
		if !hasEnded(m.fd) {
			out = append(out, m.member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return a.PID - b.PID })
	return out
}

func (s *stopper) signalMembers(sig syscall.Signal) {
	for _, m := range s.tracked {
		if !hasEnded(m.fd) {
			_ = sendSignal(m.fd, sig) // one that may not be signalled is returned as left
		}
	}
}

// killCgroup kills the cgroup and waits until the kernel says that it is empty.
func (s *stopper) killCgroup(ctx context.Context) ([]Member, error) {
	err := cgroup.Kill(s.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		if busy, err := cgroup.Populated(s.dir); err == nil && busy {
			return s.killMembers(ctx) // kernel < 5.14
		}
		err = nil // it has been removed meanwhile, so it was empty
	}
	if err != nil {
		return s.cgroupLeft(), fmt.Errorf("kill cgroup %s: %w", s.tree.Cgroup, err)
	}
	deadline := time.Now().Add(killTimeout)
	for !s.cgroupEmpty() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return s.cgroupLeft(), ctx.Err()
		}
		sleep(time.Millisecond)
	}
	// A cgroup that can be removed is empty: this is the proof.
	if err := cgroup.Remove(ctx, s.dir); err != nil {
		return s.cgroupLeft(), err
	}
	s.awaitMain(ctx, deadline)
	return nil, ctx.Err()
}

func (s *stopper) cgroupEmpty() bool {
	busy, err := cgroup.Populated(s.dir)
	return err == nil && !busy
}

// awaitMain waits for the watching goroutine, so that the exit of the main
// process is known when Stop returns.
func (s *stopper) awaitMain(ctx context.Context, deadline time.Time) {
	if s.tree.Main == nil || s.mainAlive() {
		return
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-s.tree.Main.watched:
	case <-ctx.Done():
	case <-t.C:
	}
}

// cgroupLeft lists what is left in the cgroup.
func (s *stopper) cgroupLeft() []Member {
	var out []Member
	for _, pid := range cgroup.PIDs(s.dir) {
		st, err := procfs.ReadStat(pid)
		if err != nil || st.Zombie() {
			continue
		}
		out = append(out, Member{PID: pid, Start: st.Start, Proof: ProofCgroup, Program: st.Program()})
	}
	return out
}

// killMembers kills the tree without a cgroup: it freezes, kills, and scans until two
// scans in a row have found nothing.
func (s *stopper) killMembers(ctx context.Context) ([]Member, error) {
	deadline := time.Now().Add(killTimeout)
	s.newcomerSignal = unix.SIGSTOP
	if err := s.freeze(ctx, deadline); err != nil {
		return s.livingMembers(), err
	}
	// Two clean scans, because a process can be forked behind the back of one.
	s.newcomerSignal = unix.SIGKILL
	clean := 0
	for first := true; clean < 2; first = false {
		if !first {
			sleep(scanInterval)
			added, err := s.scan(ctx)
			if err != nil {
				return s.left(), err
			}
			clean = s.countCleanScan(clean, added)
		}
		s.kill()
		if time.Now().After(deadline) {
			break
		}
	}
	s.awaitMain(ctx, deadline)
	left := s.left()
	if clean < 2 && len(left) == 0 {
		left = append(left, s.lastFound) // its successor, which runs now, has not been seen yet
	}
	return left, nil
}

// countCleanScan returns how many scans in a row have found nothing, with one more that
// has found so many.
func (s *stopper) countCleanScan(clean, added int) int {
	if added > 0 || s.mainAlive() || len(s.livingMembers()) > 0 {
		return 0
	}
	return clean + 1
}

func (s *stopper) kill() {
	if s.mainAlive() {
		_ = s.tree.Main.Signal(unix.SIGKILL)
	}
	s.signalMembers(unix.SIGKILL)
}

// left is what still runs, the main process included.
func (s *stopper) left() []Member {
	out := s.livingMembers()
	if s.mainAlive() {
		id := s.tree.Main.Identity()
		m := Member{PID: id.PID, Start: id.StartTicks}
		if st, err := procfs.ReadStat(id.PID); err == nil {
			m.Program = st.Program()
		}
		out = append(out, m)
	}
	return out
}

// freeze stops every member, so that none forks between a scan and the kill, and scans
// until no new one is found. On an error it thaws them.
func (s *stopper) freeze(ctx context.Context, deadline time.Time) error {
	for {
		if s.mainAlive() {
			_ = s.tree.Main.Signal(unix.SIGSTOP)
		}
		// A member that was forked before its parent stopped is found by the next scan, and
		// stopped by it (newcomerSignal).
		s.signalMembers(unix.SIGSTOP)
		added, err := s.scan(ctx)
		if err != nil {
			s.thaw()
			return err
		}
		if added == 0 || time.Now().After(deadline) {
			return nil
		}
	}
}

func (s *stopper) thaw() {
	if s.mainAlive() {
		_ = s.tree.Main.Signal(unix.SIGCONT)
	}
	s.signalMembers(unix.SIGCONT)
}
