package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/store"
)

// Gated is a child that exists and waits: it has its PID, session, cgroup and
// environment, and has run nothing of its program. If hive dies, it exits. Open
// or Abort must be called; neither is safe to call from two goroutines at once.
type Gated struct {
	p      *Process
	cgroup string

	mu     sync.Mutex
	open   *os.File // write end of the gate's pipe; nil once used
	report *os.File // read end of the gate's report; nil once read to its end
	opened bool     // the byte has been written
}

// Start creates the child behind its gate. It forks, and returns when the gate's
// binary has been executed (about a millisecond); nothing of the program has run
// then. The caller records Gated.Identity and only then calls Open. Safe for
// concurrent use.
func Start(spec Spec) (*Gated, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	files, err := openFiles(spec.Log)
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

// files is what a child gets, and our ends of its two pipes.
type files struct {
	null, log    int // the child's
	wait, status int // the child's ends: read, write
	open         int // our end, write
	report       int // our end, read
}

// openFiles makes everything close-on-exec: children that are forked at the same
// time must not keep the write end of this one's gate, or its end of file would
// not come when hive dies. The pipes are blocking at the child's ends, which
// os.Pipe would not leave them.
func openFiles(log string) (*files, error) {
	f := &files{null: -1, log: -1, wait: -1, status: -1, open: -1, report: -1}
	fail := func(what string, err error) (*files, error) {
		f.closeChildEnds()
		f.closeOurEnds()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var err error
	if f.null, err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fail("open "+os.DevNull, err)
	}
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NOFOLLOW
	if f.log, err = unix.Open(log, flags, 0o600); err != nil {
		return fail("open log "+log, err)
	}
	var pipe [2]int
	if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fail("pipe", err)
	}
	f.wait, f.open = pipe[0], pipe[1]
	if err = unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fail("pipe", err)
	}
	f.report, f.status = pipe[0], pipe[1]
	if err = unix.SetNonblock(f.report, true); err != nil {
		return fail("pipe", err)
	}
	return f, nil
}

func (f *files) closeChildEnds() { closeAll(f.null, f.log, f.wait, f.status) }
func (f *files) closeOurEnds()   { closeAll(f.open, f.report) }

func closeAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing was written that could be lost
		}
	}
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
		p: p, cgroup: cgroup,
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
		Files: []uintptr{uintptr(f.null), uintptr(f.log), uintptr(f.log), uintptr(f.wait), uintptr(f.status)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
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

// Identity returns what is to be recorded before Open. It does not change when
// the program is executed.
func (g *Gated) Identity() store.Identity { return g.p.Identity() }

// Cgroup returns the child's own cgroup relative to the mount, to be recorded;
// empty if it has none.
func (g *Gated) Cgroup() string { return g.cgroup }

// Open lets the child execute its program and waits until it has. An *ExecError
// says that it could not; the child has been reaped then and its cgroup removed.
// ErrGone says that the child had died before. When ctx ends, the program may or
// may not run: call Open again to go on waiting, or Abort to end it. After
// success, or an error that is not from ctx, the Gated is of no more use.
func (g *Gated) Open(ctx context.Context) (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.report == nil {
		return nil, ErrGateOpened
	}
	if !g.opened {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("open gate: %w", err)
		}
		if err := g.sayGo(); err != nil {
			g.end(0)
			return nil, fmt.Errorf("open gate: %w", err)
		}
	}
	report, err := g.readReport(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("open gate: %w", ctx.Err())
	}
	if err != nil {
		g.end(0)
		return nil, fmt.Errorf("open gate: %w", err)
	}
	if len(report) == 0 {
		g.report.Close()
		g.report = nil
		return g.p, nil
	}
	g.end(gateGrace)
	step, errno, ok := gate.ParseReport(report)
	if !ok {
		return nil, fmt.Errorf("open gate: report %q is not from a gate", report)
	}
	return nil, &ExecError{Step: step, Errno: syscall.Errno(errno)}
}

// sayGo writes the one byte. EPIPE: nobody waits any more.
func (g *Gated) sayGo() error {
	_, err := g.open.Write([]byte{gate.Go})
	g.open.Close()
	g.open, g.opened = nil, true
	if errors.Is(err, unix.EPIPE) {
		err = ErrGone
		if !gate.Waits {
			err = nil
		}
	}
	return err
}

// readReport reads to the end of file: nothing means that the program was
// executed. ctx interrupts it.
func (g *Gated) readReport(ctx context.Context) ([]byte, error) {
	if err := g.report.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = g.report.SetReadDeadline(time.Unix(1, 0))
	})
	report, err := io.ReadAll(io.LimitReader(g.report, 2*gate.ReportSize))
	if !stop() {
		<-interrupted // else its deadline could hit the read of the next call
	}
	return report, err
}

// gateGrace is how long a gate that has been told to exit may take for it.
const gateGrace = 2 * time.Second

// Abort gives the child up: it closes the pipe, waits until the gate has exited
// (after two seconds it is killed), reaps it and removes its cgroup. If Open was
// interrupted after the byte had been written, the program may run: its cgroup
// and the process are killed at once. Calling it again, or after Open has
// finished, does nothing.
func (g *Gated) Abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.report == nil {
		return
	}
	grace := gateGrace
	if g.opened {
		grace = 0
	}
	g.end(grace)
}

func (g *Gated) end(grace time.Duration) {
	if g.open != nil {
		g.open.Close()
		g.open = nil
	}
	g.report.Close()
	g.report = nil
	dir, hasCgroup := cgroupDir(g.cgroup)
	if !g.p.waitDone(grace) {
		if hasCgroup {
			_ = killCgroup(dir)
		}
		_ = g.p.Signal(unix.SIGKILL)
		g.p.waitDone(gateGrace)
	}
	g.p.Close()
	if hasCgroup {
		_ = removeCgroup(context.Background(), dir)
	}
}

// waitDone waits at most d for the end of the process.
func (p *Process) waitDone(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return !p.alive()
	}
}
