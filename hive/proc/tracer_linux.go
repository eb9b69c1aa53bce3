package proc

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracer is the thread that traces one child, from the fork until the child is let go or
// killed.
type tracer struct {
	end chan func() // what the thread does last; one is sent
}

// forkTimeout is how long a fork may take that is not given up. What hangs then is a chdir or
// an execve of a local file (promptPath).
const forkTimeout = 10 * time.Second

// forked is a child that stands in its execve.
type forked struct {
	pid, pidfd int
	err        error
}

// startTracer makes a child by fork, which is called on the tracer's thread, and returns when it
// stands at the first instruction of its program, having made the calls. On any error there
// is no child, or one that is being killed.
func startTracer(fork func() (pid, pidfd int, err error), calls []injected) (*tracer, forked) {
	t := &tracer{end: make(chan func(), 1)}
	result := make(chan forked, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		// A worker with this right could read every secret on the machine. It is a thread's; an
		// error: there is no such capability, and nothing to take.
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, unix.CAP_SYS_PTRACE, 0, 0)
		var f forked
		if f.pid, f.pidfd, f.err = fork(); f.err == nil {
			if f.err = begin(f.pid, calls); f.err != nil {
				closeAll(f.pidfd)
				killChild(f.pid)
			}
		}
		result <- f
		if f.err == nil {
			(<-t.end)()
		}
	}()
	for _, limit := range []time.Duration{forkTimeout, time.Second} { // hive may have been frozen meanwhile
		timer := time.NewTimer(limit)
		select {
		case f := <-result:
			timer.Stop()
			return t, f
		case <-timer.C:
		}
	}
	t.giveUp()
	go func() { // the child stands at its gate, if it gets as far as that
		if f := <-result; f.err == nil {
			closeAll(f.pidfd)
			killChild(f.pid)
		}
	}()
	return t, forked{err: errExecHangs}
}

// errExecHangs: nobody knows what becomes of the child, which is in its cgroup, so no other is
// started in its place.
var errExecHangs = fmt.Errorf("%w: the execve has not returned within %s", ErrHangs, forkTimeout)

// begin waits for the stop in the execve, and makes sure that the child can be let go.
func begin(pid int, calls []injected) error {
	if err := awaitStop(pid); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_EXITKILL); err != nil {
		return fmt.Errorf("PTRACE_SETOPTIONS: %w", err)
	}
	// If a set-id program was put in its place since it was looked at, Linux gives that nothing:
	// for what asked to be traced its own rights count (since 5.2, and closing a range of
	// descriptors is younger).
	// It is what it is: that a call can be made is found out before the child is recorded.
	return inject(pid, append(calls, deathSignal(unix.SIGKILL)))
}

// deathSignal sets the signal that a child gets when its parent, which is a thread, ends.
func deathSignal(sig unix.Signal) injected {
	return injected{number: unix.SYS_PRCTL, args: [4]uintptr{unix.PR_SET_PDEATHSIG, uintptr(sig)}}
}

// release lets the child run its program, and be nobody's tracee. The tracer ends. What
// comes from the channel may take as long as somebody else holds the child, by the freezer of
// its cgroup.
func (t *tracer) release(pid int) <-chan error {
	done := make(chan error, 1)
	t.end <- func() { done <- release(pid) }
	return done
}

func release(pid int) error {
	if err := inject(pid, []injected{deathSignal(0)}); err != nil {
		return err
	}
	if err := setSignalMask(pid, 0); err != nil {
		return err
	}
	if err := unix.PtraceDetach(pid); err != nil {
		return fmt.Errorf("PTRACE_DETACH: %w", err)
	}
	return nil
}

// giveUp ends the tracer. The child, which stands still, is its caller's to kill.
func (t *tracer) giveUp() { t.end <- func() {} }

// awaitStop waits until the child stands still: it has been told to go one step, or to execute
// its program. ErrGone: it has ended, and is not reaped yet.
func awaitStop(pid int) error {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waitid: %w", err)
		}
	}
	if info.Code != childTrapped {
		return ErrGone
	}
	return nil
}

// childTrapped is CLD_TRAPPED of waitid(2): a traced child stands still.
const childTrapped = 4

// setSignalMask sets which signals the child blocks (PTRACE_SETSIGMASK, Linux 3.11).
func setSignalMask(pid int, mask uint64) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETSIGMASK, uintptr(pid), unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("PTRACE_SETSIGMASK: %w", errno)
	}
	return nil
}
