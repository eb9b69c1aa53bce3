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
	// stopLimit is how long the part after the grace may take.
	stopLimit = 5 * time.Second
	// scanGap lies between the scans that look whether somebody got away.
	scanGap = 50 * time.Millisecond
	// settle is what the rest of a tree gets, within the grace, to end by itself
	// after its main process has.
	settle = time.Second
	// poll is how often the end of processes is looked for while waiting for many.
	poll = 10 * time.Millisecond
)

// Stop ends the tree: each signal of how in turn, to the main process or, with
// how.Tree or when the main process is dead, to everybody; after each it waits
// how.Grace for the whole tree to end (if only the main process was asked, at most
// a second of it once that has ended). What remains is killed: with a cgroup by cgroup.kill, and Stop
// returns when the kernel says that nobody is left, and has removed the cgroup;
// that is proof. Without one everything is stopped with SIGSTOP until a scan finds
// nobody new, then killed, and looked for twice more: five seconds at most, and
// best effort, because a chain that forks faster than it is scanned gets away.
//
// left is who still runs, or was found last where the scans found somebody new to
// the end; not empty means that the stop is incomplete. Before
// the killing an ended ctx ends Stop with ctx's error, and whatever was frozen is
// thawed. An unknown signal name is an error before anything is done. Only
// processes that are proven members get a signal, through a pidfd that was
// verified after it was opened. Not to be called twice at once for a tree.
func (t *Tree) Stop(ctx context.Context, how store.Stop) (left []Member, err error) {
	sigs, err := parseSignals(how.Signals)
	if err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	s := &stopper{tree: t, held: make(map[procKey]*heldProcess)}
	s.dir, s.grouped = cgroupDir(t.Cgroup)
	defer s.close()
	if err := s.ask(ctx, sigs, how); err != nil {
		return nil, fmt.Errorf("stop: %w", err)
	}
	strayed := s.grouped && s.mainStrayed()
	if s.grouped {
		left, err = s.killGroup(ctx)
	}
	if err == nil && (!s.grouped || strayed) {
		left, err = s.killScanned(ctx)
	}
	if err != nil {
		return left, fmt.Errorf("stop: %w", err)
	}
	return left, nil
}

// stopper is one stop of one tree.
type stopper struct {
	tree    *Tree
	dir     string // of the cgroup
	grouped bool
	held    map[procKey]*heldProcess
	urgent  syscall.Signal // what everybody new is sent at once; 0: nothing
	last    Member         // who was found last
}

// heldProcess is a member under a pidfd, so that it stays the same process.
type heldProcess struct {
	member Member
	fd     int
}

func (s *stopper) close() {
	for _, h := range s.held {
		closeAll(h.fd)
	}
}

// ask signals and waits. It returns nil when it is time to kill, or nothing is
// left to be killed.
func (s *stopper) ask(ctx context.Context, sigs []syscall.Signal, how store.Stop) error {
	all := how.Tree || !s.mainAlive()
	for _, sig := range sigs {
		if !s.grouped || all {
			// Also when only the main process is asked: once it has ended its
			// session and its children say nothing any more.
			if _, err := s.collect(ctx); err != nil {
				return err
			}
		}
		if all {
			s.signalHeld(sig)
		}
		if s.mainAlive() {
			_ = s.tree.Main.Signal(sig) // it may have ended just now
		}
		if ended, err := s.awaitEnd(ctx, how.Grace, all); ended || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// awaitEnd waits until the tree has ended, as far as it is known, at most for
// grace. If only the main process was asked, the others were not and need not be
// waited for so long once it has ended.
func (s *stopper) awaitEnd(ctx context.Context, grace time.Duration, all bool) (bool, error) {
	tick := time.NewTicker(poll)
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
			done = nil
			grace = min(grace, settle)
		case <-tick.C:
		}
		grace -= passed(&last)
	}
}

// stoodStill is the longest time between two ticks of poll that counts as grace.
// If it was longer hive was stopped meanwhile, and most likely those that it waits
// for were too: docker pause freezes a container, and the clock goes on.
const stoodStill = time.Second

// passed returns the time since last, at most stoodStill, and moves last on.
func passed(last *time.Time) time.Duration {
	now := time.Now()
	d := min(now.Sub(*last), stoodStill)
	*last = now
	return d
}

func (s *stopper) mainAlive() bool { return s.tree.Main != nil && s.tree.Main.alive() }

