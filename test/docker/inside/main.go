//go:build linux

// Command inside is what test/docker runs in its containers, which have no shell:
// an init, strangers, and a list of processes that does not depend on hive.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "inside:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("want a command")
	}
	switch cmd, rest := args[0], args[1:]; {
	case cmd == "init":
		return initial(rest)
	case cmd == "decoy":
		return decoy()
	case cmd == "orphans" && len(rest) == 1:
		return orphans(rest[0])
	case cmd == "ps":
		return list()
	case cmd == "kill" && len(rest) == 2:
		return kill(rest[0], rest[1])
	case cmd == "fill" && len(rest) == 1:
		return fill(rest[0])
	case cmd == "cat" && len(rest) == 1:
		return show(rest[0])
	case cmd == "chown" && len(rest) == 2:
		return give(rest[0], rest[1])
	case cmd == "crowd":
		return crowd()
	case cmd == "remove" && len(rest) == 1:
		return os.Remove(rest[0])
	}
	return fmt.Errorf("unknown command %q", args)
}

// initial is PID 1: it puts a decoy on each PID that it is given, starts the program
// after "--", and reaps nothing, as a program does that is not meant as an init. It ends by a signal.
func initial(args []string) error {
	var wanted []int
	for len(args) > 0 && args[0] != "--" {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		wanted, args = append(wanted, pid), args[1:]
	}
	for _, pid := range wanted {
		if err := occupy(pid); err != nil {
			return err
		}
		fmt.Println("decoy on", pid)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if len(args) > 1 {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	<-end
	return nil
}

// occupy forks until the child has the PID, and lets it become a decoy.
func occupy(want int) error {
	self, err := syscall.BytePtrFromString("/inside")
	if err != nil {
		return err
	}
	word, err := syscall.BytePtrFromString("decoy")
	if err != nil {
		return err
	}
	argv := []*byte{self, word, nil}
	envv := []*byte{nil}
	for {
		pid, err := fork(want, self, &argv[0], &envv[0])
		switch {
		case err != nil:
			return err
		case pid == want:
			return nil
		case pid > want:
			return fmt.Errorf("PID %d is taken: the fork got %d", want, pid)
		}
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
	}
}

// decoy is a stranger that tells of every signal it gets, and lives on.
func decoy() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	for sig := range signals {
		if sig != syscall.SIGURG { // the Go runtime's own
			fmt.Printf("decoy %d was signalled: %v\n", os.Getpid(), sig)
		}
	}
	return nil
}

// orphans leaves processes behind that end without a parent of their own.
func orphans(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range n {
		cmd := exec.Command("/inside", "ps")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	return nil // without waiting: they become PID 1's
}

// Process is one line of ps.
type Process struct {
	PID, Parent int
	State       string
	Args        []string
}

func list() error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	all := []Process{}
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid ...; the comm may have anything in it
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 {
			return fmt.Errorf("%s/stat: %q", dir, stat)
		}
		p := Process{State: fields[0]}
		if p.PID, err = strconv.Atoi(filepath.Base(dir)); err != nil {
			return err
		}
		if p.Parent, err = strconv.Atoi(fields[1]); err != nil {
			return err
		}
		args, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue
		}
		p.Args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
		all = append(all, p)
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func kill(name, pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		return fmt.Errorf("%q: want a PID above 1", pid)
	}
	return syscall.Kill(n, unix.SignalNum(name))
}

func show(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// give is chown -R.
func give(dir, owner string) error {
	uid, err := strconv.Atoi(owner)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid) //nolint:gosec // of a volume that the test has made
	})
}

// fill writes until the file system is full.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096} {
		block := make([]byte, size)
		for err = nil; err == nil; _, err = f.Write(block) {
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	at, err := f.Seek(0, io.SeekEnd)
	fmt.Println("wrote", at, "bytes")
	return err
}

// crowd submits jobs that fail, one after the other, until one is refused, and prints
// that answer. They are no stops: these may take what is put aside for them.
func crowd() error {
	token, err := os.ReadFile("/var/lib/hive/token")
	if err != nil {
		return err
	}
	body := `{"operation":"worker_spawn","worker":"cuda","model":"` + strings.Repeat("m", 4000) + `"}`
	for range 20_000 {
		req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:7835/v1/jobs?wait=10s", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode >= http.StatusBadRequest {
			fmt.Printf("%s", answer)
			return nil
		}
	}
	return errors.New("no job was refused")
}
