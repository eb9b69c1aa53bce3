package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/hive/proc/internal/procfs"
)

// The kernel itself can be the gate of a child: a traced process stops in its execve, before
// the first instruction of its program, and ends with its tracer (ptrace(2), PTRACE_O_EXITKILL;
// until that is set, by its death signal). That saves the execve of the gate. Where it cannot
// be, or would take rights from the program, and whenever anything about it fails, the gate
// process is used, which says what is wrong.

// errNotTraced: this child is to be started behind the gate.
var errNotTraced = errors.New("it cannot be traced")

func notTraced(why string) error { return fmt.Errorf("%w: %s", errNotTraced, why) }

// tracing is what is known of tracing in this process.
var tracing struct {
	once  sync.Once
	unfit error // why no child of this process is traced; nil: those are that can be
}

// GateOnly has all children started behind the gate process. It is for before the first start.
func GateOnly() { tracing.once.Do(func() { tracing.unfit = notTraced("gate: process") }) }

// Traces returns nil if children are started under trace, where their programs allow it, and
// else why they are not.
func Traces() error {
	tracing.once.Do(func() {
		if tracing.unfit = prepareTracing(); tracing.unfit == nil {
			tracing.unfit = tryTracing()
		}
	})
	return tracing.unfit
}

// prepareTracing brings this process to where its children begin as those of the gate do.
func prepareTracing() error {
	if !gate.Waits || !canInject {
		return notTraced("not in this build")
	}
	if err := keepDescriptors(); err != nil {
		return err
	}
	// A caught signal has its default again behind an execve, an ignored one stays ignored, as
	// SIGINT does after `hive &` in a shell without job control, and with Go also once nobody
	// is notified of it any more.
	ignored, err := procfs.Ignored(os.Getpid())
	if err != nil {
		return notTraced(err.Error())
	}
	if ignored&bitOf(unix.SIGINT) != 0 {
		signal.Notify(make(chan os.Signal, 1), unix.SIGINT)
	}
	// Of the others Go leaves some as they are (runtime/sigtab_linux_generic.go). Those of the C library
	// are nobody's here, and make, for one, starts programs with the first of them ignored.
	for sig := firstLibrarySignal; sig <= lastLibrarySignal; sig++ {
		if ignored&bitOf(sig) != 0 && setDefault(sig) == nil {
			ignored &^= bitOf(sig)
		}
	}
	if ignored&^(bitOf(unix.SIGINT)|bitOf(unix.SIGHUP)) != 0 { // SIGHUP: see traced
		return notTraced("hive was started with signals ignored")
	}
	return nil
}

// The C libraries keep these from programs (signal(7), nptl(7)).
const firstLibrarySignal, lastLibrarySignal unix.Signal = 32, 34

// setDefault sets what becomes of a signal that the Go runtime does not handle.
func setDefault(sig unix.Signal) error {
	var action [4]uint64 // struct sigaction of the kernel: SIG_DFL, and no flags
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(uint64(0)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// bitOf is a signal in a mask of the kernel's.
func bitOf(sig unix.Signal) uint64 { return 1 << (sig - 1) }

// tryTracing traces a child that executes hive's own binary, and kills it where it stops.
// Yama, the filter of a container or a kernel without all that is needed show here, and not at
// each start.
func tryTracing() error {
	pidfd := -1
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: unix.SIGKILL, PidFD: &pidfd}}
	t, made := startTracer(func() (int, int, error) {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{gate.Arg0}, attr) //nolint:gosec // it is this program
		return pid, pidfd, err
	}, nil)
	if errors.Is(made.err, errNotTraced) {
		return made.err
	}
	if made.err != nil {
		return fmt.Errorf("%w: %w", errNotTraced, made.err)
	}
	t.giveUp()
	closeAll(made.pidfd)
	killChild(made.pid)
	return nil
}

// keepDescriptors keeps from all children what this process was started with, and what a
// library has opened for all: an API socket in a worker would keep its port. Close_range(2),
// Linux 5.11, takes no longer with more descriptors.
func keepDescriptors() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return notTraced("close_range: " + err.Error())
	}
	return nil
}

// behindTheLook is for a test that exchanges the program then; nil: there is none.
var behindTheLook func()

// traced says why a child cannot be traced; nil: it can.
func (c *child) traced() error {
	if err := Traces(); err != nil {
		return err
	}
	switch {
	case c.diesWithThread: // by the signal that is taken from a traced child
		return notTraced("it is to end with a thread")
	case !c.foreground && signal.Ignored(unix.SIGHUP):
		return notTraced("hive was started with SIGHUP ignored")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	if err := keepDescriptors(); err != nil {
		return err
	}
	if _, err := lookAtProgram.As(ctx, c.userName, [2]string{c.argv[0], c.dir}); err != nil {
		return notTraced(err.Error())
	}
	if behindTheLook != nil {
		behindTheLook()
	}
	return nil
}

// startTraced starts the child under trace.
func (c *child) startTraced() (*Gated, error) {
	if err := c.traced(); err != nil {
		return nil, err
	}
	return c.startWith(true)
}

// calls are what a traced child does where one of the gate's does it before its execve.
func (c *child) calls() []injected {
	var calls []injected
	if c.user != nil && c.user.unprivileged() {
		// In the gate, too, no error of these is one: see dropRightsAndKeys.
		calls = append(calls, noCapabilities(), injected{number: unix.SYS_KEYCTL, args: [4]uintptr{unix.KEYCTL_JOIN_SESSION_KEYRING}, anyway: true})
	}
	if c.noNewPrivs {
		calls = append(calls, injected{number: unix.SYS_PRCTL, args: [4]uintptr{unix.PR_SET_NO_NEW_PRIVS, 1}})
	}
	return calls
}
