package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/store"
)

// Gated is a child that exists and waits: it has its PID, session, cgroup and
// environment, and has run nothing of its program. If hive dies, it exits. Open
// or Abort must be called; neither is safe to call from two goroutines at once.
type Gated struct {
	p      *Process
	cgroup string

	openByte byte     // what opens the gate
	user     string   // as whom the program is executed; empty: hive's own user
	uid      uint32   // the same as a number
	output   *os.File // what a child without a log writes to; nil: it has a log. The caller closes it

	mu     sync.Mutex
	tracer *tracer  // of a traced child; nil once used
	open   *os.File // write end of the gate's pipe; nil once used
	report *os.File // read end of the gate's report; nil once read to its end
	opened bool     // the byte has been written
}

// Identity returns what is to be recorded before Open. It does not change when
// the program is executed.
func (g *Gated) Identity() store.Identity { return g.p.Identity() }

// Process returns the child, from Start on: for ForwardSignals, so that a signal
// that comes before the program runs ends the child and not its caller, and for
// Exit after a failed Open. SIGTERM, SIGINT and SIGHUP before Open end it: the gate process at
// once, a traced child when it is opened, before the first instruction of its program.
// SIGUSR1 and SIGUSR2 have no effect on the gate process, and end a traced child, too.
func (g *Gated) Process() *Process { return g.p }

// Cgroup returns the child's own cgroup relative to the mount, to be recorded;
// empty if it has none.
func (g *Gated) Cgroup() string { return g.cgroup }

// UID returns the user as whom the program is executed, to be recorded.
func (g *Gated) UID() uint32 { return g.uid }

// Open lets the child execute its program and waits until it has. An *ExecError
// says that it could not; the child has been reaped then and its cgroup removed.
// ErrGone says that the child had died before; Process().Exit() says how. (A traced child
// that has a signal pending dies at once and is returned all the same.) When ctx ends,
// the program may or may not run: call Open again to go on waiting, or Abort to end it.
// After success, or an error that is not from ctx, the Gated is of no more use.
func (g *Gated) Open(ctx context.Context) (*Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tracer != nil {
		return g.release(ctx)
	}
	if g.report == nil {
		return nil, ErrGateOpened
	}
	if !g.opened {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("open gate: %w", err)
		}
		if err := g.sendOpen(); err != nil {
			g.terminate(0)
			return nil, fmt.Errorf("open gate: %w", err)
		}
	}
	// From here on the program may run: a context that ends decides nothing.
	report, err := g.readReport(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("open gate: %w", ctx.Err())
	}
	if err != nil {
		g.terminate(0)
		return nil, fmt.Errorf("open gate: %w", err)
	}
	if len(report) == 0 { // execve has closed the gate's end
		g.report.Close()
		g.report = nil
		return g.p, nil
	}
	g.terminate(gateGrace)
	step, errno, ok := gate.ParseReport(report)
	if !ok {
		return nil, fmt.Errorf("open gate: report %q is not from a gate", report)
	}
	failed := &ExecError{Step: step, Errno: syscall.Errno(errno)}
	if g.user != "" {
		return nil, fmt.Errorf("as user %s: %w", g.user, failed)
	}
	return nil, failed
}

// release is Open of a traced child: it has executed its program, and lacks only its first
// instruction.
func (g *Gated) release(ctx context.Context) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	t := g.tracer
	g.tracer = nil
	released := t.release(g.p.PID())
	var err error
	select {
	case err = <-released:
	case <-ctx.Done():
		// Somebody else holds it, by a freezer or a debugger, and perhaps no longer than this.
		err = fmt.Errorf("it stands still, and not for hive: %w", ErrGone)
	}
	if err == nil {
		return g.p, nil
	}
	// Somebody has killed it, or its tracer can do no more: nothing of it may run.
	if !g.p.alive() {
		err = ErrGone
	}
	g.kill(0)
	return nil, fmt.Errorf("release: %w", err)
}

// sendOpen writes the one byte. EPIPE: the child does not wait any more.
func (g *Gated) sendOpen() error {
	_, err := g.open.Write([]byte{g.openByte})
	g.open.Close()
	g.open, g.opened = nil, true
	if errors.Is(err, unix.EPIPE) {
		err = ErrGone
		if !gate.Waits { // a build for tests, whose children run on at once
			err = nil
		}
	}
	return err
}

// readReport reads to the end of the file: an empty report means that the program was
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
	if g.tracer != nil {
		g.tracer.giveUp()
		g.tracer = nil
		g.kill(0)
		return
	}
	if g.report == nil {
		return
	}
	grace := gateGrace
	if g.opened {
		grace = 0
	}
	g.terminate(grace)
}

// terminate closes the pipes, which makes a gate exit, kills the child after the grace,
// reaps it and removes its cgroup.
func (g *Gated) terminate(grace time.Duration) {
	if g.open != nil {
		g.open.Close()
		g.open = nil
	}
	g.report.Close()
	g.report = nil
	g.kill(grace)
}

// kill kills the child after the grace, reaps it and removes its cgroup.
func (g *Gated) kill(grace time.Duration) {
	dir, hasCgroup := cgroupDir(g.cgroup)
	if !g.p.awaitDone(grace) {
		// An opened gate may have become the program, which may have started others: they
		// are in its cgroup.
		if hasCgroup {
			_ = cgroup.Kill(dir)
		}
		_ = g.p.Signal(unix.SIGKILL)
		g.p.awaitDone(gateGrace)
	}
	g.p.Close()
	if hasCgroup {
		_ = cgroup.Remove(context.Background(), dir)
	}
}

// awaitDone waits at most d for the end of the process, and then until it has been
// reaped and its exit is known: a Close in between would leave a zombie.
func (p *Process) awaitDone(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.watched:
	case <-t.C:
		if p.alive() {
			return false
		}
		<-p.watched // it has ended: this takes reapTimeout at most
	}
	return true
}
