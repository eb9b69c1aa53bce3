package proc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/hive/proc/gate"
	"rbeehive/test/program"
	"rbeehive/test/skip"
)

func needTrace(t *testing.T) {
	t.Helper()
	needGate(t)
	if err := proc.Traces(); err != nil {
		skip.Because(t, "nothing is traced here: "+err.Error())
	}
}

// What is said of a start is said of both ways: these tests are run behind the gate process too.
func TestBehindTheGateProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("long: runs the tests of starts once more")
	}
	needTrace(t) // else they were
	const both = "TestStartWaits|TestAbort|TestHiveKilled|TestExecFailures|TestWhatTheWorkerGets|TestSignalsAreDefault|TestOpen|TestLeafWithoutClone3|" +
		"TestRightsOfPrograms|TestKeysOfTheSession|TestStartAsAnotherUser$|TestStartAsANamedUser|TestGateAsAnotherUser|TestFrontKilled|TestSignalAtTheGate|" +
		"TestNohup|TestForegroundExitCodes|TestWhatAForegroundChildGets|TestProgramAtItsGate"
	cmd := exec.CommandContext(t.Context(), self(t), "-test.run=^("+both+")", "-test.v")
	cmd.Env = append(os.Environ(), gateVar+"=process")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Greater(t, strings.Count(string(out), "--- PASS"), 15, "some of them are not there any more")
}

// At its gate a traced child is the program, which has not begun, and its tracer is hive; the
// program that runs has no tracer and outlives hive.
func TestProgramAtItsGate(t *testing.T) {
	needGate(t)
	for name, c := range map[string]struct {
		argv   []string
		traced bool
	}{
		"program":         {[]string{"/bin/sleep", "300"}, true},
		"script":          {[]string{scriptOf(t, "#!/bin/sh", 0o755), "300"}, true},
		"script's script": {[]string{scriptOf(t, "#!"+scriptOf(t, "#!/bin/sh", 0o755), 0o755), "300"}, true},
		"set-user-id":     {[]string{copyOf(t, "/bin/sleep", 0o755|os.ModeSetuid), "300"}, false},
		"set-group-id":    {[]string{copyOf(t, "/bin/sleep", 0o755|os.ModeSetgid), "300"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			traced := c.traced && proc.Traces() == nil
			spec := newSpec(t, "")
			spec.Argv = c.argv
			g, err := proc.Start(spec)
			require.NoError(t, err)
			t.Cleanup(g.Abort)
			pid := g.Identity().PID
			require.Equal(t, traced, status(t, pid, "TracerPid") != "0")
			require.Equal(t, !traced, cmdline(t, pid)[0] == gate.Arg0)
			p, err := g.Open(t.Context())
			require.NoError(t, err)
			t.Cleanup(p.Close)
			require.Equal(t, "0", status(t, pid, "TracerPid"))
			await(t, "it sleeps", func() bool { return strings.HasPrefix(status(t, pid, "State"), "S") })
			for _, signals := range []string{"SigBlk", "SigIgn", "SigPnd", "ShdPnd"} {
				require.Equal(t, "0000000000000000", status(t, pid, signals), signals)
			}
			require.NoError(t, p.Signal(syscall.SIGTERM))
			require.Equal(t, "SIGTERM", done(t, p).Signal)
		})
	}
}

// scriptOf is a program that is executed by what its first line says.
func scriptOf(t *testing.T, first string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	require.NoError(t, program.Write(path, []byte(first+"\nexec sleep 300\n"), mode))
	return path
}

func copyOf(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	to := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, program.Write(to, b, mode.Perm()))
	require.NoError(t, os.Chmod(to, mode))
	return to
}

// status is a line of /proc/<pid>/status.
func status(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	require.Fail(t, "no line "+name)
	return ""
}

func cmdline(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	require.NoError(t, err)
	return strings.Split(string(text), "\x00")
}

// What loses its death signal in the execve, or its rights under trace, is not traced.
func TestWhatIsNotTraced(t *testing.T) {
	elf := func(class, machine byte) string {
		path := filepath.Join(t.TempDir(), "elf")
		head := make([]byte, 64)
		copy(head, "\x7fELF")
		head[4], head[5], head[6], head[16], head[18], head[20] = class, 1, 1, 2, machine, 1
		require.NoError(t, program.Write(path, head, 0o755))
		return path
	}
	loop := filepath.Join(t.TempDir(), "loop")
	require.NoError(t, program.Write(loop, []byte("#!"+loop+"\n"), 0o755))
	for path, want := range map[string]string{
		elf(1, 3):                  "it is a program of another architecture",
		elf(2, 183):                "it is a program of another architecture",
		elf(2, 62):                 "",
		"/bin/sh":                  "",
		loop:                       "it is a script of a script of a script",
		scriptOf(t, "#!sh", 0o755): "it is a script without the path of an interpreter",
		scriptOf(t, "#!", 0o755):   "it is a script without the path of an interpreter",
		scriptOf(t, "MZ", 0o755):   "it is no ELF program",
		copyOf(t, "/bin/true", 0o755|os.ModeSetuid):                        "has a set-id bit",
		scriptOf(t, "#!"+copyOf(t, "/bin/sh", 0o755|os.ModeSetgid), 0o755): "has a set-id bit",
		"/proc/self/exe": "on a file system that may not answer",
		"/nonexistent":   "no such file or directory",
		t.TempDir():      "is not what it should be",
	} {
		err := proc.Traceable(path)
		if want == "" {
			require.NoError(t, err, path)
			continue
		}
		require.ErrorContains(t, err, want, path)
	}
	capable := copyOf(t, "/bin/true", 0o755)
	// struct vfs_cap_data, revision 2, with CAP_NET_BIND_SERVICE permitted and effective.
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(capable, "security.capability", capability, 0); err == nil {
		require.ErrorContains(t, proc.Traceable(capable), "has file capabilities")
	}
}

