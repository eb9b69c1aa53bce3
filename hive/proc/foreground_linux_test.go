package proc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// front does what hivectl run does, without the lease.
func front(args []string) int {
	spec := proc.Spec{
		Argv: append([]string{os.Args[0]}, args[2:]...), Env: []string{modeVar + "=" + args[1], "GORACE=atexit_sleep_ms=0"}, Foreground: true,
	}
	if filepath.IsAbs(args[1]) {
		spec.Argv, spec.Env = args[1:], nil
	}
	g, err := proc.Start(spec)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	stop := proc.ForwardSignals(g.Process())
	defer stop()
	id := g.Identity()
	p, err := g.Open(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	b, _ := json.Marshal(id)
	if err := os.WriteFile(args[0]+".new", b, 0o600); err != nil {
		return 125
	}
	_ = os.Rename(args[0]+".new", args[0])
	<-p.Done()
	return proc.ExitCode(p.Exit())
}

func frontKilledAtGate(args []string) int {
	g, err := proc.Start(proc.Spec{
		Argv: append([]string{os.Args[0]}, args[1:]...), Env: []string{modeVar + "=sleep"}, Foreground: true,
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

func record(args []string) int {
	c := make(chan os.Signal, 64)
	signal.Notify(c, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	announce(args[1:], os.Getpid())
	for sig := range c {
		f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 1
		}
		fmt.Fprintln(f, unix.SignalName(sig.(syscall.Signal)))
		f.Close()
		if sig == syscall.SIGTERM {
			return 7
		}
	}
	return 1
}

// recorded waits until the child has seen n signals and returns them.
func recorded(t *testing.T, file string, n int) []string {
	t.Helper()
	var got []string
	await(t, strconv.Itoa(n)+" signals", func() bool {
		b, _ := os.ReadFile(file)
		got = strings.Fields(string(b))
		return len(got) >= n
	})
	return got
}

// frontRun is a running front process and its child.
type frontRun struct {
	cmd   *exec.Cmd
	child store.Identity
	log   string // the signals that the child got
}

// newFront prepares a front whose child records its signals.
func newFront(t *testing.T, argv ...string) *frontRun {
	t.Helper()
	dir := t.TempDir()
	r := &frontRun{log: filepath.Join(dir, "signals")}
	argv = append(argv, self(t), filepath.Join(dir, "identity"), "record", r.log, filepath.Join(dir, "ready"))
	r.cmd = exec.Command(argv[0], argv[1:]...)
	r.cmd.Env = append(os.Environ(), modeVar+"=front")
	return r
}

// start waits until the child takes signals.
func (r *frontRun) start(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	dir := filepath.Dir(r.log)
	killLater(t, announced(t, filepath.Join(dir, "ready")))
	r.child = recordedIdentity(t, filepath.Join(dir, "identity"))
}

func recordedIdentity(t *testing.T, file string) store.Identity {
	t.Helper()
	var id store.Identity
	await(t, "the identity", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(b, &id) == nil
	})
	return id
}

// exitCode waits for the end of the front.
func (r *frontRun) exitCode(t *testing.T) int {
	t.Helper()
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// terminal returns both ends of a new pseudo terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		skip.Because(t, "no pseudo terminals: "+err.Error())
	}
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		skip.Because(t, "no pseudo terminals: "+err.Error())
	}
	t.Cleanup(func() { slave.Close(); master.Close() })
	return master, slave
}

// onTerminal makes cmd the leader of the terminal's session.
func onTerminal(cmd *exec.Cmd, slave *os.File) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

// A second SIGINT means "at once" to programs such as vLLM. The terminal sends one
// to the child; the front must not add its own.
func TestCtrlCReachesAForegroundChildOnce(t *testing.T) {
	master, slave := terminal(t)
	r := newFront(t)
	onTerminal(r.cmd, slave)
	r.start(t)
	for i, key := range []string{"\x03", "\x1c", "\x03"} {
		_, err := io.WriteString(master, key)
		require.NoError(t, err)
		recorded(t, r.log, i+1)
	}
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 7, r.exitCode(t))
	require.Equal(t, []string{"SIGINT", "SIGQUIT", "SIGINT", "SIGTERM"}, recorded(t, r.log, 4))
}

// In the background of the same terminal no Ctrl-C comes; who sends SIGINT to the
// front means the child.
func TestSignalsInTheBackgroundOfATerminal(t *testing.T) {
	_, slave := terminal(t)
	r := newFront(t, "/bin/sh", "-c", `set -m; "$0" "$@" & wait`)
	onTerminal(r.cmd, slave)
	r.start(t)
	pid, err := proc.ParentOf(r.child.PID)
	require.NoError(t, err)
	killLater(t, pid)
	group, err := unix.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group, "the shell must have made a group of its own")
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM} {
		require.NoError(t, unix.Kill(pid, sig))
		recorded(t, r.log, i+1)
	}
	require.Zero(t, r.exitCode(t), "of the shell")
	require.Equal(t, []string{"SIGINT", "SIGQUIT", "SIGINT", "SIGTERM"}, recorded(t, r.log, 4))
}

