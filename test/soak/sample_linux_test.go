package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatIsReadOfAProcess(t *testing.T) {
	pid := os.Getpid()
	values, err := status(pid)
	require.NoError(t, err)
	require.Greater(t, values["VmRSS"], 1.*mib)
	require.GreaterOrEqual(t, values["VmRSS"], values["RssAnon"])
	require.GreaterOrEqual(t, values["Threads"], 1.)

	before, err := cpuSeconds(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		for range 10_000_000 {
			_ = pid * pid
		}
		now, err := cpuSeconds(pid)
		return err == nil && now > before
	}, 30*time.Second, time.Millisecond)

	_, err = status(1 << 30)
	require.Error(t, err)
	_, err = cpuSeconds(1 << 30)
	require.Error(t, err)
}

// A child that has ended and was not waited for is one, too.
func TestChildren(t *testing.T) {
	before, err := children(os.Getpid())
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), "cat")
	in, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	now, err := children(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, before+1, now)
	require.NoError(t, in.Close())
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.Process.Pid))
		return err == nil && strings.Contains(string(text), "\nState:\tZ")
	}, 10*time.Second, time.Millisecond)
	now, err = children(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, before+1, now)
	require.NoError(t, child.Wait())
	now, err = children(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, before, now)
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"hive.db": 10_000, "logs/a.log": 1, "logs/a.log.1": 2, "backups/b.db": 100, "models/deep/down/m": 1000} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
	}
	// A hole has a length, and what is allocated behind the end has none.
	require.NoError(t, os.Truncate(filepath.Join(dir, "logs/a.log"), 50*mib))
	var l look
	require.NoError(t, l.measure(dir))
	require.EqualValues(t, 10_000, l.db.bytes)
	require.GreaterOrEqual(t, l.db.blocks, int64(8192))
	require.Equal(t, usage{2, 50*mib + 2, l.logs.blocks}, l.logs)
	require.Less(t, l.logs.blocks, int64(mib))
	require.EqualValues(t, 100, l.backups.bytes)
	require.Equal(t, 5, l.data.files)
	require.EqualValues(t, 50*mib+2+10_000+100+1000, l.data.bytes)
	require.Error(t, l.measure(filepath.Join(dir, "hive.db", "nothing")))
}
