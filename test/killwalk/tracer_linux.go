package main

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is an interesting system call that hive is about to make.
type call struct {
	n    int // the how many-th it is, over all threads
	name string
	tid  int
	args [6]uint64
}

// tracer follows one hive with all its threads, but no process that it starts.
type tracer struct {
	pid int
	// decide says what becomes of a call. It is asked on the tracer's thread while all that
	// is known of hive is that this thread of it stands still.
	decide func(call) action
	calls  int                  // so far
	killed call                 // the call that it was killed at
	ended  bool                 // it has ended by itself
	exits  map[int]func() error // by thread: what is to be done when its call has returned
	held   map[int]time.Time    // by thread: when its call is made
}

// action is what becomes of a call.
type action struct {
	kill  bool          // hive ends with kill -9 before the call is made
	delay time.Duration // the call is made so much later; the other threads go on
	// instead changes the call before it is made; what it returns, if that is not nil, is
	// done when it has returned. ptrace(2): registers are changed at the stop at entry or exit.
	instead func(tid int) (afterwards func() error, err error)
}

// place says where hive was killed.
func (t *tracer) place(in string) string {
	if t.killed.n == 0 {
		return fmt.Sprintf("after %s of %d calls", in, t.calls)
	}
	return fmt.Sprintf("at call %d of %s (%s)", t.killed.n, in, t.killed.name)
}

// follow launches hive and follows it until it has ended. It takes its thread for itself:
// whoever forks is the tracer of what asks for one, and nobody else may give it orders.
// launched is told once hive runs.
func (t *tracer) follow(launch func(*syscall.SysProcAttr) (pid int, err error), launched chan<- error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t.exits, t.held = map[int]func() error{}, map[int]time.Time{}
	pid, err := launch(&syscall.SysProcAttr{Ptrace: true, Setpgid: true})
	if err == nil {
		t.pid = pid
		err = t.begin()
	}
	launched <- err
	if err != nil {
		return err
	}
	for {
		var ws unix.WaitStatus
		// By its process group: who waits for any child takes those that others wait for.
		tid, err := unix.Wait4(-t.pid, &ws, unix.WALL|t.poll(), nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && tid == 0:
			if err := t.release(); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("wait4: %w", err)
		case ws.Stopped():
		case tid == t.pid: // a thread group's leader is waited for when its threads are gone
			t.ended = !ws.Signaled()
			return nil
		default:
			continue
		}
		if err := t.stopped(tid, ws); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			_ = unix.Kill(t.pid, unix.SIGKILL)
			return err
		}
	}
}

// poll is WNOHANG while a thread is held: its time is to be looked at, too.
func (t *tracer) poll() int {
	if len(t.held) == 0 {
		return 0
	}
	return unix.WNOHANG
}

// release lets those threads go whose time has come.
func (t *tracer) release() error {
	for tid, at := range t.held {
		if time.Now().After(at) {
			delete(t.held, tid)
			if err := unix.PtraceSyscall(tid, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	time.Sleep(time.Millisecond)
	return nil
}

// begin waits for the stop that follows the exec, and lets hive go.
func (t *tracer) begin() error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &ws, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for the exec of hive: %w", err)
	}
	// Without TRACEFORK and TRACEVFORK what hive starts is not traced, and lives on when it is killed.
	err := unix.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL)
	if err != nil {
		return fmt.Errorf("PTRACE_SETOPTIONS: %w", err)
	}
	return unix.PtraceSyscall(t.pid, 0)
}

// stopped deals with one stop of a thread and lets it go on.
func (t *tracer) stopped(tid int, ws unix.WaitStatus) error {
	sig := ws.StopSignal()
	switch sig {
	case unix.SIGTRAP | 0x80: // TRACESYSGOOD: before or behind a system call
		stays, err := t.syscall(tid)
		if err != nil || stays {
			return err
		}
		sig = 0
	// A new thread begins with a SIGSTOP of ptrace's own; a trap is an event.
	case unix.SIGSTOP, unix.SIGTRAP:
		sig = 0
	}
	return unix.PtraceSyscall(tid, int(sig))
}

// syscallInfo is struct ptrace_syscall_info of linux/ptrace.h, as it is at an entry.
type syscallInfo struct {
	op    uint8
	_     [3]uint8
	arch  uint32
	ip    uint64
	sp    uint64
	nr    uint64
	args  [6]uint64
	extra [16]uint8
}

const (
	infoEntry = 1 // PTRACE_SYSCALL_INFO_ENTRY
	infoExit  = 2
)

// syscall deals with the entry into a system call, or the exit from it.
func (t *tracer) syscall(tid int) (stays bool, err error) {
	var info syscallInfo
	// Since Linux 5.3.
	//nolint:gosec // the kernel writes at most as much as it is told is there
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return false, fmt.Errorf("PTRACE_GET_SYSCALL_INFO: %w", errno)
	}
	if info.op == infoExit {
		if afterwards := t.exits[tid]; afterwards != nil {
			delete(t.exits, tid)
			return false, afterwards()
		}
		return false, nil
	}
	if info.op != infoEntry || !interesting(t.pid, info.nr, info.args) {
		return false, nil
	}
	t.calls++
	c := call{t.calls, name(info.nr), tid, info.args}
	a := t.decide(c)
	switch {
	case a.kill:
		t.killed = c
		return true, unix.Kill(t.pid, unix.SIGKILL)
	case a.delay > 0:
		t.held[tid] = time.Now().Add(a.delay)
		return true, nil
	case a.instead != nil:
		t.exits[tid], err = a.instead(tid)
	}
	return false, err
}
