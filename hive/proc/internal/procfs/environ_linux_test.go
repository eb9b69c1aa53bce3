package procfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc/internal/procfs"
)

func TestSearchEnviron(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                     nil,
		"PATH=/bin\x00HOME=/\x00":              nil,
		"MARK_A=1\x00":                         {"MARK_A": "1"},
		"PATH=/bin\x00MARK_A=1\x00MARK_B=\x00": {"MARK_A": "1", "MARK_B": ""},
		"MARK_A=1=2":                           {"MARK_A": "1=2"},      // the end was cut off
		"MARK_A=1\x00MARK_A=2\x00":             {"MARK_A": "2"},        // execve takes both
		"MARK_A\x00MARK_B=2\x00":               {"MARK_B": "2"},        // no variable
		"MARK_C=3\x00MARK_AA=4\x00":            nil,                    // not asked for
		"X=MARK_A=1\x00":                       nil,                    // the value of another
		"XMARK_A=1\x00":                        nil,                    // the name of another
		"MARK_A=MARK_B=2\x00":                  {"MARK_A": "MARK_B=2"}, // as above
		"MARK_MARK_A=1\x00MARK_B=2\x00":        {"MARK_B": "2"},
	} {
		require.Equal(t, want, procfs.SearchEnviron([]byte(text), "MARK_", "MARK_A", "MARK_B"), "%q", text)
	}
}

// To search is faster than to split, and finds the same.
func FuzzSearchEnviron(f *testing.F) {
	for _, text := range []string{"MARK_A=1\x00", "X=MARK_A=1\x00MARK_B=", "MARK_MARK_A=\x00\x00MARK_A", "MARK_A=1\x00MARK_A=2"} {
		f.Add([]byte(text))
	}
	names := []string{"MARK_A", "MARK_B"}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]string
		for kv := range strings.SplitSeq(string(text), "\x00") {
			name, value, found := strings.Cut(kv, "=")
			if found && slices.Contains(names, name) {
				if want == nil {
					want = map[string]string{}
				}
				want[name] = value
			}
		}
		require.Equal(t, want, procfs.SearchEnviron(text, "MARK_", names...))
	})
}

// sleeper is a process with an environment, arguments and a working directory.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	cmd.Args[0] = "./sleep"
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"MARK_A=1", "OTHER=2"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestWhatAProcessSaysOfItself(t *testing.T) {
	cmd := sleeper(t)
	pid := cmd.Process.Pid
	require.Equal(t, map[string]string{"MARK_A": "1"}, procfs.Environ(pid, "MARK_", "MARK_A", "MARK_B"))
	require.Equal(t, cmd.Dir, procfs.WorkDir(pid))
	require.True(t, procfs.Argv0Is(pid, "./sleep"))
	require.False(t, procfs.Argv0Is(pid, "./slee"))
	require.False(t, procfs.Argv0Is(pid, "./sleepy"))
	require.False(t, procfs.WithoutArgs(pid))
	exe, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	require.NotEqual(t, exe, procfs.Argv(pid)[0])
	require.Equal(t, []string{"1000"}, procfs.Argv(pid)[1:])
	require.True(t, strings.HasPrefix(procfs.Argv(pid)[0], "/"), "a relative name is made absolute: %q", procfs.Argv(pid))

	require.Nil(t, procfs.Environ(1<<30, "MARK_", "MARK_A"))
	require.Nil(t, procfs.Argv(1<<30))
	require.Empty(t, procfs.WorkDir(1<<30))
	require.False(t, procfs.Argv0Is(1<<30, ""))
	require.NoError(t, cmd.Process.Kill())
	require.Eventually(t, func() bool { return procfs.WithoutArgs(pid) }, 10*time.Second, time.Millisecond, "a zombie")
}

func FuzzSplitArgv(f *testing.F) {
	f.Add("a\x00b\x00")
	f.Add("a b") // setproctitle
	f.Add("\x00\x00")
	f.Fuzz(func(t *testing.T, cmdline string) {
		argv := procfs.SplitArgv([]byte(cmdline))
		require.NotEmpty(t, argv)
		require.Equal(t, strings.TrimSuffix(cmdline, "\x00"), strings.Join(argv, "\x00"))
	})
}

// A process that executes one program after the other has its environment all the time, and
// for moments none that can be read.
func TestEnvironInTheMiddleOfAnExec(t *testing.T) {
	script := filepath.Join(t.TempDir(), "again")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec \"$0\"\n"), 0o700))
	cmd := exec.Command(script)
	cmd.Env = []string{"MARK_A=1"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 2000 {
		require.Equal(t, map[string]string{"MARK_A": "1"}, procfs.Environ(cmd.Process.Pid, "MARK_", "MARK_A"))
	}
}