// As below a service manager, or in a script.
func TestSignalsWithoutATerminal(t *testing.T) {
	r := newFront(t)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r.start(t)
	var want []string
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM} {
		require.NoError(t, r.cmd.Process.Signal(sig))
		want = append(want, unix.SignalName(sig))
		recorded(t, r.log, i+1)
	}
	require.Equal(t, 7, r.exitCode(t))
	require.Equal(t, want, recorded(t, r.log, len(want)))
}

// `nohup hivectl run -- CMD` means CMD, and all else is at its default.
func TestNohup(t *testing.T) {
	needGate(t)
	for trap, ignored := range map[string]string{`trap "" HUP INT QUIT USR1`: "0000000000000001", `trap "" INT QUIT USR1`: "0000000000000000"} {
		t.Run(trap, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", trap+`; exec "$0" "$@"`, self(t), filepath.Join(t.TempDir(), "identity"), "/bin/cat", "/proc/self/status")
			cmd.Env = append(os.Environ(), modeVar+"=front")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Contains(t, string(out), "SigIgn:\t"+ignored+"\n")
			require.Contains(t, string(out), "SigBlk:\t0000000000000000\n")
		})
	}
}

func TestForegroundExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		sig  syscall.Signal
		want int
	}{
		"success": {[]string{"exit", "0"}, 0, 0},
		"code":    {[]string{"exit", "3"}, 0, 3},
		// Go's runtime in the stand-in would swallow the last of these.
		"signal":  {[]string{"/bin/sleep", "1000"}, syscall.SIGTERM, 128 + 15},
		"SIGKILL": {[]string{"/bin/sleep", "1000"}, syscall.SIGKILL, 128 + 9},
		"no name": {[]string{"/bin/sleep", "1000"}, syscall.Signal(40), 128 + 40},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "identity")
			cmd := exec.Command(self(t), append([]string{file}, c.args...)...)
			cmd.Env = append(os.Environ(), modeVar+"=front")
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			id := recordedIdentity(t, file)
			if c.sig != 0 {
				killLater(t, id.PID)
				p, verdict, err := proc.Adopt(id)
				require.NoError(t, err)
				require.Equal(t, proc.Alive, verdict)
				require.NoError(t, p.Signal(c.sig))
				p.Close()
			}
			_ = cmd.Wait()
			require.Equal(t, c.want, cmd.ProcessState.ExitCode())
		})
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		exit store.Exit
		want int
	}{
		{store.Exit{Code: code(0)}, 0},
		{store.Exit{Code: code(125)}, 125},
		{store.Exit{Signal: "SIGINT"}, 130},
		{store.Exit{Signal: "SIGSEGV"}, 139},
		{store.Exit{Signal: "SIG34"}, 162},
		{store.Exit{Signal: "SIGNOTHING"}, 1},
		{store.Exit{}, 1},
	} {
		require.Equal(t, c.want, proc.ExitCode(c.exit), "%+v", c.exit)
	}
}

// Killed before the gate opened, nothing of the program runs; and it is not
// ended by the end of the terminal either, because there is none.
func TestFrontKilledBeforeTheGateOpens(t *testing.T) {
	needGate(t)
	dir := t.TempDir()
	file, ready := filepath.Join(dir, "pid"), filepath.Join(dir, "ready")
	cmd := exec.Command(self(t), file, ready)
	cmd.Env = append(os.Environ(), modeVar+"=front-killed-at-gate")
	require.Error(t, cmd.Run(), "it kills itself")
	pid := announced(t, file)
	await(t, "the end of the gate", func() bool { return !running(pid) })
	require.NoFileExists(t, ready)
}

// Killed after that, the child runs on and is the one that was recorded.
func TestFrontKilledAfterTheGateOpened(t *testing.T) {
	r := newFront(t)
	r.start(t)
	require.NoError(t, r.cmd.Process.Kill())
	require.Equal(t, -1, r.exitCode(t))
	p, verdict, err := proc.Adopt(r.child)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	again, err := proc.Identify(r.child.PID)
	require.NoError(t, err)
	require.Equal(t, r.child, again)
	require.NoError(t, p.Signal(syscall.SIGTERM))
	done(t, p)
	require.Equal(t, []string{"SIGTERM"}, recorded(t, r.log, 1))
}

