//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// serve is a worker. It answers every request with what it may do.
func serve(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	report := map[string]string{}
	for name, try := range tries() {
		report[name] = "ok"
		if err := try(); err != nil {
			report[name] = err.Error()
		}
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	report["user"], report["groups"] = fmt.Sprint(os.Geteuid()), fmt.Sprint(groups)
	text, err := json.Marshal(report)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(text)
	})}
	return server.Serve(ln)
}

// here is the directory that the test has put its files in.
const here = "/opt/hive-boot"

// tries is what engines do, and what they do not need.
func tries() map[string]func() error {
	return map[string]func() error{
		"lock memory":       lockMemory,
		"write and execute": func() error { return anonymous(unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC) },
		"share descriptors": shareDescriptors,
		"place memory":      func() error { return number(unix.SYS_SET_MEMPOLICY, 0, 0, 0) },
		"choose processors": func() error {
			var all unix.CPUSet
			return join(unix.SchedGetaffinity(0, &all), unix.SchedSetaffinity(0, &all))
		},
		"list interfaces":      func() error { _, err := net.Interfaces(); return err },
		"open a GPU":           func() error { return open(here + "/gpu") },
		"run a 32-bit helper":  func() error { return helper(here+"/probe32", os.Geteuid()) },
		"run a setuid helper":  func() error { return helper(here+"/setuid", 65534) },
		"start a thread":       func() error { done := make(chan struct{}); go close(done); <-done; return nil },
		"open a disk":          func() error { return open(here + "/disk") },
		"make a user":          func() error { return inNew(syscall.CLONE_NEWUSER) },
		"make a network":       func() error { return inNew(syscall.CLONE_NEWNET) },
		"mount":                mount,
		"load a module":        func() error { return unix.FinitModule(-1, "", 0) },
		"set the clock":        func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Nsec: -1}) },
		"take packets":         func() error { return socket(unix.AF_PACKET) },
		"use the kernel's AES": func() error { return socket(unix.AF_ALG) },
		"run in real time": func() error {
			return number(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&struct{ priority int32 }{1}))) //nolint:gosec // sched_setscheduler(2), which must be refused
		},
		"make a setuid file": setuidFile,
	}
}

func join(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func number(nr, a, b, c uintptr) error {
	if _, _, e := unix.Syscall(nr, a, b, c); e != 0 {
		return e
	}
	return nil
}

func anonymous(prot int) error {
	mem, err := unix.Mmap(-1, 0, 1<<20, prot, unix.MAP_PRIVATE|unix.MAP_ANON)
	return join(err, unix.Munmap(mem))
}

// lockMemory locks more than what a service may without LimitMEMLOCK=.
func lockMemory() error {
	mem, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return join(unix.Mlock(mem), unix.Munmap(mem))
}

// shareDescriptors does what frameworks do to share GPU memory between processes.
func shareDescriptors() error {
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdGetfd(pidfd, 0, 0)
	return join(err, unix.Close(fd), unix.Close(pidfd))
}

func open(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func socket(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// helper runs a program that prints who it is.
func helper(path string, want int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "euid").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if string(out) != fmt.Sprint(want) {
		return fmt.Errorf("it runs as user %s", out)
	}
	return nil
}

// inNew starts a program in new namespaces.
func inNew(flags uintptr) error {
	cmd := exec.Command(here+"/probe", "euid")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

func mount() error {
	dir, err := os.MkdirTemp("", "probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(dir, 0)
}

func setuidFile() error {
	dir, err := os.MkdirTemp("", "probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	return join(os.WriteFile(file, nil, 0o600), unix.Chmod(file, 0o4700))
}
