package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/host"
)

func TestCgroupIn(t *testing.T) {
	const text = "9:name=systemd:/a\n5:cpu,cpuacct:/b:c\n8:pids:/d\n0::/e\n"
	for controller, want := range map[string]string{"name=systemd": "/a", "cpuacct": "/b:c", "pids": "/d", "": "/e", "memory": ""} {
		require.Equal(t, want, host.CgroupIn(text, controller), controller)
	}
}

// In a container without a cgroup namespace of its own the mount shows a part of the
// hierarchy, and /proc/<pid>/cgroup is written from the root of all of it.
func TestBelowRoot(t *testing.T) {
	for _, c := range []struct {
		root, cgroup, want string
		ok                 bool
	}{
		{"/", "/a/b", "/a/b", true},
		{"/docker/c", "/docker/c", "/", true},
		{"/docker/c", "/docker/c/x", "/x", true},
		{"/docker/c", "/docker/cc", "/", false},
		{"/docker/c", "/elsewhere", "/", false},
	} {
		got, ok := host.BelowRoot(c.cgroup, c.root)
		require.Equal(t, c.ok, ok, c)
		if ok {
			require.Equal(t, c.want, got, c)
		}
	}
}

func TestTaskLimitsUp(t *testing.T) {
	mount := t.TempDir()
	write := func(dir, file, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(mount, dir), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(mount, dir, file), []byte(text), 0o600))
	}
	write("a/b", "pids.max", "max\n")
	write("a", "pids.max", "4915\n")
	write("a", "pids.current", "12\n")
	write("", "pids.max", "99\n") // the root of a container's view
	require.Equal(t, []host.Limit{
		{Max: 4915, Used: 12, Where: mount + "/a/pids.max"}, {Max: 99, Where: mount + "/pids.max"},
	}, host.TaskLimitsUp(mount, "/a/b"))
	require.Empty(t, host.TaskLimitsUp(t.TempDir(), "/nowhere"))
}
