package proc_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/test/program"
)

func TestEnviron(t *testing.T) {
	inherited := []string{
		"PATH=/bin", "HOME=/root", "EMPTY=", "HIVE_TOKEN=secret", "HIVE_PORT=tcp://10.0.0.1:80", "RBEEHIVE_LEASE=outer",
		"NOTIFY_SOCKET=/run/n", "LISTEN_FDS=1", "LISTEN_PID=1", "WATCHDOG_USEC=1", "INVOCATION_ID=x", "JOURNAL_STREAM=8:1",
		"GODEBUG=x", "GOGC=50", "GOMEMLIMIT=1GiB", "GOMAXPROCS=1", "PORT=80", "HOST=0.0.0.0", "VLLM_PORT=1",
		"LLAMA_ARG_PORT=1", "LLAMA_ARG_HOST=h", "AIP_MODE=x", "INFINITY_PORT=1", "broken", "=nameless", "A=1=2", "PATH=/usr/bin",
	}
	for name, c := range map[string]struct{ extra, want []string }{
		"nothing extra": {nil, []string{"PATH=/usr/bin", "HOME=/root", "EMPTY=", "A=1=2", "SPT_NOENV=1"}},
		"set and replaced": {
			[]string{"NEW=x=y", "HOME=/tmp", "EMPTY=full", "NEW=z"},
			[]string{"PATH=/usr/bin", "HOME=/tmp", "EMPTY=full", "A=1=2", "SPT_NOENV=1", "NEW=z"},
		},
		"passed through by name": {
			[]string{"GOMAXPROCS", "PORT", "UNSET", "HOME"},
			[]string{"PATH=/usr/bin", "HOME=/root", "EMPTY=", "A=1=2", "SPT_NOENV=1", "GOMAXPROCS=1", "PORT=80"},
		},
		"never passed through": {
			[]string{"HIVE_TOKEN", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM", "RBEEHIVE_LEASE", "RBEEHIVE_STATE=forged", "", "=x"},
			[]string{"PATH=/usr/bin", "HOME=/root", "EMPTY=", "A=1=2", "SPT_NOENV=1"},
		},
		"set on purpose": {
			[]string{"HIVE_CACHE=/c", "SPT_NOENV="},
			[]string{"PATH=/usr/bin", "HOME=/root", "EMPTY=", "A=1=2", "SPT_NOENV=", "HIVE_CACHE=/c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(inherited)
			got := proc.Environ(inherited, c.extra)
			require.Empty(t, cmp.Diff(c.want, got))
			require.Equal(t, before, inherited)
		})
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	prog := filepath.Join(dir, "bin", "prog")
	require.NoError(t, os.Mkdir(filepath.Dir(prog), 0o700))
	require.NoError(t, program.Write(prog, []byte("#!/bin/sh\n"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600))
	t.Setenv("PATH", filepath.Dir(prog))

	for _, name := range []string{"prog", prog, "./bin/prog", "bin/prog"} {
		got, err := proc.LookPath(name, dir)
		require.NoError(t, err, name)
		require.Equal(t, prog, got)
	}
	for name, says := range map[string]string{
		"":                            "no program given",
		"nothing":                     "nothing is not in PATH (" + filepath.Dir(prog) + ")",
		"./nothing":                   filepath.Join(dir, "nothing") + " does not exist",
		filepath.Join(dir, "bin"):     "is a directory",
		filepath.Join(dir, "plain"):   "is not executable",
		filepath.Join(dir, "plain/x"): "not a directory",
	} {
		_, err := proc.LookPath(name, dir)
		require.ErrorIs(t, err, proc.ErrProgramNotFound, name)
		require.ErrorContains(t, err, says)
	}
	t.Chdir(dir)
	t.Setenv("PATH", "bin")
	_, err := proc.LookPath("prog", "")
	require.ErrorContains(t, err, "give its path")
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "TERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	} {
		got, err := proc.ParseSignal(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"", "SIG", "term", "15", "SIGNOTHING", "SIGSIGTERM"} {
		_, err := proc.ParseSignal(name)
		require.ErrorIs(t, err, proc.ErrUnknownSignal, name)
	}
}