// mainStrayed reports a living main process outside its recorded cgroup; then
// the cgroup does not have the whole tree.
func (s *stopper) mainStrayed() bool {
	if !s.mainAlive() {
		return false
	}
	m, err := findCgroupMount()
	if err != nil {
		return true
	}
	p, ok := m.Of(s.tree.Main.PID())
	return !ok || !within(p, s.tree.Cgroup)
}

func (s *stopper) treeEnded() bool {
	if s.mainAlive() || len(s.living()) > 0 {
		return false
	}
	if !s.grouped {
		return true
	}
	busy, err := cgroup.Populated(s.dir)
	return err == nil && !busy
}

// living returns the members under a pidfd that have not ended.
func (s *stopper) living() []Member {
	var out []Member
	for _, h := range s.held {
		if !readable(h.fd) {
			out = append(out, h.member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return a.PID - b.PID })
	return out
}

func (s *stopper) signalHeld(sig syscall.Signal) {
	for _, h := range s.held {
		if !readable(h.fd) {
			_ = sendSignal(h.fd, sig) // who may not be signalled shows up as left
		}
	}
}

// hold opens a pidfd and then checks again that the process behind it is the one
// that was proven a member. Descent is a fact of the past and cannot be looked up
// once the parent has ended; that start time and PID are those of the process it
// was found for is what can be checked of it.
func hold(v *survey, m Member) (*heldProcess, bool) {
	fd, err := unix.PidfdOpen(m.PID, 0)
	if err != nil {
		return nil, false
	}
	st, err := procfs.ReadStat(m.PID)
	same := err == nil && st.Start == m.Start && !st.Zombie()
	if same && m.Proof != ProofDescent {
		_, proof := v.prove(&st)
		same = proof != "" && (proof != ProofSession || v.trees[0].Main.alive())
	}
	if !same || readable(fd) {
		closeAll(fd)
		return nil, false
	}
	return &heldProcess{member: m, fd: fd}, true
}

// killGroup kills the cgroup and waits until the kernel says that it is empty.
func (s *stopper) killGroup(ctx context.Context) ([]Member, error) {
	err := cgroup.Kill(s.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		if busy, err := cgroup.Populated(s.dir); err == nil && busy {
			return s.killScanned(ctx) // kernel < 5.14
		}
		err = nil
	}
	if err != nil {
		return s.groupLeft(), fmt.Errorf("kill cgroup %s: %w", s.tree.Cgroup, err)
	}
	deadline := time.Now().Add(stopLimit)
	for !s.groupEmpty() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return s.groupLeft(), ctx.Err()
		}
		wait(time.Millisecond)
	}
	if err := cgroup.Remove(ctx, s.dir); err != nil {
		return s.groupLeft(), err
	}
	s.awaitMain(ctx, deadline)
	return nil, ctx.Err()
}

func (s *stopper) groupEmpty() bool {
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

func (s *stopper) groupLeft() []Member {
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

// killScanned is the way without a cgroup.
func (s *stopper) killScanned(ctx context.Context) ([]Member, error) {
	deadline := time.Now().Add(stopLimit)
	s.urgent = unix.SIGSTOP
	if err := s.freeze(ctx, deadline); err != nil {
		return s.living(), err
	}
	s.urgent = unix.SIGKILL
	clean := 0
	for first := true; clean < 2; first = false {
		if !first {
			wait(scanGap)
			added, err := s.collect(ctx)
			if err != nil {
				return s.left(), err
			}
			clean = s.count(clean, added)
		}
		s.kill()
		if time.Now().After(deadline) {
			break
		}
	}
	s.awaitMain(ctx, deadline)
	left := s.left()
	if clean < 2 && len(left) == 0 {
		left = append(left, s.last) // who runs now has not been seen yet
	}
	return left, nil
}

// count returns how many scans in a row have found nobody.
func (s *stopper) count(clean, added int) int {
	if added > 0 || s.mainAlive() || len(s.living()) > 0 {
		return 0
	}
	return clean + 1
}

func (s *stopper) kill() {
	if s.mainAlive() {
		_ = s.tree.Main.Signal(unix.SIGKILL)
	}
	s.signalHeld(unix.SIGKILL)
}

// left is who still runs, the main process included.
func (s *stopper) left() []Member {
	out := s.living()
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

// freeze stops everybody, so that nobody forks between a scan and the kill, and
// scans until nobody new is found. On an error everybody goes on.
func (s *stopper) freeze(ctx context.Context, deadline time.Time) error {
	for {
		if s.mainAlive() {
			_ = s.tree.Main.Signal(unix.SIGSTOP)
		}
		s.signalHeld(unix.SIGSTOP)
		added, err := s.collect(ctx)
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
	s.signalHeld(unix.SIGCONT)
}
