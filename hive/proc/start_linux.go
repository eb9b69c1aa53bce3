package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/hive/proc/internal/cgroup"
)

// Start creates the child, and returns when it stands at its gate (about a millisecond):
// nothing of the program has run then. The gate is the kernel, which has stopped it in its
// execve, or a process that has hive's binary in its place and waits. The caller records Gated.Identity and only then calls Open. Safe for
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

// start starts the child under trace, or behind the gate process.
func (c *child) start() (*Gated, error) {
	g, err := c.startTraced()
	if err == nil || errors.Is(err, errExecHangs) {
		return g, err
	}
	return c.startWith(false)
}

// startWith opens the files and forks.
func (c *child) startWith(traced bool) (*Gated, error) {
	files, err := c.openFiles(traced)
	if err != nil {
		return nil, err
	}
	defer files.closeChildEnds()
	g, err := c.fork(files, traced)
	if err != nil {
		files.closeOurEnds()
		return nil, err
	}
	return g, nil
}

// fork makes the child, in a new cgroup if there can be one. It takes over our
// ends of the pipes only if it succeeds.
func (c *child) fork(f *files, traced bool) (*Gated, error) {
	path := ""
	var leaf *os.File
	if c.cgroup != "" {
		var err error
		leaf, path, err = newLeaf(c.stateID, c.cgroup)
		if err != nil && !errors.Is(err, ErrNoCgroup) {
			return nil, err
		}
	}
	p, t, err := c.forkInto(f, leaf, traced)
	if leaf != nil && err != nil {
		// Not every kernel and sandbox can clone into a cgroup: systemd's
		// RestrictNamespaces= hides clone3. The gate can be moved then, as nothing of
		// the program runs yet; and the worker can do without a leaf. An error that has
		// another cause happens again.
		if !errors.Is(err, errExecHangs) && !errors.Is(err, errNotTraced) {
			p, t, err = c.forkInto(f, nil, traced)
		}
		if err != nil || cgroup.Enter(leaf.Name(), p.PID()) != nil {
			removeLeaf(leaf)
			leaf, path = nil, ""
		}
	}
	if err != nil {
		return nil, err
	}
	if leaf != nil {
		leaf.Close()
	}
	g := &Gated{p: p, cgroup: path, openByte: c.openByte(), uid: c.uid(), tracer: t}
	if t == nil {
		g.open, g.report = os.NewFile(uintptr(f.open), "gate"), os.NewFile(uintptr(f.report), "gate report")
	}
	if f.read >= 0 {
		g.output = os.NewFile(uintptr(f.read), "output")
	}
	if c.user != nil {
		g.user = c.user.Name
	}
	return g, nil
}

// removeLeaf gives a leaf up that no process is in.
func removeLeaf(leaf *os.File) {
	name := leaf.Name()
	leaf.Close()
	_ = unix.Rmdir(name)
}

// forkInto forks and starts to follow the child. On any error there is no child.
// The tracer is nil if it is not traced.
func (c *child) forkInto(f *files, leaf *os.File, traced bool) (*Process, *tracer, error) {
	children.fork.RLock()
	defer children.fork.RUnlock()
	if traced {
		t, made := startTracer(func() (int, int, error) { return c.clone(f, leaf, true) }, c.calls())
		if made.err != nil {
			return nil, nil, made.err
		}
		p, err := followChild(made.pid, made.pidfd)
		if err != nil {
			t.giveUp()
			return nil, nil, err
		}
		return p, t, nil
	}
	pid, pidfd, err := c.clone(f, leaf, false)
	if err != nil && c.user != nil {
		return nil, nil, c.forkError(err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("fork: %w", err)
	}
	p, err := followChild(pid, pidfd)
	return p, nil, err
}

// followChild starts to follow a child that was forked just now. On any error it is killed.
func followChild(pid, pidfd int) (*Process, error) {
	// From here on the child exists, unrecorded: whatever fails, it must not stay.
	if pidfd < 0 {
		killChild(pid)
		return nil, fmt.Errorf("%w: no pidfd from clone", ErrUnsupported)
	}
	id, err := identifyChild(pid, pidfd)
	if err != nil {
		closeAll(pidfd)
		killChild(pid)
		return nil, err
	}
	p, err := follow(id, pidfd)
	if err != nil {
		killChild(pid)
		return nil, err
	}
	return p, nil
}

// clone makes the process; pidfd is -1 where the kernel gives none.
func (c *child) clone(f *files, leaf *os.File, traced bool) (pid, pidfd int, err error) {
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
	// The gate's arguments: see package gate.
	program, argv := "/proc/self/exe", append([]string{gate.Arg0, c.gateLetters(), c.dir, c.argv[0]}, c.argv...)
	if traced {
		program, argv = c.argv[0], c.argv
		attr.Dir, attr.Files = c.dir, attr.Files[:3]
		attr.Sys.Ptrace, attr.Sys.Pdeathsig = true, unix.SIGKILL
	}
	pid, err = syscall.ForkExec(program, argv, attr) //nolint:gosec // programs of the configuration are what it is for
	runtime.KeepAlive(leaf)                          // a finalizer would close the descriptor
	return pid, pidfd, err
}

// killChild ends and reaps a child that is not recorded. kill(2) is safe here: until it
// is reaped the number of our own child cannot change hands.
func killChild(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
