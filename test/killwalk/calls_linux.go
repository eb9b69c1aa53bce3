package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// calls are the system calls that change what others see: files, processes, sockets. A
// kill before each of them, and one at the end, are all the kills that differ.
var calls = map[uint64]string{
	unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev",
	unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FSYNC: "fsync", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_OPENAT: "openat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT: "renameat",
	unix.SYS_RENAMEAT2: "renameat2", unix.SYS_LINKAT: "linkat", unix.SYS_FLOCK: "flock",
	unix.SYS_BIND: "bind", unix.SYS_LISTEN: "listen", unix.SYS_CONNECT: "connect", unix.SYS_SENDMSG: "sendmsg",
	unix.SYS_CLONE: "clone", unix.SYS_CLONE3: "clone3", unix.SYS_EXECVE: "execve", unix.SYS_WAITID: "waitid",
	unix.SYS_KILL: "kill", unix.SYS_PIDFD_OPEN: "pidfd_open", unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal",
}

func name(nr uint64) string { return calls[nr] }

// interesting reports whether a call is counted.
func interesting(pid int, nr uint64, args [6]uint64) bool {
	switch nr {
	case unix.SYS_OPENAT: // what only reads changes nothing, and hive reads a lot in /proc
		return args[2]&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT) != 0
	case unix.SYS_CLONE: // a thread more
		return args[0]&unix.CLONE_THREAD == 0
	case unix.SYS_WRITE: // Go's runtime wakes itself by an eventfd
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, args[0]))
		return err != nil || !strings.Contains(target, "[eventfd]")
	}
	return calls[nr] != ""
}
