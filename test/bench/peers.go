package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// compare measures the peers that were asked for, each NAME or NAME=PATH, with as many workers
// as hive was measured with.
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
			took, err := p.measure(ctx, path, binary)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r["crowd-"+name+" s"] = took.Seconds()
			fmt.Printf("%d workers until all answer, by %s: %.2f s\n", crowd, name, took.Seconds())
		}
		if _, ok := r["crowd-"+name+" s"]; !ok {
			return fmt.Errorf("no peer %q is known (process-compose, supervisord, s6)", name)
		}
	}
	return nil
}

// measure starts the peer with its workers, waits until all answer, and ends it.
func (p peer) measure(ctx context.Context, path, binary string) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "bench-peer-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	first, err := freeport.Range(crowd)
	if err != nil {
		return 0, err
	}
	var commands [][]string
	for n := range crowd {
		commands = append(commands, []string{binary, "worker", "--port", fmt.Sprint(first + n)})
	}
	args, err := p.configure(dir, commands)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, endPeer(ctx, cmd, first)) }()
	for n := range crowd {
		if err := answers(ctx, first+n); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// endPeer asks a peer to end with its workers, and sees to it that nothing of them is left.
func endPeer(ctx context.Context, cmd *exec.Cmd, first int) error {
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
		for n := range crowd {
			for _, pid := range listening(first + n) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				return fmt.Sprintf("pid %d still has port %d", pid, first+n), nil
			}
		}
		return "", nil
	})
}

// listening finds the reference worker of a port by its command line.
func listening(port int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if strings.HasSuffix(string(text), fmt.Sprintf("\x00worker\x00--port\x00%d\x00", port)) {
			var pid int
			if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
