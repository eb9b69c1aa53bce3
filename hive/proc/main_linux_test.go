package proc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
)

// modeVar makes the test binary a stand-in for a worker program.
const modeVar = "PROCTEST_MODE"

// gateVar has the gate process used for everything, in this binary and its stand-ins.
const gateVar = "PROCTEST_GATE"

func init() {
	if os.Getenv(modeVar) != "" {
		runtime.LockOSThread() // "leaderless" must end the first thread, not any
	}
}

func TestMain(m *testing.M) {
	if proc.ServeLooks() {
		return
	}
	if os.Getenv(gateVar) != "" {
		proc.GateOnly()
	}
	if mode := os.Getenv(modeVar); mode != "" {
		os.Exit(worker(mode, os.Args[1:]))
	}
	// The race detector's default makes every stand-in take a second to exit.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	if signal.Ignored(syscall.SIGHUP) {
		// Under nohup all children would inherit that. What is caught they get at its
		// default (execve(2)), and here it is ignored still.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	goleak.VerifyTestMain(m)
}

// worker is the stand-in. args depend on the mode.
func worker(mode string, args []string) int {
	switch mode {
	case "sleep": // until a signal ends it
		announce(args, os.Getpid())
		park()
	case "stubborn": // ignores what can be ignored
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		announce(args, os.Getpid())
		park()
	case "exit": // args[0] is the code
		code, _ := strconv.Atoi(args[0])
		return code
	case "exit-on-term": // args[0] is the code, args[1:] as announce
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		announce(args[1:], os.Getpid())
		<-c
		code, _ := strconv.Atoi(args[0])
		return code
	case "leaderless":
		return leaderless(args)
	case "parent": // args[0] file for the grandchild's PID; see family
		return family(args, false)
	case "orphaner": // the same, and ends at once
		return family(args, true)
	case "middle":
		return middle(args)
	case "wipe": // overwrites its environment, as setproctitle does
		wipeEnvironment()
		announce(args, os.Getpid())
		park()
	case "listen": // args[0] file for port
		return listen(args[0])
	case "starter": // starts args[1:] through Start, writes the identity to args[0], ends
		return starter(args)
	case "killed-at-gate": // args[0] file for the gate's PID, args[1] as announce
		return killedAtGate(args)
	case "signals", "limit": // args[0] takes the output
		return through(mode, args[0])
	case "asker": // asks a program that never answers; args as announce, of that program
		_, err := proc.Ask(context.Background(), append([]string{os.Args[0]}, args...), []string{modeVar + "=stubborn"})
		fmt.Fprintln(os.Stderr, err)
		return 1
	case "forker": // forks on, args[0] times
		return forker(args)
	case "front": // as hivectl run: args[0] file for the child's identity, its mode or program, its arguments
		return front(args)
	case "front-killed-at-gate": // args[0] file for the gate's PID, args[1] as announce
		return frontKilledAtGate(args)
	case "start-as": // prints the error of starting the program args[2:] as args[0] in args[1], or its exit code
		return startAs(args)
	case "runner": // runs a command: args[0] state id, args[1] its log, the mode and the arguments of the command
		return runner(args)
	case "keys-of-root":
		return keysOfRoot(args)
	case "read-key": // args[0] is its serial number
		return readKey(args)
	case "hanging-dir": // args[0] is a directory, args[1] a user
		return hangingDir(args)
	case "become": // args: see become
		return become(args)
	case "endless": // as announce
		return endless(args)
	case "without-clone3": // args[0] state id, args[1] worker id
		return withoutClone3(args)
	case "record": // appends the name of each signal to args[0], args[1] as announce, ends with 7 on SIGTERM
		return record(args)
	}
	fmt.Fprintln(os.Stderr, "unknown mode", mode)
	return 2
}

// announce writes a number for the test to wait for; atomically.
func announce(args []string, n int) {
	if len(args) == 0 {
		return
	}
	tmp := args[0] + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(n)), 0o600); err == nil {
		_ = os.Rename(tmp, args[0])
	}
}

func park() {
	for {
		_ = unix.Pause()
	}
}

// leaderless ends the first thread; the process serves on.
func leaderless(args []string) int {
	ready := make(chan struct{})
	go func() {
		close(ready)
		announce(args, os.Getpid())
		park()
	}()
	<-ready
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	return 1
}

// family starts a middle process that starts a stubborn grandchild and ends: the
// grandchild is in its own session, without the log and, with args[1] == "bare",
// without the stamps.
func family(args []string, end bool) int {
	cmd := relative("middle", args)
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if end {
		return 0
	}
	park()
	return 1
}

// middle ends when it has started the grandchild.
func middle(args []string) int {
	if err := relative("stubborn", args).Start(); err != nil {
		return 1
	}
	return 0
}

func relative(mode string, args []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(os.Environ(), modeVar+"="+mode)
	if len(args) > 1 && args[1] == "bare" {
		// GORACE as in TestMain: else the middle is there for a second more, is signalled
		// with the rest of the tree, and its parent ends with an error before its signal.
		cmd.Env = []string{modeVar + "=" + mode, "GORACE=atexit_sleep_ms=0"}
	}
	return cmd
}

// starter is a hive that dies: its worker becomes init's.
func starter(args []string) int {
	spec := proc.Spec{
		Argv: append([]string{os.Args[0]}, args[2:]...),
		Env:  []string{modeVar + "=" + args[1]},
		Log:  args[0] + ".log", StateID: "state", LeaseID: "lease", WorkerID: "worker",
	}
	g, err := proc.Start(spec)
	if err == nil {
		_, err = g.Open(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, _ := json.Marshal(g.Identity())
	if err := os.WriteFile(args[0], b, 0o600); err != nil {
		return 1
	}
	return 0
}

func killedAtGate(args []string) int {
	g, err := proc.Start(proc.Spec{
		Argv: append([]string{os.Args[0]}, args[1:]...), Env: []string{modeVar + "=sleep"}, Log: args[0] + ".log",
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 0
	}
	announce(args, g.Identity().PID)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	park()
	return 0
}

// through starts a plain program from a process whose signals and limits the
// test has prepared.
func through(what, out string) int {
	argv := map[string][]string{
		"signals": {"/bin/cat", "/proc/self/status"},
		"limit":   {"/bin/sh", "-c", "ulimit -Sn"},
	}[what]
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "SigIgn:\t"); ok {
			fmt.Print("SigIgn of hive: " + value)
		}
	}
	g, err := proc.Start(proc.Spec{Argv: argv, Env: proc.Environ(os.Environ(), nil), Log: out})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p, err := g.Open(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-p.Done()
	return 0
}

func wipeEnvironment() {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		panic(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	start, _ := strconv.ParseUint(f[50-3], 10, 64)
	end, _ := strconv.ParseUint(f[51-3], 10, 64)
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt(make([]byte, end-start), int64(start)); err != nil {
		panic(err)
	}
}

func listen(file string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	announce([]string{file}, l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		c.Close()
	}
}

func forker(args []string) int {
	n, _ := strconv.Atoi(args[0])
	if n == 0 {
		return 0
	}
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(n-1))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{modeVar + "=forker"}
	if err := cmd.Start(); err != nil {
		return 1
	}
	return 0
}
