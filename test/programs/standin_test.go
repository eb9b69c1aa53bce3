//go:build linux

package programs_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// asProgram runs the program whose name this process was started by, if there is
// one of that name here.
func asProgram(name string, args []string) (code int, ok bool) {
	program, ok := map[string]func([]string) error{
		"tree-leader": leader, "tree-middle": middle, "tree-stubborn": stubborn, "docker": docker,
	}[name]
	if s, is := servers()[name]; is {
		program, ok = s.run, true
	}
	if !ok {
		return 0, false
	}
	if err := program(args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1, true
	}
	return 0, true
}

// exitCode is what a leader ends with on SIGUSR1.
const exitCode = 77

// leader serves on the address args[0], when it has a child that is hard to end.
// args[1] says by what that child can still be known; args[2] takes its PID.
//
//	none     there is no child
//	bare     by nothing: no environment, no log, a session of its own
//	stamped  by its environment
//	logged   by its output; it has overwritten its environment, and so has the leader
//	heir     the same, and it goes on serving when the leader has ended, as nginx's do
//	chain    by its output; it is a chain of processes that live for a millisecond
func leader(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	if err := offspring(l.(*net.TCPListener), args[1], args[2]); err != nil {
		return err
	}
	if args[1] == "logged" || args[1] == "heir" {
		if err := wipeEnvironment(); err != nil {
			return err
		}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	go func() {
		<-c
		os.Exit(exitCode)
	}()
	return serve(l)
}

func offspring(l *net.TCPListener, kind, file string) error {
	if kind == "none" {
		return nil
	}
	cmd := relative("tree-middle", kind, file)
	if kind == "heir" {
		f, err := l.File()
		if err != nil {
			return err
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the child in between: %w", err)
	}
	return nil
}

// relative is a process of this program under another name, in a session of its own.
func relative(name, kind, file string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", kind, file)
	cmd.Args[0] = name
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = os.Environ()
	if kind == "bare" {
		cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	}
	if kind != "bare" && kind != "stamped" {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	}
	return cmd
}

// middle ends when it has started the child, which thereby has lost its parent.
func middle(args []string) error {
	kind, file := args[0], args[1]
	cmd := relative("tree-stubborn", kind, file)
	if kind == "chain" {
		cmd = exec.Command("python3", "-c", chain, file)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	}
	if kind == "heir" {
		cmd.ExtraFiles = []*os.File{os.NewFile(3, "listener")}
	}
	return cmd.Start()
}

// chain counts in a file as long as it goes on, and ends by itself when the file
// is taken away, or after some minutes.
const chain = `
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
beat = os.open(sys.argv[1] + ".beat", os.O_RDWR | os.O_CREAT, 0o600)
os.rename(sys.argv[1] + ".beat", sys.argv[1])
for n in range(200000):
    os.pwrite(beat, b"%d" % n, 0)
    if not os.path.exists(sys.argv[1]):
        break
    time.sleep(0.001)
    if os.fork():
        os._exit(0)
    os.setsid()
`

// stubborn ignores what can be ignored, and serves if it was given a listener.
func stubborn(args []string) error {
	kind, file := args[0], args[1]
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if kind == "logged" || kind == "heir" {
		if err := wipeEnvironment(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file+".new", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	if kind == "heir" {
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return err
		}
		return serve(l)
	}
	for {
		_ = unix.Pause()
	}
}

func serve(l net.Listener) error {
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) }))
}

// wipeEnvironment does what setproctitle does.
func wipeEnvironment() error {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	start, _ := strconv.ParseUint(f[50-3], 10, 64)
	end, _ := strconv.ParseUint(f[51-3], 10, 64)
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	_, err = mem.WriteAt(make([]byte, end-start), int64(start))
	return err
}
