package proc

import (
	"errors"
	"fmt"
	"syscall"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrUnsupported: this operating system or kernel lacks what the package is built on.
	ErrUnsupported = errors.New("hive starts and follows workers on Linux 5.4 or later only")
	// ErrGone: the process has ended.
	ErrGone = errors.New("process has ended")
	// ErrProgramNotFound: there is no such program, or it cannot be executed.
	ErrProgramNotFound = errors.New("program not found")
	// ErrAskedFailed: a program that Ask ran did not exit with 0.
	ErrAskedFailed = errors.New("the program failed")
	// ErrNoCgroup: there is no cgroup v2 here in which hive may make groups.
	ErrNoCgroup = errors.New("no writable cgroup v2")
	// ErrOtherNamespace: the process was recorded in another PID namespace, which may still exist.
	ErrOtherNamespace = errors.New("recorded in another PID namespace")
	// ErrUnknownUser: no such user.
	ErrUnknownUser = errors.New("unknown user")
	// ErrOtherUser: hive may not start programs as that user.
	ErrOtherUser = errors.New("cannot run as another user")
	// ErrLog: the log of a process could not be opened.
	ErrLog = errors.New("open log")
	// ErrHangs: an access to a file has not returned in time.
	ErrHangs = errors.New("the file system does not answer")
	// ErrUnknownSignal: no such signal.
	ErrUnknownSignal = errors.New("unknown signal")
	// ErrGateOpened: Open or Abort has been called already.
	ErrGateOpened = errors.New("gate already opened or aborted")
)

// ExecError is a program that could not be executed although it was found. It
// unwraps to Errno, so errors.Is(err, fs.ErrNotExist) works.
type ExecError struct {
	Step  string // "execve", "chdir", "close_range", "sigaction", "no_new_privs"
	Errno syscall.Errno
}

func (e *ExecError) Error() string { return fmt.Sprintf("%s: %s", e.Step, e.Errno.Error()) }

func (e *ExecError) Unwrap() error { return e.Errno }
