package proc_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/hive/proc/gate"
)

func needGate(t *testing.T) {
	t.Helper()
	if !gate.Waits {
		t.Skip("built with nogate: nothing waits")
	}
}

// A child that has not been let through must not have run anything, and must be
// the same process afterwards: what was recorded before stays true.
func TestStartWaitsAndKeepsItsIdentity(t *testing.T) {
	needGate(t)
	file := filepath.Join(t.TempDir(), "ready")
	spec := newSpec(t, "sleep", file)
	g, err := proc.Start(spec)
	require.NoError(t, err)
	id := g.Identity()

	waiting, verdict, err := proc.Adopt(id)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	require.True(t, waiting.AtGate())
	require.NoFileExists(t, file)

	p, err := g.Open(t.Context())
	require.NoError(t, err)
	tree := treeOf(spec, g, p)
	t.Cleanup(func() { waiting.Close(); cleanUp(t, tree, p) })
	require.Equal(t, id.PID, announced(t, file))
	require.False(t, waiting.AtGate())
	again, err := proc.Identify(id.PID)
	require.NoError(t, err)
	require.Equal(t, id, again)

	_, err = g.Open(t.Context())
	require.ErrorIs(t, err, proc.ErrGateOpened)
	g.Abort()
	require.True(t, running(id.PID), "Abort after Open must do nothing")
}

func TestAbortEndsTheGate(t *testing.T) {
	needGate(t)
	file := filepath.Join(t.TempDir(), "ready")
	spec := withCgroup(t, newSpec(t, "sleep", file))
	g, err := proc.Start(spec)
	require.NoError(t, err)
	require.NotEmpty(t, g.Cgroup())
	g.Abort()
	g.Abort()
	require.False(t, running(g.Identity().PID))
	require.ErrorIs(t, unix.Kill(g.Identity().PID, 0), unix.ESRCH, "it has been reaped")
	require.NoFileExists(t, file)
	_, err = g.Open(t.Context())
	require.ErrorIs(t, err, proc.ErrGateOpened)
}

// The measured failure of others: killed between starting and recording, their
// worker runs on and nobody knows of it.
func TestHiveKilledBeforeTheGateOpens(t *testing.T) {
	needGate(t)
	dir := t.TempDir()
	file, ready := filepath.Join(dir, "identity"), filepath.Join(dir, "ready")
	cmd := exec.Command(self(t), file, ready)
	cmd.Env = append(os.Environ(), modeVar+"=killed-at-gate")
	require.Error(t, cmd.Run(), "it kills itself")
	pid := announced(t, file)
	await(t, "the end of the gate", func() bool { return !running(pid) })
	require.NoFileExists(t, ready)
}

func TestGateRefusesAnotherByte(t *testing.T) {
	needGate(t)
	var wait, report [2]int
	require.NoError(t, unix.Pipe2(wait[:], unix.O_CLOEXEC))
	require.NoError(t, unix.Pipe2(report[:], unix.O_CLOEXEC))
	cmd := exec.Command(self(t))
	cmd.Args = []string{gate.Arg0, "", "", "/bin/true", "/bin/true"}
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(wait[0]), "r"), os.NewFile(uintptr(report[1]), "w")}
	out := os.NewFile(uintptr(wait[1]), "out")
	_, err := out.WriteString("N")
	require.NoError(t, err)
	err = cmd.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, gate.ExitNotOpened, exit.ExitCode())
	for _, f := range append(cmd.ExtraFiles, out) {
		f.Close()
	}
	unix.Close(report[0])
}

func TestExecFailures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	for name, c := range map[string]struct {
		program string
		errno   syscall.Errno
		is      error
	}{
		"missing":     {filepath.Join(dir, "nothing"), syscall.ENOENT, fs.ErrNotExist},
		"no mode bit": {write("plain", "#!/bin/sh\n", 0o600), syscall.EACCES, fs.ErrPermission},
		"no program":  {write("garbage", "garbage", 0o700), syscall.ENOEXEC, syscall.ENOEXEC},
		"interpreter": {write("script", "#!/nowhere/sh\n", 0o700), syscall.ENOENT, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			spec := withCgroup(t, newSpec(t, "exit", "0"))
			spec.Argv[0] = c.program
			g, err := proc.Start(spec)
			require.NoError(t, err)
			_, err = g.Open(t.Context())
			var failed *proc.ExecError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, proc.ExecError{Step: "execve", Errno: c.errno}, *failed)
			require.ErrorIs(t, err, c.is)
			require.ErrorIs(t, unix.Kill(g.Identity().PID, 0), unix.ESRCH, "it has been reaped")
		})
	}
}

