//go:build linux

package main

import (
	"syscall"
	"unsafe"
)

// fork makes a child of one thread. If it has got the PID it executes the program,
// else it ends. Between the fork and that it may only make system calls: of Go's
// runtime nothing but this thread is in it.
//
//go:norace
//go:noinline
func fork(want int, path *byte, argv, envv **byte) (int, error) {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	if pid != 0 {
		return int(pid), nil
	}
	if own, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0); int(own) == want {
		syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envv))) //nolint:gosec // as execve(2) takes them
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
