package proc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

const (
	// killTimeout is how long what was killed may go on being seen alive.
	killTimeout = 5 * time.Second
	// scanInterval lies between the scans for members that got away.
	scanInterval = 50 * time.Millisecond
	// While all members are waited for they are checked at firstPoll after something has
	// happened, then half as often each time, and at pollInterval in the end.
	firstPoll    = 250 * time.Microsecond
	pollInterval = 10 * time.Millisecond
)

// Stop ends the tree as End does, for those who need not know how it ended.
func (t *Tree) Stop(ctx context.Context, how store.Stop) (left []Member, err error) {
	e, err := t.End(ctx, how)
	return e.Left, err
}

// End ends the tree: each signal of how in turn, to the main process or, with how.Tree
// or when the main process is dead, to every member; after each it waits how.Grace for the
// whole tree to end. What outlives the main process, if only that got the signal, gets it
// then and has the rest of the grace. What remains is killed: with a cgroup by
// cgroup.kill, and End returns when the kernel says that nothing is left, and has
// removed the cgroup; that is proof. Without one every member is stopped with SIGSTOP
// until a scan finds no new one, then killed, and searched for until two scans in a row
// have found nobody. That takes as long as the scans do: the tree is gone only when it
// was looked at, however busy the machine is. It is given up when members, known ones or
// new ones, are still seen after five seconds; it is best effort, because a chain that
// forks faster than it is scanned gets away.
//
// Ending.Left is what still runs, or the member found last where every scan found a new
// one; not empty means that the stop is incomplete. Before the killing an ended ctx ends
// it with ctx's error, and whatever was frozen is thawed. An unknown signal name is an
// error before anything is done. Only processes that are proven members get a signal,
// through a pidfd that was verified after it was opened. It must not be called twice at
// once for a tree; those of several trees share their scans.
func (t *Tree) End(ctx context.Context, how store.Stop) (Ending, error) {
	sigs, err := parseSignals(how.Signals)
	if err != nil {
		return Ending{}, fmt.Errorf("stop: %w", err)
	}
	s := &stopper{tree: t, tracked: make(map[procKey]*trackedMember)}
	s.dir, s.hasCgroup = cgroupDir(t.Cgroup)
	defer s.close()
	if err := s.requestStop(ctx, sigs, how); err != nil {
		return Ending{}, fmt.Errorf("stop: %w", err)
	}
	var left []Member
	// A tree whose main process has left the cgroup is killed there and searched for, too.
	mainOutside := s.hasCgroup && s.mainLeftCgroup()
	if s.hasCgroup {
		left, err = s.killCgroup(ctx)
	}
	if err == nil && (!s.hasCgroup || mainOutside) {
		left, err = s.killMembers(ctx, newTimeLeft(killTimeout))
	}
	if err != nil {
		err = fmt.Errorf("stop: %w", err)
	}
	return Ending{Left: left, Killed: s.killed}, err
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
	killed         bool // somebody who was alive was sent SIGKILL
}

func (s *stopper) close() {
	for _, m := range s.tracked {
		closeAll(m.fd)
	}
}

