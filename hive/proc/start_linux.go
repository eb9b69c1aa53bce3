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
)

// Start creates the child behind its gate. It forks, and returns when the gate's
// binary has been executed (about a millisecond); nothing of the program has run
// then. The caller records Gated.Identity and only then calls Open. Safe for
// concurrent use.
func Start(spec Spec) (*Gated, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	files, err := spec.openFiles()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	defer files.closeChildEnds()
	g, err := spec.fork(files)
	if err != nil {
		files.closeOurEnds()
		return nil, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	return g, nil
}

// check finds what would otherwise look like a failure of the gate.
func (s *Spec) check() error {
	if err := s.checkForeground(); err != nil {
		return err
	}
	if len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]) {
		return errors.New("argv[0] must be the absolute path of the program")
	}
	for _, arg := range s.Argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return errors.New("an argument holds a zero byte")
		}
	}
	if s.Dir == "" {
		return nil
	}
	info, err := os.Stat(s.Dir)
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("working directory: %s is not a directory", s.Dir)
	}
	return nil
}

// checkForeground refuses what a foreground child does not have: to leave it out
// without a word would lose a log, or the proof whose a process is.
func (s *Spec) checkForeground() error {
	if !s.Foreground {
		return nil
	}
	for _, f := range []struct{ name, value string }{
		{"Log", s.Log}, {"Cgroup", s.Cgroup}, {"StateID", s.StateID}, {"LeaseID", s.LeaseID}, {"WorkerID", s.WorkerID},
	} {
		if f.value != "" {
			return fmt.Errorf("%s must be empty for a foreground child, it is %q", f.name, f.value)
		}
	}
	return nil
}

// word is what opens the gate. A person who says nohup means the program that is
// to run, not the one that starts it.
func (s *Spec) word() byte {
	if s.Foreground && signal.Ignored(unix.SIGHUP) {
		return gate.GoNoHangup
	}
	return gate.Go
}

// fork makes the child, in a new cgroup if there can be one. It takes over our
// ends of the pipes only if it succeeds.
func (s *Spec) fork(f *files) (*Gated, error) {
	cgroup := ""
	var leaf *os.File
	if s.Cgroup != "" {
		var err error
		leaf, cgroup, err = newLeaf(s.StateID, s.Cgroup)
		if err != nil && !errors.Is(err, ErrNoCgroup) {
			return nil, err
		}
	}
	p, err := s.forkInto(f, leaf)
	if leaf != nil && err != nil {
		// Not every kernel and sandbox can clone into a cgroup; the worker runs as
		// well without one. A real error comes again.
		dropLeaf(leaf)
		leaf, cgroup = nil, ""
		p, err = s.forkInto(f, nil)
	}
	if err != nil {
		return nil, err
	}
	if leaf != nil {
		leaf.Close()
	}
	return &Gated{
		p: p, cgroup: cgroup, word: s.word(),
		open:   os.NewFile(uintptr(f.open), "gate"),
		report: os.NewFile(uintptr(f.report), "gate report"),
	}, nil
}

func dropLeaf(leaf *os.File) {
	name := leaf.Name()
	leaf.Close()
	_ = unix.Rmdir(name)
}

// forkInto forks and starts to follow the child. On any error there is no child.
func (s *Spec) forkInto(f *files, leaf *os.File) (*Process, error) {
	argv := append([]string{gate.Arg0, s.Argv[0]}, s.Argv...)
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir: s.Dir, Env: s.stamped(),
		Files: []uintptr{uintptr(f.std[0]), uintptr(f.std[1]), uintptr(f.std[2]), uintptr(f.wait), uintptr(f.status)},
		Sys:   &syscall.SysProcAttr{Setsid: !s.Foreground, PidFD: &pidfd},
	}
	if s.Foreground {
		attr.Env = s.Env
	}
	if leaf != nil {
		attr.Sys.UseCgroupFD = true
		attr.Sys.CgroupFD = int(leaf.Fd())
	}
	children.fork.RLock()
	defer children.fork.RUnlock()
	pid, err := syscall.ForkExec("/proc/self/exe", argv, attr)
	runtime.KeepAlive(leaf)
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
