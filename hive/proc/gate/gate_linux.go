package gate

import (
	"os"
	"syscall"
	"unsafe"
)

func init() {
	if len(os.Args) == 0 || os.Args[0] != Arg0 || !isPipe(WaitFD) {
		return
	}
	run()
}

// isPipe keeps a person who runs `exec -a hive-gate hive` from getting the gate.
func isPipe(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO
}

// run is the gate; it does not return. It is on the main thread: the runtime
// keeps the main goroutine there until all initialisers have run, so the signal
// mask set below is the one that execve hands on.
func run() {
	b := byte(Go)
	if Waits {
		b = awaitByte()
	}
	if b != Go && b != GoNoHangup {
		os.Exit(ExitNotOpened)
	}
	// If the program was executed, this does not return.
	step, errno := execute(os.Args[1:], b == GoNoHangup)
	report := Report(step, uint32(errno))
	_, _ = syscall.Write(ReportFD, report[:])
	os.Exit(ExitNotExecuted)
}

// awaitByte waits for the byte that hive writes and returns it; 0 for anything but
// exactly one byte. A gate that took end of file for "go" would run programs without a record
// when hive is killed.
func awaitByte() byte {
	var buf [2]byte // a second byte is a mistake, and is noticed
	for {
		n, err := syscall.Read(WaitFD, buf[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n != 1 {
			return 0
		}
		return buf[0]
	}
}

// execute returns only if a step failed.
func execute(args []string, keepHangup bool) (byte, syscall.Errno) {
	if len(args) < 4 {
		return StepArguments, syscall.EINVAL
	}
	what, dir, args := args[0], args[1], args[2:]
	// Everything is undone here that the program must not inherit of hive.
	if errno := closeOnExec(); errno != 0 {
		return StepDescriptors, errno
	}
	if errno := defaultSignals(keepHangup); errno != 0 {
		return StepSignals, errno
	}
	dropPtrace()
	if has(what, AnotherUser) {
		dropRightsAndKeys()
	}
	if has(what, NoNewPrivs) {
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
			return StepPrivileges, errno
		}
	}
	if dir != "" {
		if err := syscall.Chdir(dir); err != nil {
			return StepDirectory, errnoOf(err)
		}
	}
	err := syscall.Exec(args[0], args[1:], syscall.Environ()) //nolint:gosec // executing what hive says is the purpose
	return StepExec, errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	errno, _ := err.(syscall.Errno) //nolint:errorlint // package syscall returns it bare, and package errors would be one more import
	return errno
}

func has(what string, letter byte) bool {
	for _, c := range []byte(what) {
		if c == letter {
			return true
		}
	}
	return false
}

const (
	prSetNoNewPrivs   = 38 // PR_SET_NO_NEW_PRIVS
	prCapAmbient      = 47 // PR_CAP_AMBIENT
	prCapAmbientLower = 3  // PR_CAP_AMBIENT_LOWER
	capSysPtrace      = 19 // CAP_SYS_PTRACE
)

// dropPtrace takes the right to inspect the processes of all users out of what the
// program inherits. A hive that is not root has it by AmbientCapabilities= of its
// unit, to see who holds a port; a worker with it could read every secret on the
// machine. Who has no such capability, and a kernel without ambient ones, answers
// with an error, and there is nothing to take.
func dropPtrace() {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientLower, capSysPtrace, 0, 0, 0)
}

const (
	capabilityVersion3 = 0x20080522 // _LINUX_CAPABILITY_VERSION_3: two words each
	joinSessionKeyring = 1          // KEYCTL_JOIN_SESSION_KEYRING
)

// dropRightsAndKeys drops what of hive's stays with a child that has become another user.
// Of the capabilities only the inheritable ones do (capabilities(7)). The keys of the
// session that hive was started in, whoever's they are, are open to who possesses the
// session's keyring (keyrings(7)), and that is inherited. A system that has no
// capabilities or keyrings, or whose filter forbids the calls, answers with an error,
// as does one where this user has as many keyrings as it may have.
func dropRightsAndKeys() {
	header := [2]uint32{capabilityVersion3, 0}
	var none [6]uint32
	_, _, _ = syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_KEYCTL, joinSessionKeyring, 0, 0)
}

const (
	sysCloseRange     = 436 // the same number on every architecture; package syscall is older than the call
	closeRangeCloexec = 4   // kernel >= 5.11
)

// closeOnExec marks every descriptor above 2: an API socket that hive was
// started with must never reach a worker, which would keep its port.
func closeOnExec() syscall.Errno {
	_, _, errno := syscall.RawSyscall(sysCloseRange, WaitFD, uintptr(^uint32(0)), closeRangeCloexec)
	if errno == 0 {
		return 0
	}
	// An older kernel, or a sandbox that does not know the call.
	if fds, ok := openDescriptors(); ok {
		return setCloexecEach(fds)
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return errno
	}
	for fd := uint64(WaitFD); fd < lim.Max && fd < 1<<20; fd++ {
		_ = setCloexec(int(fd))
	}
	return 0
}

// openDescriptors lists /proc/self/fd, for kernels without close_range.
func openDescriptors() ([]int, bool) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil, false
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return nil, false
	}
	var fds []int
	for _, name := range names {
		fd := 0 // package strconv would be one more import
		for _, c := range []byte(name) {
			fd = fd*10 + int(c-'0')
		}
		if fd >= WaitFD {
			fds = append(fds, fd)
		}
	}
	return fds, true
}

func setCloexecEach(fds []int) syscall.Errno {
	for _, fd := range fds {
		if errno := setCloexec(fd); errno != 0 && errno != syscall.EBADF {
			return errno
		}
	}
	return 0
}

func setCloexec(fd int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, syscall.FD_CLOEXEC)
	return errno
}

const (
	lastSignal = 64
	sigsetSize = lastSignal / 8
	sigSetMask = 2 // SIG_SETMASK
)

// defaultSignals undoes what was inherited: execve resets handlers, but an
// ignored signal stays ignored and a blocked one blocked. From here to execve
// the Go runtime is without its handlers; it needs none for so short a way. With
// keepHangup SIGHUP is left alone: the runtime, too, does not touch it when it
// starts with it ignored, and its handler, if there is one, ends with execve.
func defaultSignals(keepHangup bool) syscall.Errno {
	var action [64]byte // a zero struct sigaction is SIG_DFL; larger than the kernel's on every architecture
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		if sig == uintptr(syscall.SIGKILL) || sig == uintptr(syscall.SIGSTOP) || keepHangup && sig == uintptr(syscall.SIGHUP) {
			continue
		}
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0)
		if errno != 0 {
			return errno
		}
	}
	var none [sigsetSize]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&none)), 0, sigsetSize, 0, 0)
	return errno
}