// requestStop signals and waits. It returns nil when it is time to kill, or nothing is
// left to kill.
func (s *stopper) requestStop(ctx context.Context, sigs []syscall.Signal, how store.Stop) error {
	for _, sig := range sigs {
		all := how.Tree || !s.mainAlive()
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
		if ended, err := s.awaitTree(ctx, sig, how.Grace, all); ended || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// awaitTree waits until the tree has ended, as far as it is known, at most for grace. all
// says that every member got the signal; else those that outlive the main process get it
// then: a shell passes nothing on to the server that it waits for.
func (s *stopper) awaitTree(ctx context.Context, sig syscall.Signal, grace time.Duration, all bool) (bool, error) {
	var mainEnds <-chan struct{}
	if s.mainAlive() {
		mainEnds = s.tree.Main.Done()
	}
	poll := time.NewTimer(firstPoll)
	defer poll.Stop()
	for last, wait := time.Now(), firstPoll; ; wait = min(2*wait, pollInterval) {
		if !all && !s.mainAlive() {
			all = true
			if err := s.signalSurvivors(ctx, sig); err != nil {
				return false, err
			}
		}
		if s.treeEnded() {
			return true, nil
		}
		if grace <= 0 {
			return false, nil
		}
		poll.Reset(wait)
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-mainEnds: // the most that there is to wait for
			mainEnds, wait = nil, firstPoll/2
		case <-poll.C:
		}
		grace -= elapsed(&last)
	}
}

// signalSurvivors signals what has outlived the main process.
func (s *stopper) signalSurvivors(ctx context.Context, sig syscall.Signal) error {
	// Most stops: nobody is left, and no scan is needed to see it.
	if s.hasCgroup && s.cgroupEmpty() {
		return nil
	}
	if _, err := s.scan(ctx); err != nil {
		return err
	}
	s.signalMembers(sig)
	return nil
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

// timeLeft is what is left of a time in which hive ran.
type timeLeft struct {
	left time.Duration
	last time.Time
}

func newTimeLeft(d time.Duration) *timeLeft { return &timeLeft{left: d, last: time.Now()} }

func (p *timeLeft) over() bool {
	p.left -= elapsed(&p.last)
	return p.left <= 0
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
	s.killed = s.killed || !s.cgroupEmpty()
	if err := cgroup.Kill(s.dir); err != nil {
		// A kernel before 5.14, or cgroup.kill cannot be written (EMFILE, EACCES): one by one then.
		// If the cgroup was removed meanwhile, it was empty.
		if busy, unknown := cgroup.Populated(s.dir); unknown != nil || busy {
			left, failed := s.killMembers(ctx, newTimeLeft(killTimeout))
			if failed != nil {
				return left, errors.Join(fmt.Errorf("kill cgroup %s: %w", s.tree.Cgroup, err), failed)
			}
			if len(left) > 0 {
				return left, nil
			}
		}
	}
	for p := newTimeLeft(killTimeout); !s.cgroupEmpty(); {
		if ctx.Err() != nil {
			return s.cgroupLeft(), ctx.Err()
		}
		// Unless they have just gone: then it is empty in a moment.
		if left := s.cgroupLeft(); len(left) > 0 && p.over() {
			return left, nil
		}
		sleep(time.Millisecond)
	}
	// A cgroup that can be removed is empty: this is the proof.
	if err := cgroup.Remove(ctx, s.dir); err != nil {
		if ctx.Err() != nil || errors.Is(err, unix.EBUSY) {
			return s.cgroupLeft(), err
		}
		// A right that is missing, or EIO, says nothing of what is in it: two clean scans are the
		// proof then. The directory is left to PruneCgroups.
		return s.killMembers(ctx, newTimeLeft(killTimeout))
	}
	s.awaitMain(ctx)
	return nil, ctx.Err()
}

func (s *stopper) cgroupEmpty() bool {
	busy, err := cgroup.Populated(s.dir)
	return err == nil && !busy
}

// awaitMain waits for the watching goroutine, so that the exit of the main process is
// known when End returns. That one needs half a second at most once it runs.
func (s *stopper) awaitMain(ctx context.Context) {
	if s.tree.Main == nil || s.mainAlive() {
		return
	}
	select {
	case <-s.tree.Main.watched:
	case <-ctx.Done():
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
func (s *stopper) killMembers(ctx context.Context, p *timeLeft) ([]Member, error) {
	s.newcomerSignal = unix.SIGSTOP
	if err := s.freeze(ctx, p); err != nil {
		return s.livingMembers(), err
	}
	s.newcomerSignal = unix.SIGKILL
	s.kill()
	// Two clean scans, because a process can be forked behind the back of one.
	for clean := 0; clean < 2; {
		sleep(scanInterval)
		added, err := s.scan(ctx)
		if err != nil {
			return s.left(), err
		}
		if clean = s.countCleanScan(clean, added); clean > 0 {
			continue // nobody is seen: however long that took, it is no reason to give up
		}
		s.kill()
		if !p.over() {
			continue
		}
		if left := s.left(); len(left) > 0 {
			return left, nil
		}
		if added > 0 {
			return []Member{s.lastFound}, nil // its successor, which runs now, has not been seen yet
		}
	}
	s.awaitMain(ctx)
	return nil, ctx.Err()
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
		s.killed = true
		_ = s.tree.Main.Signal(unix.SIGKILL)
	}
	s.killed = s.killed || len(s.livingMembers()) > 0
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
func (s *stopper) freeze(ctx context.Context, p *timeLeft) error {
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
		if added == 0 || p.over() {
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
