package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rbeehive/test/freeport"
	"rbeehive/test/harness"
)

// peer is another supervisor of processes, on the same machine in the same run.
type peer struct {
	name string
	// configure writes into dir what the peer needs to run these commands, each a name
	// and its words, and returns the arguments that it is started with.
	configure func(dir string, commands [][]string) ([]string, error)
}

var peers = []peer{
	{"process-compose", func(dir string, commands [][]string) ([]string, error) {
		text := "version: \"0.5\"\nprocesses:\n"
		for n, c := range commands {
			text += fmt.Sprintf("  w%d:\n    command: %q\n", n, strings.Join(c, " "))
		}
		file := filepath.Join(dir, "process-compose.yaml")
		return []string{"up", "-f", file, "-t=false", "--no-server"}, os.WriteFile(file, []byte(text), 0o600)
	}},
	{"supervisord", func(dir string, commands [][]string) ([]string, error) {
		text := "[supervisord]\nnodaemon=true\nlogfile=" + dir + "/log\npidfile=" + dir + "/pid\nchildlogdir=" + dir + "\n"
		for n, c := range commands {
			text += fmt.Sprintf("[program:w%d]\ncommand=%s\n", n, strings.Join(c, " "))
		}
		file := filepath.Join(dir, "supervisord.conf")
		return []string{"-n", "-c", file}, os.WriteFile(file, []byte(text), 0o600)
	}},
	{"s6", func(dir string, commands [][]string) ([]string, error) {
		scan := filepath.Join(dir, "scan")
		for n, c := range commands {
			service := filepath.Join(scan, fmt.Sprintf("w%d", n))
			if err := os.MkdirAll(service, 0o755); err != nil {
				return nil, err
			}
			script := "#!/bin/sh\nexec " + strings.Join(c, " ") + "\n"
			if err := os.WriteFile(filepath.Join(service, "run"), []byte(script), 0o755); err != nil {
				return nil, err
			}
		}
		return []string{"-c", fmt.Sprint(2*len(commands) + 10), scan}, nil
	}},
}

// binaries are the programs of peers that are not called like them.
var binaries = map[string]string{"s6": "s6-svscan"}

// crowds are how many workers hive and peers start at once.
var crowds = []int{crowd, 200, 1000}

// compare measures the peers that were asked for, each NAME or NAME=PATH, and hive beside them
// with as many workers.
func (r results) compare(ctx context.Context, asked []string, binary string) error {
	binary, err := filepath.Abs(binary) // each peer has a directory of its own
	if err != nil {
		return err
	}
	for _, arg := range asked {
		name, path, _ := strings.Cut(arg, "=")
		if path == "" {
			path = name
			if other, ok := binaries[name]; ok {
				path = other
			}
		}
		for _, p := range peers {
			if p.name != name {
				continue
			}
			for _, n := range crowds {
				if err := r.beside(ctx, p, path, binary, n); err != nil {
					return fmt.Errorf("%s with %d workers: %w", name, n, err)
				}
			}
		}
		if _, ok := r[crowdKey(name, crowd, "s")]; !ok {
			return fmt.Errorf("no peer %q is known (process-compose, supervisord, s6)", name)
		}
	}
	return nil
}

// crowdKey names what was measured of a supervisor with n workers.
func crowdKey(name string, n int, unit string) string {
	return fmt.Sprintf("crowd-%d-%s %s", n, name, unit)
}

// beside measures a peer with n workers, and hive just before it.
func (r results) beside(ctx context.Context, p peer, path, binary string, n int) error {
	took, cpu, err := hiveCrowd(ctx, binary, n)
	if err != nil {
		return err
	}
	r[crowdKey("hive-"+p.name, n, "s")], r[crowdKey("hive-"+p.name, n, "cpu-s")] = took.Seconds(), cpu.Seconds()
	peerTook, peerCPU, err := p.measure(ctx, path, binary, n)
	if err != nil {
		return err
	}
	r[crowdKey(p.name, n, "s")], r[crowdKey(p.name, n, "cpu-s")] = peerTook.Seconds(), peerCPU.Seconds()
	fmt.Printf("%d workers until all answer: hive %.2f s and %.2f s of its CPU, %s %.2f s and %.2f s of its CPU\n",
		n, took.Seconds(), cpu.Seconds(), p.name, peerTook.Seconds(), peerCPU.Seconds())
	return nil
}

// hiveCrowd has a new hive start n workers, and is measured as peers are: from the first request
// until all answer, and what hive itself uses of the CPU for it.
func hiveCrowd(ctx context.Context, binary string, n int) (took, cpu time.Duration, err error) {
	hive, err := harness.New(binary, n, "[]")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return 0, 0, err
	}
	begin, before := time.Now(), cpuTime(hive.PID())
	if _, err := hive.SpawnAll(ctx, slices.Repeat([]string{"cpu"}, n)); err != nil {
		return 0, 0, err
	}
	return time.Since(begin), cpuTime(hive.PID()) - before, nil
}

// measure starts the peer with its workers, waits until all answer, and ends it.
func (p peer) measure(ctx context.Context, path, binary string, n int) (took, cpu time.Duration, err error) {
	dir, err := os.MkdirTemp("", "bench-peer-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	first, err := freeport.Range(n)
	if err != nil {
		return 0, 0, err
	}
	var commands [][]string
	for i := range n {
		commands = append(commands, []string{binary, "worker", "--port", fmt.Sprint(first + i)})
	}
	args, err := p.configure(dir, commands)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, endPeer(ctx, cmd, first, n)) }()
	for i := range n {
		if err := answers(ctx, first+i); err != nil {
			return 0, 0, err
		}
	}
	// s6 has a process for each of its workers, which is a supervisor's, too.
	return time.Since(begin), cpuTime(cmd.Process.Pid), nil
}

// endPeer asks a peer to end with its workers, and sees to it that nothing of them is left.
func endPeer(ctx context.Context, cmd *exec.Cmd, first, n int) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // how it ends is its affair
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
	return harness.Eventually(ctx, time.Minute, func() (string, error) {
		left := listening(first, n)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) > 0 {
			return fmt.Sprintf("%d workers of the peer are left", len(left)), nil
		}
		return "", nil
	})
}

// listening finds the reference workers of n ports by their command lines.
func listening(first, n int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, port, ok := strings.Cut(string(text), "\x00worker\x00--port\x00")
		if !ok {
			continue
		}
		var pid int
		if p, err := strconv.Atoi(strings.TrimRight(port, "\x00")); err != nil || p < first || p >= first+n {
			continue
		}
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
