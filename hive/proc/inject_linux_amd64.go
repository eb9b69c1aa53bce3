package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// canInject: system calls can be made in a stopped child of this architecture.
const canInject = true

const (
	instruction = 2    // bytes of SYSCALL
	userCode    = 0x33 // __USER_CS: the child executes 64-bit code (arch/x86/include/asm/segment.h)
	redZone     = 128  // bytes below the stack pointer that are the program's (System V ABI, amd64)
	maxErrno    = 4095
)

var syscallInstruction = []byte{0x0f, 0x05}

// injected is a system call that a stopped child is to make.
type injected struct {
	number uintptr
	args   [4]uintptr
	// memory, if there is any, is put where two arguments point to: the second to its 8th byte.
	memory []byte
	anyway bool // an error of it is none, as where the system does not know it
}

// inject has a child that stands still make system calls, and stand as before. It is called
// on the thread that traces the child.
func inject(pid int, calls []injected) (err error) {
	// A signal in between would be delivered instead of the step.
	if err := setSignalMask(pid, ^uint64(0)); err != nil {
		return err
	}
	var was unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &was); err != nil {
		return fmt.Errorf("PTRACE_GETREGS: %w", err)
	}
	if was.Cs != userCode {
		return notTraced("it executes 32-bit code")
	}
	pc := uintptr(was.Rip)
	text := make([]byte, instruction)
	if _, err := unix.PtracePeekText(pid, pc, text); err != nil {
		return fmt.Errorf("PTRACE_PEEKTEXT: %w", err)
	}
	if _, err := unix.PtracePokeText(pid, pc, syscallInstruction); err != nil {
		return fmt.Errorf("PTRACE_POKETEXT: %w", err)
	}
	for _, c := range calls {
		if err := c.step(pid, was); err != nil {
			return err
		}
	}
	if _, err := unix.PtracePokeText(pid, pc, text); err != nil {
		return fmt.Errorf("PTRACE_POKETEXT: %w", err)
	}
	if err := unix.PtraceSetRegs(pid, &was); err != nil {
		return fmt.Errorf("PTRACE_SETREGS: %w", err)
	}
	return nil
}

// step makes one call.
func (c *injected) step(pid int, was unix.PtraceRegs) error {
	regs := was
	regs.Rax, regs.Orig_rax = uint64(c.number), ^uint64(0) // no call is under way that could be restarted
	args := c.args
	if c.memory != nil {
		at := (uintptr(was.Rsp) - redZone - uintptr(len(c.memory))) &^ 15
		before := make([]byte, len(c.memory))
		if _, err := unix.PtracePeekData(pid, at, before); err != nil {
			return fmt.Errorf("PTRACE_PEEKDATA: %w", err)
		}
		if _, err := unix.PtracePokeData(pid, at, c.memory); err != nil {
			return fmt.Errorf("PTRACE_POKEDATA: %w", err)
		}
		args[0], args[1] = at, at+8
		defer func() { _, _ = unix.PtracePokeData(pid, at, before) }() // the program has written nothing there yet
	}
	regs.Rdi, regs.Rsi, regs.Rdx, regs.R10 = uint64(args[0]), uint64(args[1]), uint64(args[2]), uint64(args[3])
	regs.R8 = 0
	if err := unix.PtraceSetRegs(pid, &regs); err != nil {
		return fmt.Errorf("PTRACE_SETREGS: %w", err)
	}
	var after unix.PtraceRegs
	for range 3 { // a SIGSTOP, which cannot be blocked, comes before the step, and is dropped
		if err := unix.PtraceSingleStep(pid); err != nil {
			return fmt.Errorf("PTRACE_SINGLESTEP: %w", err)
		}
		if err := awaitStop(pid); err != nil {
			return err
		}
		if err := unix.PtraceGetRegs(pid, &after); err != nil {
			return fmt.Errorf("PTRACE_GETREGS: %w", err)
		}
		if after.Rip != was.Rip {
			break
		}
	}
	if after.Rip != was.Rip+instruction {
		return errors.New("the child has stopped elsewhere than behind the call")
	}
	if n := -int64(after.Rax); n > 0 && n <= maxErrno && !c.anyway {
		return fmt.Errorf("system call %d in the child: %w", c.number, syscall.Errno(n))
	}
	return nil
}

// noCapabilities is capset(2) of a thread that is to have none: header and data.
func noCapabilities() injected {
	memory := make([]byte, 8+24)
	binary.LittleEndian.PutUint32(memory, unix.LINUX_CAPABILITY_VERSION_3)
	return injected{number: unix.SYS_CAPSET, memory: memory, anyway: true}
}
