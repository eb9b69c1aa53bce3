package proc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/hive/proc/internal/cgroup"
)

// Start creates the child behind its gate. It forks, and returns when the gate's
// binary has been executed (about a millisecond); nothing of the program has run
// then. The caller records Gated.Identity and only then calls Open. Safe for
// concurrent use.
func Start(spec Spec) (*Gated, error) {
	c, err := spec.child()
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	g, err := c.start()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	return g, nil
}

// child is what is to be forked.
type child struct {
	argv, env       []string
	dir             string
	log             string // empty, unless it is a foreground child: what it writes is to be read
	foreground      bool
	cgroup, stateID string      // name of the leaf, and whose root it is in
	user            *Credential // nil: hive's own
	noNewPrivs      bool
	// diesWithThread has the kernel kill it when the thread ends that has forked it.
	diesWithThread bool
}

func (s *Spec) child() (*child, error) {
	if err := s.checkForeground(); err != nil {
		return nil, err
	}
	c := &child{
		argv: s.Argv, env: s.Env, dir: s.Dir, log: s.Log,
		foreground: s.Foreground, cgroup: s.Cgroup, stateID: s.StateID,
	}
	if err := c.check(s.User, s.NoNewPrivs); err != nil {
		return nil, err
	}
	if !s.Foreground {
		c.env = s.stamped(c.uid())
	}
	return c, nil
}

// uid is the user as whom the child is started.
func (c *child) uid() uint32 {
	if c.user != nil {
		return c.user.UID
	}
	return uint32(os.Geteuid())
}

// check finds what would otherwise look like a failure of the gate.
func (c *child) check(user string, noNewPrivs *bool) error {
	if len(c.argv) == 0 || !filepath.IsAbs(c.argv[0]) {
		return errors.New("argv[0] must be the absolute path of the program")
	}
	for _, arg := range c.argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return errors.New("an argument holds a zero byte")
		}
	}
	if strings.IndexByte(c.dir, 0) >= 0 {
		return errors.New("working directory: its name holds a zero byte")
	}
	if err := c.become(user); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	c.noNewPrivs = c.user != nil && c.user.unprivileged()
	if noNewPrivs != nil {
		c.noNewPrivs = *noNewPrivs
	}
	return c.enter()
}

// start opens the files and forks.
func (c *child) start() (*Gated, error) {
	files, err := c.openFiles()
	if err != nil {
		return nil, err
	}
	defer files.closeChildEnds()
	g, err := c.fork(files)
	if err != nil {
		files.closeOurEnds()
		return nil, err
	}
	return g, nil
}

// checkForeground refuses what a foreground child does not have: to leave it out
// without a word would lose a log, or the proof whose a process is.
func (s *Spec) checkForeground() error {
	if !s.Foreground && s.Log == "" {
		return errors.New("log: expected the path of a file")
	}
	if !s.Foreground {
		return nil
	}
	for _, f := range []struct{ name, value string }{
		{"Log", s.Log}, {"Cgroup", s.Cgroup}, {"StateID", s.StateID}, {"LeaseID", s.LeaseID}, {"WorkerID", s.WorkerID}, {"User", s.User},
	} {
		if f.value != "" {
			return fmt.Errorf("%s must be empty for a foreground child, it is %q", f.name, f.value)
		}
	}
	return nil
}

// word is what opens the gate. A person who says nohup means the program that is
// to run, not the one that starts it.
func (c *child) word() byte {
	if c.foreground && signal.Ignored(unix.SIGHUP) {
		return gate.GoNoHangup
	}
	return gate.Go
}

// fork makes the child, in a new cgroup if there can be one. It takes over our
// ends of the pipes only if it succeeds.
func (c *child) fork(f *files) (*Gated, error) {
	path := ""
	var leaf *os.File
	if c.cgroup != "" {
		var err error
		leaf, path, err = newLeaf(c.stateID, c.cgroup)
		if err != nil && !errors.Is(err, ErrNoCgroup) {
			return nil, err
		}
	}
	p, err := c.forkInto(f, leaf)
	if leaf != nil && err != nil {
		// Not every kernel and sandbox can clone into a cgroup: systemd's
		// RestrictNamespaces= hides clone3. The gate can be moved then, as nothing of
		// the program runs yet. Without a leaf the worker runs as well. A real error
		// comes again.
		p, err = c.forkInto(f, nil)
		if err != nil || cgroup.Enter(leaf.Name(), p.PID()) != nil {
			dropLeaf(leaf)
			leaf, path = nil, ""
		}
	}
	if err != nil {
		return nil, err
	}
	if leaf != nil {
		leaf.Close()
	}
	g := &Gated{
		p: p, cgroup: path, word: c.word(), uid: c.uid(),
		open:   os.NewFile(uintptr(f.open), "gate"),
		report: os.NewFile(uintptr(f.report), "gate report"),
	}
	if f.read >= 0 {
		g.output = os.NewFile(uintptr(f.read), "output")
	}
	if c.user != nil {
		g.user = c.user.Name
	}
	return g, nil
}

func dropLeaf(leaf *os.File) {
	name := leaf.Name()
	leaf.Close()
	_ = unix.Rmdir(name)
}

// forkInto forks and starts to follow the child. On any error there is no child.
func (c *child) forkInto(f *files, leaf *os.File) (*Process, error) {
	children.fork.RLock()
	defer children.fork.RUnlock()
	pid, pidfd, err := c.clone(f, leaf)
	if err != nil && c.user != nil {
		return nil, c.whyRefused(err)
	}
	if err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	if pidfd < 0 {
		discard(pid)
		return nil, fmt.Errorf("%w: no pidfd from clone", ErrUnsupported)
	}
	id, err := identifyChild(pid, pidfd)
	if err != nil {
		closeAll(pidfd)
		discard(pid)
		return nil, err
	}
	p, err := follow(id, pidfd)
	if err != nil {
		discard(pid)
		return nil, err
	}
	return p, nil
}

// clone makes the process; pidfd is -1 where the kernel gives none.
func (c *child) clone(f *files, leaf *os.File) (pid, pidfd int, err error) {
	argv := append([]string{gate.Arg0, c.letters(), c.dir, c.argv[0]}, c.argv...)
	pidfd = -1
	attr := &syscall.ProcAttr{
		Env:   c.env,
		Files: []uintptr{uintptr(f.std[0]), uintptr(f.std[1]), uintptr(f.std[2]), uintptr(f.wait), uintptr(f.status)},
		Sys:   &syscall.SysProcAttr{Setsid: !c.foreground, PidFD: &pidfd},
	}
	if c.user != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: c.user.UID, Gid: c.user.GID, Groups: c.user.Groups}
	}
	if c.diesWithThread {
		attr.Sys.Pdeathsig = unix.SIGKILL
	}
	if leaf != nil {
		attr.Sys.UseCgroupFD = true
		attr.Sys.CgroupFD = int(leaf.Fd())
	}
	pid, err = syscall.ForkExec("/proc/self/exe", argv, attr) //nolint:gosec // programs of the configuration are what it is for
	runtime.KeepAlive(leaf)
	return pid, pidfd, err
}

// letters tells the gate what to do besides executing the program.
func (c *child) letters() string {
	var what []byte
	if c.user != nil && c.user.unprivileged() {
		what = append(what, gate.AnotherUser)
	}
	if c.noNewPrivs {
		what = append(what, gate.NoNewPrivs)
	}
	return string(what)
}

// discard ends and reaps a child that nobody knows yet. kill(2) is right here
// and only here: until it is reaped the number of our own child cannot change hands.
func discard(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