// The child is told from a worker by all it has from its caller.
func TestWhatAForegroundChildGets(t *testing.T) {
	needGate(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd) // without close-on-exec: it must not get through
	out := filepath.Join(t.TempDir(), "out")
	script := `{ tr '\0' '\n' </proc/self/environ; echo --; readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2; echo --; ls /proc/$$/fd; echo --
		cut -d' ' -f5,6 /proc/$$/stat; cat /proc/$$/cgroup; pwd; } >"$0"`
	dir := t.TempDir()
	g, err := proc.Start(proc.Spec{
		Argv: []string{"/bin/sh", "-c", script, out}, Dir: dir, Foreground: true,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HIVE_ADDR=http://127.0.0.1:1", "PORT=1"},
	})
	require.NoError(t, err)
	require.Empty(t, g.Cgroup())
	require.NoFileExists(t, out)
	id := g.Identity()
	require.Equal(t, g.Process().Identity(), id)
	p, err := g.Open(t.Context())
	require.NoError(t, err)
	require.Same(t, g.Process(), p)
	require.Equal(t, code(0), done(t, p).Code)
	require.ErrorIs(t, unix.Kill(id.PID, 0), unix.ESRCH, "it has been reaped")

	b, err := os.ReadFile(out)
	require.NoError(t, err)
	parts := strings.Split(string(b), "--\n")
	require.Len(t, parts, 4)
	env := strings.Fields(parts[0])
	slices.Sort(env)
	require.Equal(t, []string{"HIVE_ADDR=http://127.0.0.1:1", "PATH=" + os.Getenv("PATH"), "PORT=1"}, env)
	for i, link := range strings.Fields(parts[1]) {
		own, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(i))
		require.NoError(t, err)
		if i != 1 { // the script's own
			require.Equal(t, own, link)
		}
	}
	require.NotContains(t, parts[2], strconv.Itoa(fd)+"\n")
	session, err := unix.Getsid(0)
	require.NoError(t, err)
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%d %d\n%s%s\n", unix.Getpgrp(), session, cgroup, dir), parts[3])
}

func TestForegroundRefuses(t *testing.T) {
	for name, change := range map[string]func(*proc.Spec){
		"Log":      func(s *proc.Spec) { s.Log = "/tmp/log" },
		"Cgroup":   func(s *proc.Spec) { s.Cgroup = "leaf" },
		"StateID":  func(s *proc.Spec) { s.StateID = "state" },
		"LeaseID":  func(s *proc.Spec) { s.LeaseID = "lease" },
		"WorkerID": func(s *proc.Spec) { s.WorkerID = "worker" },
		"argv[0]":  func(s *proc.Spec) { s.Argv[0] = "true" },
		"working":  func(s *proc.Spec) { s.Dir = "/nowhere/at/all" },
	} {
		t.Run(name, func(t *testing.T) {
			spec := proc.Spec{Argv: []string{"/bin/true"}, Foreground: true}
			change(&spec)
			before := openFiles(t)
			_, err := proc.Start(spec)
			require.ErrorContains(t, err, name)
			require.NoFileExists(t, "/tmp/log")
			require.Equal(t, before, openFiles(t), "descriptors were left open")
		})
	}
}

// A signal may come while the child waits: nothing of the program runs then, and how it has
// ended is known.
func TestSignalAtTheGate(t *testing.T) {
	needGate(t)
	file := filepath.Join(t.TempDir(), "file")
	g, err := proc.Start(proc.Spec{Argv: []string{"/bin/touch", file}, Foreground: true})
	require.NoError(t, err)
	stop := proc.ForwardSignals(g.Process())
	require.NoError(t, unix.Kill(os.Getpid(), syscall.SIGTERM))
	pid := g.Identity().PID
	await(t, "the signal", func() bool {
		return g.Process().Ended() || proc.Traces() == nil && status(t, pid, "ShdPnd") != "0000000000000000"
	})
	_, err = g.Open(t.Context())
	if err != nil {
		require.ErrorIs(t, err, proc.ErrGone)
	}
	require.Equal(t, "SIGTERM", done(t, g.Process()).Signal)
	require.NoFileExists(t, file)
	require.ErrorIs(t, unix.Kill(g.Identity().PID, 0), unix.ESRCH, "it has been reaped")
	stop()
	stop()
}

// Two kinds at once, from this process's own front.
func TestSignalsThatComeTogether(t *testing.T) {
	dir := t.TempDir()
	log, ready := filepath.Join(dir, "signals"), filepath.Join(dir, "ready")
	p, _ := run(t, newSpec(t, "record", log, ready))
	announced(t, ready)
	stop := proc.ForwardSignals(p)
	defer stop()
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		require.NoError(t, unix.Kill(os.Getpid(), sig))
	}
	require.ElementsMatch(t, []string{"SIGUSR1", "SIGUSR2"}, recorded(t, log, 2))
}
