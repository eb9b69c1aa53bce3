package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
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
	once    sync.Once
	unfit   error                 // why a child of this process would not begin as one of the gate does
	works   atomic.Bool           // a child was traced
	refused atomic.Pointer[error] // what the kernel or a filter has said, before one was
}

// GateOnly has all children started behind the gate process. It is for before the first start.
func GateOnly() { tracing.once.Do(func() { tracing.unfit = notTraced("gate: process") }) }

// Traces returns nil if children are started under trace, where their programs allow it, and
// else why they are not.
func Traces() error {
	tracing.once.Do(func() { tracing.unfit = prepareTracing() })
	if refused := tracing.refused.Load(); refused != nil {
		return *refused
	}
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
	// SIGINT does after `hive &` in a shell without job control. Of those that were ignored Go
	// catches all but SIGINT and SIGHUP (sigInstallGoHandler in runtime/signal_unix.go).
	if signal.Ignored(unix.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGINT)
	}
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
	ctx, cancel := context.WithTimeout(context.Background(), forkTimeout)
	defer cancel()
	if err := keepDescriptors(); err != nil {
		return err
	}
	if _, err := lookAtProgram.As(ctx, c.userName, c.argv[0]); err != nil {
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
	g, err := c.startWith(true)
	switch {
	case err == nil:
		tracing.works.Store(true)
	case !tracing.works.Load() && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)):
		// Yama, or the filter of a container: it would say the same every time. If it was the
		// program's own fault, there is only a little time lost with the others.
		err = fmt.Errorf("%w: %w", errNotTraced, err)
		tracing.refused.Store(&err)
	}
	return g, err
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
