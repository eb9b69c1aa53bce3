package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/test/program"
)

// A limit on processes and threads is a line, not the dump of a Go program that got no
// thread; and what is there at the start stays hive's, however many workers follow.
func TestLimitOfThreads(t *testing.T) {
	needRoot(t) // the processes of a user count, and here nobody else's may
	s := newSite(t, "auth: none\n")
	dir := publicDir(t)
	state, binary, hive := filepath.Join(dir, "state"), filepath.Join(dir, "hive.bin"), filepath.Join(dir, "hive")
	require.NoError(t, os.Mkdir(state, 0o700))
	require.NoError(t, os.Chown(state, 54331, 54331))
	b, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, program.Write(binary, b, 0o755))
	s.exe, s.dir = hive, dir
	s.env = append(s.env, "HIVE_CONFIG=", "HIVE_DATA_DIR="+state, "HIVE_AUTH=none", "HOME="+state)
	limit := func(n int) {
		script := fmt.Sprintf("#!/bin/sh\nexec prlimit --nproc=%d setpriv --reuid 54331 --regid 54331 --clear-groups %s \"$@\"\n", n, binary)
		require.NoError(t, program.Write(hive, []byte(script), 0o755))
	}
	limit(24)
	code, out, errs := s.command(t)
	require.Equal(t, 1, code, errs)
	require.Empty(t, out)
	require.True(t, strings.HasPrefix(errs, "hive: hive needs 24 threads and cannot have them"), errs)
	require.Contains(t, errs, "limited by RLIMIT_NPROC (24)")
	require.Equal(t, 1, strings.Count(errs, "\n"), errs)

	limit(100)
	p := s.start(t)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(tasks), 24)
	p.signal(syscall.SIGTERM)
	p.end()
}