func TestStartRefuses(t *testing.T) {
	for name, change := range map[string]func(*proc.Spec){
		"no argv":         func(s *proc.Spec) { s.Argv = nil },
		"relative":        func(s *proc.Spec) { s.Argv[0] = "true" },
		"zero byte":       func(s *proc.Spec) { s.Argv = append(s.Argv, "a\x00b") },
		"no such dir":     func(s *proc.Spec) { s.Dir = "/nowhere/at/all" },
		"dir is a file":   func(s *proc.Spec) { s.Dir = "/dev/null" },
		"log in nowhere":  func(s *proc.Spec) { s.Log = "/nowhere/at/all/log" },
		"log a directory": func(s *proc.Spec) { s.Log = t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			spec := newSpec(t, "exit", "0")
			change(&spec)
			before := openFiles(t)
			_, err := proc.Start(spec)
			require.Error(t, err)
			require.Equal(t, before, openFiles(t), "descriptors were left open")
		})
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// What a worker sees of hive: its own arguments, the stamps, two standard files
// and nothing else.
func TestWhatTheWorkerGets(t *testing.T) {
	// A socket that was inherited without close-on-exec, as from socket activation.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	t.Setenv("HIVE_TOKEN", "secret")
	t.Setenv("NOTIFY_SOCKET", "/run/notify")
	t.Setenv("GOMEMLIMIT", "1GiB")

	spec := newSpec(t, "")
	spec.Env = proc.Environ(os.Environ(), []string{"OWN=1", "HIVE_TOKEN"})
	spec.Dir, spec.Name = t.TempDir(), "chat"
	script := `tr '\0' '\n' </proc/self/environ; echo --; ls -l /proc/$$/fd; echo --; tr '\0' '|' </proc/$$/cmdline; echo; echo --; pwd; ps -o sid= -p $$ 2>/dev/null || cut -d' ' -f6 /proc/$$/stat; cut -d' ' -f1 /proc/$$/stat`
	spec.Argv = []string{"/bin/sh", "-c", script, "", "an argument", "-x"}
	p, _ := run(t, spec)
	require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))

	parts := strings.Split(logOf(t, spec), "--\n")
	require.Len(t, parts, 4)
	env := strings.Split(parts[0], "\n")
	require.Contains(t, env, "RBEEHIVE_STATE="+spec.StateID)
	require.Contains(t, env, "RBEEHIVE_LEASE="+spec.LeaseID)
	require.Contains(t, env, "RBEEHIVE_WORKER="+spec.WorkerID)
	require.Contains(t, env, "RBEEHIVE_PROOF="+proc.Prove(spec.Secret, spec.StateID, spec.LeaseID, spec.WorkerID, uint32(os.Geteuid())))
	require.Contains(t, env, "RBEEHIVE_NAME=chat")
	require.Contains(t, env, "RBEEHIVE_NAME_PROOF="+proc.ProveName(spec.Secret, spec.LeaseID, spec.WorkerID, "chat", uint32(os.Geteuid())))
	require.NotContains(t, strings.Join(env, "\n"), string(spec.Secret))
	require.Contains(t, env, "SPT_NOENV=1")
	require.Contains(t, env, "OWN=1")
	for _, kv := range env {
		for _, hidden := range []string{"HIVE_", "NOTIFY_SOCKET", "GOMEMLIMIT"} {
			require.False(t, strings.HasPrefix(kv, hidden), kv)
		}
	}
	var fds []string
	for line := range strings.Lines(parts[1]) {
		if !strings.Contains(line, " -> ") {
			continue // "total 0"
		}
		_, link, _ := strings.Cut(strings.TrimSpace(line), ":")
		_, name, _ := strings.Cut(link, " ")
		fds = append(fds, name)
	}
	require.Equal(t, []string{"0 -> /dev/null", "1 -> " + spec.Log, "2 -> " + spec.Log}, fds)
	require.Equal(t, "/bin/sh|-c|"+script+"||an argument|-x|\n", parts[2])
	tail := strings.Fields(parts[3])
	require.Equal(t, []string{spec.Dir, strconv.Itoa(p.PID()), strconv.Itoa(p.PID())}, tail, "directory, session, PID")
	info, err := os.Stat(spec.Log)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// [measured] started from `cmd &` in a shell, workers inherited an ignored SIGINT.
// So the whole chain is run below a shell that ignores signals.
func TestSignalsAreDefault(t *testing.T) {
	for _, ignored := range []string{"INT QUIT TSTP HUP PIPE USR1", "INT QUIT PIPE USR1", "TSTP TTOU CONT"} {
		t.Run(ignored, func(t *testing.T) { signalsAreDefault(t, ignored) })
	}
}

func signalsAreDefault(t *testing.T, ignored string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "status")
	cmd := exec.Command("/bin/sh", "-c", `trap "" `+ignored+`; exec "$0" "$@"`, self(t), out)
	cmd.Env = append(os.Environ(), modeVar+"=signals")
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, string(b))
	status, err := os.ReadFile(out)
	require.NoError(t, err)
	got := map[string]string{}
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && slices.Contains([]string{"SigIgn", "SigBlk"}, name) {
			got[name] = strings.TrimSpace(value)
		}
	}
	const none = "0000000000000000"
	require.Equal(t, map[string]string{"SigIgn": none, "SigBlk": none}, got)
	require.NotContains(t, string(b), "SigIgn of hive: "+none, "the test must start with ignored signals")
	require.Contains(t, string(b), "SigIgn of hive: ")
}

// The Go runtime raises the soft limit of open files at start, twice on this way.
func TestOpenFileLimitIsTheOriginal(t *testing.T) {
	out := filepath.Join(t.TempDir(), "limit")
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 345; exec "$0" "$@"`, self(t), out)
	cmd.Env = append(os.Environ(), modeVar+"=limit")
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, string(b))
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "345\n", string(got))
}

// A context that ends while the byte is on its way leaves nothing undecided: the
// caller can go on waiting, or end the program.
func TestOpenInterrupted(t *testing.T) {
	needGate(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	g, err := proc.Start(newSpec(t, "sleep"))
	require.NoError(t, err)
	_, err = g.Open(ctx)
	require.ErrorIs(t, err, context.Canceled)
	p, err := g.Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Signal(syscall.SIGKILL))
	require.Equal(t, "SIGKILL", done(t, p).Signal)
}

func TestOpenAfterTheGateDied(t *testing.T) {
	needGate(t)
	g, err := proc.Start(newSpec(t, "sleep"))
	require.NoError(t, err)
	p, verdict, err := proc.Adopt(g.Identity())
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	require.NoError(t, p.Signal(syscall.SIGKILL))
	<-p.Done()
	_, err = g.Open(t.Context())
	require.True(t, errors.Is(err, proc.ErrGone), "%v", err)
}
