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
		// the program runs yet; and the worker can do without a leaf. An error that has
		// another cause happens again.
		p, err = c.forkInto(f, nil)
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
	g := &Gated{
		p: p, cgroup: path, openByte: c.openByte(), uid: c.uid(),
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

// removeLeaf gives a leaf up that no process is in.
func removeLeaf(leaf *os.File) {
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
		return nil, c.forkError(err)
	}
	if err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
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
func (c *child) clone(f *files, leaf *os.File) (pid, pidfd int, err error) {
	// The gate's arguments: see package gate.
	argv := append([]string{gate.Arg0, c.gateLetters(), c.dir, c.argv[0]}, c.argv...)
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
	runtime.KeepAlive(leaf)                                   // a finalizer would close the descriptor
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