// What others can put in the place of a program, or make hang, is not for hive to execute.
func TestPathsThatAreNotTraced(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	theirs, open := filepath.Join(dir, "theirs"), filepath.Join(dir, "open")
	for _, d := range []string{theirs, open, filepath.Join(open, "inner")} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	for _, d := range []string{dir, theirs, open, filepath.Join(open, "inner")} {
		b, err := os.ReadFile("/bin/true")
		require.NoError(t, err)
		require.NoError(t, program.Write(filepath.Join(d, "program"), b, 0o755))
	}
	require.NoError(t, os.Chmod(open, 0o777))
	require.NoError(t, os.Chown(theirs, 54321, 54322))
	require.NoError(t, os.Symlink("../theirs/program", filepath.Join(open, "inner", "link")))
	require.NoError(t, os.Symlink("theirs/../program", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	require.NoError(t, os.Symlink(dir+"/./program", filepath.Join(dir, "good")))
	for path, want := range map[string]string{
		dir + "/program":        "",
		dir + "/good":           "",
		theirs + "/program":     theirs + " belongs to another user",
		dir + "/link":           theirs + " belongs to another user",
		open + "/program":       open + " can be written to by others",
		open + "/inner/program": open + " can be written to by others",
		dir + "/loop":           "too many links",
	} {
		err := proc.Traceable(path)
		if want == "" {
			require.NoError(t, err, path)
			continue
		}
		require.ErrorContains(t, err, want, path)
	}
	require.NoError(t, os.Chmod(open, 0o777|os.ModeSticky))
	require.NoError(t, proc.Traceable(open+"/program"), "as in /tmp")
	require.NoError(t, os.Chown(open+"/program", 54321, 54322))
	require.ErrorContains(t, proc.Traceable(open+"/program"), "belongs to another user")
	spec := newSpec(t, "")
	spec.Argv, spec.Dir = []string{"/bin/sleep", "300"}, theirs
	g, err := proc.Start(spec)
	require.NoError(t, err)
	defer g.Abort()
	require.Equal(t, gate.Arg0, cmdline(t, g.Identity().PID)[0], "nor does hive enter their directories")
}

// A signal that somebody sends a child at its gate is there when the program begins, and does
// not come between the calls that the child is made to make.
func TestSignalsAtTheGateOfATracedChild(t *testing.T) {
	needTrace(t)
	for range 20 {
		spec := newSpec(t, "sleep")
		g, err := proc.Start(spec)
		require.NoError(t, err)
		require.NoError(t, g.Process().Signal(syscall.SIGTERM))
		require.NoError(t, g.Process().Signal(syscall.SIGCONT))
		p, err := g.Open(t.Context())
		require.NoError(t, err)
		require.Equal(t, "SIGTERM", done(t, p).Signal)
	}
}

// A set-id program that is put in the place of another just before the execve is not run
// under trace, where no_new_privs comes too late for it.
func TestProgramThatIsExchangedUnderTrace(t *testing.T) {
	needRoot(t)
	needTrace(t)
	dir := openDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	innocent, id := filepath.Join(dir, "innocent"), filepath.Join(dir, "id")
	path, err := exec.LookPath("id")
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, program.Write(innocent, b, 0o755))
	require.NoError(t, program.Write(id, b, 0o755))
	require.NoError(t, os.Chmod(id, 0o755|os.ModeSetuid))
	spec := newSpec(t, "")
	spec.User, spec.Argv = anotherUser, []string{filepath.Join(dir, "program"), "-u"}
	require.NoError(t, os.Symlink(innocent, spec.Argv[0]))
	restore := proc.BehindTheLook(func() {
		require.NoError(t, os.Remove(spec.Argv[0]))
		require.NoError(t, os.Symlink(id, spec.Argv[0]))
	})
	defer restore()
	p, _ := run(t, spec)
	require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))
	require.Equal(t, "54321", strings.TrimSpace(logOf(t, spec)))
}

// What is left of hive's rights in a child that becomes another user is taken from it.
func TestInheritableCapabilitiesStayBehind(t *testing.T) {
	needRoot(t)
	for _, setting := range []string{"", gateVar + "=process"} {
		const script = `grep -q '^CapInh:.0000000000000000' /proc/self/status && grep -q '^NoNewPrivs:.1' /proc/self/status && exit 3`
		cmd := exec.Command("setpriv", "--inh-caps", "+net_raw", self(t), anotherUser, "/", "/bin/sh", "-c", script)
		cmd.Env = []string{modeVar + "=start-as", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), setting}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		if strings.Contains(string(out), "may not execute hive's own program") {
			skip.Because(t, "the test binary is not to be executed by another user")
		}
		require.Equal(t, "exit 3", strings.TrimSpace(string(out)), setting)
	}
}
