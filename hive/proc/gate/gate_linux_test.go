package gate_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/proc/gate"
	"rbeehive/test/skip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass runs binary as the gate, writes opener to it and returns what gate and program
// wrote, the report and the exit code.
func pass(t *testing.T, binary, opener string, env []string, argv ...string) (out, report string, code int) {
	t.Helper()
	waitR, waitW, err := os.Pipe()
	require.NoError(t, err)
	reportR, reportW, err := os.Pipe()
	require.NoError(t, err)
	// Fd makes the pipe blocking again: the gate reads without a poller.
	waitR.Fd()
	cmd := exec.Command(binary)
	cmd.Args = append([]string{gate.Arg0}, argv...)
	cmd.Env = env
	cmd.ExtraFiles = []*os.File{waitR, reportW}
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	require.NoError(t, cmd.Start())
	require.NoError(t, waitR.Close())
	require.NoError(t, reportW.Close())
	_, err = waitW.WriteString(opener)
	require.NoError(t, err)
	require.NoError(t, waitW.Close())
	got, err := io.ReadAll(reportR)
	require.NoError(t, err)
	require.NoError(t, reportR.Close())
	_ = cmd.Wait()
	return b.String(), string(got), cmd.ProcessState.ExitCode()
}

// Measured: the gate costs 2 ms as an initialiser that runs first, 3.5 ms in main
// behind viper, cobra and the like. So what runs before it in the real binary is
// listed by the runtime, and checked here.
func TestNothingHeavyStartsBeforeTheGate(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		skip.Because(t, "no go command to build cmd/hive with")
	}
	binary := filepath.Join(t.TempDir(), "hive")
	build := exec.Command(goTool, "build", "-o", binary, "rbeehive/cmd/hive")
	msg, err := build.CombinedOutput()
	require.NoError(t, err, string(msg))

	out, report, code := pass(t, binary, "G", []string{"GODEBUG=inittrace=1"}, "", "", "/bin/echo", "echo", "the program")
	require.Zero(t, code, out)
	require.Empty(t, report)
	require.True(t, strings.HasSuffix(out, "the program\n"), out)
	var before []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "init "); ok {
			name, _, _ := strings.Cut(rest, " ")
			before = append(before, name)
		}
	}
	require.Contains(t, before, "os", "the trace is not what it was")
	require.Less(t, len(before), 40, before)
	for _, name := range before {
		first, _, _ := strings.Cut(name, "/")
		require.NotContains(t, first, ".", "a package from outside starts before the gate")
		require.NotEqual(t, "rbeehive", first, "%s starts before the gate", name)
		require.NotContains(t, []string{"net", "fmt", "reflect", "regexp", "text", "html", "log", "unicode", "flag"}, name)
		require.False(t, strings.HasPrefix(name, "net/"), name)
	}
}

// Anybody may call the binary hive-gate; only with a pipe on descriptor 3 is it one.
func TestNotAGateWithoutThePipe(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	for name, extra := range map[string][]*os.File{"closed": nil, "no pipe": {null}} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Args = []string{gate.Arg0, "-test.run=^$"}
			cmd.ExtraFiles = extra
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Contains(t, string(out), "PASS")
		})
	}
}

func TestOpeningBytes(t *testing.T) {
	if !gate.Waits {
		t.Skip("built with nogate: no byte is waited for")
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	for opener, want := range map[string]int{
		"": gate.ExitNotOpened, "N": gate.ExitNotOpened, "GG": gate.ExitNotOpened, "GH": gate.ExitNotOpened,
		"\x00": gate.ExitNotOpened, "G": 0, "H": 0,
	} {
		out, report, code := pass(t, exe, opener, nil, "", "", "/bin/echo", "echo", "ran")
		require.Equal(t, want, code, "%q: %s", opener, out)
		require.Equal(t, want == 0, out == "ran\n", "%q: %s", opener, out)
		require.Empty(t, report)
	}
}

// A hive that is not root gets CAP_SYS_PTRACE from its unit; a worker must not.
// Another ambient capability (here CAP_NET_BIND_SERVICE) is for the workers.
func TestWorkersDoNotInheritPtrace(t *testing.T) {
	skip.UnlessRoot(t, "only root can give a process ambient capabilities")
	const bind, ptrace = 10, 19
	waitR, waitW, err := os.Pipe()
	require.NoError(t, err)
	reportR, reportW, err := os.Pipe()
	require.NoError(t, err)
	defer reportR.Close()
	waitR.Fd()
	cmd := exec.Command("/proc/self/exe") // another user may not enter the test binary's directory
	cmd.Args = []string{gate.Arg0, "", "", "/bin/cat", "cat", "/proc/self/status"}
	cmd.ExtraFiles = []*os.File{waitR, reportW}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 54321, Gid: 54322},
		AmbientCaps: []uintptr{bind, ptrace},
	}
	_, err = waitW.WriteString("G")
	require.NoError(t, err)
	require.NoError(t, waitW.Close())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "Uid:\t54321")
	for _, set := range []string{"CapAmb", "CapEff", "CapPrm"} {
		require.Contains(t, string(out), set+":\t0000000000000400\n")
	}
	require.NoError(t, waitR.Close())
	require.NoError(t, reportW.Close())
}

// What the letters ask for, and nothing else.
func TestLetters(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	for letters, want := range map[string]string{"": "0", "n": "1", "un": "1"} {
		out, report, code := pass(t, exe, "G", nil, letters, "/proc", "/bin/sh", "sh", "-c", "pwd; grep NoNewPrivs self/status")
		require.Zero(t, code, out)
		require.Empty(t, report)
		require.Equal(t, "/proc\nNoNewPrivs:\t"+want+"\n", out, letters)
	}
}

func TestReports(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, c := range []struct {
		argv  []string
		step  string
		errno syscall.Errno
	}{
		{[]string{"", "", "/nowhere", "x"}, "execve", syscall.ENOENT},
		{[]string{"", "/", "/dev/null", "x"}, "execve", syscall.EACCES},
		{[]string{"n", "/nowhere", "/bin/true", "x"}, "chdir", syscall.ENOENT},
		{[]string{"", "", "/bin/true"}, "arguments", syscall.EINVAL},
	} {
		_, report, code := pass(t, exe, "G", nil, c.argv...)
		require.Equal(t, gate.ExitNotExecuted, code)
		step, errno, ok := gate.ParseReport([]byte(report))
		require.True(t, ok, "%q", report)
		require.Equal(t, c.step, step)
		require.Equal(t, c.errno, syscall.Errno(errno))
	}
}

func TestParseReport(t *testing.T) {
	for _, step := range []byte{gate.StepArguments, gate.StepDescriptors, gate.StepSignals, gate.StepPrivileges, gate.StepDirectory, gate.StepExec} {
		report := gate.Report(step, 0x01020304)
		name, errno, ok := gate.ParseReport(report[:])
		require.True(t, ok)
		require.NotEmpty(t, name)
		require.Equal(t, uint32(0x01020304), errno)
	}
	for _, bad := range []string{"", "x", "x0000x", "?0000"} {
		_, _, ok := gate.ParseReport([]byte(bad))
		require.False(t, ok, bad)
	}
}
