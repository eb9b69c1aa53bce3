package main

import (
	"golang.org/x/sys/unix"
)

// failing lets a call fail without being made: a number that is none is skipped by the
// kernel (ptrace(2), seccomp(2)), and what it returns is changed behind it.
func failing(errno unix.Errno) func(tid int) (func() error, error) {
	return func(tid int) (func() error, error) {
		err := change(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) })
		return func() error {
			return change(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(errno) })
		}, err
	}
}

// shortened lets a write write half of what it was given.
func shortened(tid int) (func() error, error) {
	return nil, change(tid, func(r *unix.PtraceRegs) { r.Rdx /= 2 })
}

func change(tid int, how func(*unix.PtraceRegs)) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	how(&regs)
	return unix.PtraceSetRegs(tid, &regs)
}
