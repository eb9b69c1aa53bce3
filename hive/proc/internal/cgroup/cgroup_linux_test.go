package cgroup_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/cgroup"
)

// tree makes directories with files of a cgroup in them, which are only files here: what
// the kernel makes of a real one is tested with package proc.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	return dir
}

func TestPopulated(t *testing.T) {
	for text, want := range map[string]bool{
		"populated 1\nfrozen 0\n": true,
		"populated 0\nfrozen 0\n": false,
		"frozen 0\npopulated 0\n": false,
		"":                        true, // only a clear no is one
	} {
		busy, err := cgroup.Populated(tree(t, map[string]string{"cgroup.events": text}))
		require.NoError(t, err)
		require.Equal(t, want, busy, "%q", text)
	}
	busy, err := cgroup.Populated(filepath.Join(t.TempDir(), "removed"))
	require.NoError(t, err)
	require.False(t, busy)
	unreadable := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(unreadable, "cgroup.events"), 0o755))
	busy, err = cgroup.Populated(unreadable)
	require.Error(t, err)
	require.True(t, busy, "what cannot be read must not be removed")
}

func TestPIDs(t *testing.T) {
	dir := tree(t, map[string]string{
		"cgroup.procs": "11\n12\n", "a/cgroup.procs": "13\n0\n", "a/b/cgroup.procs": "14\n", "c/cgroup.events": "populated 0\n",
	})
	require.ElementsMatch(t, []int{11, 12, 13, 14}, cgroup.PIDs(dir))
	require.Empty(t, cgroup.PIDs(filepath.Join(dir, "removed")))
}

func TestIDs(t *testing.T) {
	dir := tree(t, map[string]string{"a/b/cgroup.procs": ""})
	require.Len(t, cgroup.IDs(dir), 3, "itself and two below it")
	require.Len(t, cgroup.IDs(filepath.Join(dir, "a")), 2)
	for id := range cgroup.IDs(filepath.Join(dir, "a")) {
		require.True(t, cgroup.IDs(dir)[id])
	}
	require.Empty(t, cgroup.IDs(filepath.Join(dir, "removed")))
}

func TestEnterAndKill(t *testing.T) {
	dir := tree(t, map[string]string{"cgroup.procs": "", "cgroup.kill": ""})
	require.NoError(t, cgroup.Enter(dir, 4711))
	require.NoError(t, cgroup.Kill(dir))
	for file, want := range map[string]string{"cgroup.procs": "4711", "cgroup.kill": "1"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	require.ErrorIs(t, cgroup.Kill(t.TempDir()), fs.ErrNotExist, "a kernel before 5.14")
}

func TestRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leaf")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "c"), 0o755))
	require.NoError(t, cgroup.Remove(t.Context(), dir))
	require.NoDirExists(t, dir)
	require.NoError(t, cgroup.Remove(t.Context(), dir), "it is not there any more")
}

func TestRemoveSaysWhichOne(t *testing.T) {
	dir := tree(t, map[string]string{"a/file": ""}) // a real one has no files that keep it
	err := cgroup.Remove(t.Context(), dir)
	require.ErrorIs(t, err, unix.ENOTEMPTY)
	require.ErrorContains(t, err, "remove cgroup "+filepath.Join(dir, "a"))
}

func TestCounters(t *testing.T) {
	dir := tree(t, map[string]string{
		"cpu.stat":      "usage_usec 1500000\nuser_usec 7\n",
		"memory.events": "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 0\n",
	})
	used, err := cgroup.CPUTime(dir)
	require.NoError(t, err)
	require.Equal(t, 1500*time.Millisecond, used)
	require.EqualValues(t, 3, cgroup.OOMKills(dir))

	_, err = cgroup.CPUTime(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = cgroup.CPUTime(tree(t, map[string]string{"cpu.stat": "user_usec 7\n"}))
	require.ErrorContains(t, err, "no usage_usec")
	for _, text := range []string{"", "oom 4\noom_kill 0\n", "oom_kill x"} {
		require.Zero(t, cgroup.OOMKills(tree(t, map[string]string{"memory.events": text})), text)
	}
	require.Zero(t, cgroup.OOMKills(t.TempDir()))
}

func FuzzParseCounter(f *testing.F) {
	f.Add("oom 4\noom_kill ", uint64(3))
	f.Fuzz(func(t *testing.T, before string, n uint64) {
		_, _ = cgroup.ParseCounter([]byte(before), "oom_kill") // garbage: no panic
		got, err := cgroup.ParseCounter([]byte("oom 4\noom_kill "+strconv.FormatUint(n, 10)+"\n"+before), "oom_kill")
		require.NoError(t, err)
		require.Equal(t, n, got, "the first line counts")
	})
}
