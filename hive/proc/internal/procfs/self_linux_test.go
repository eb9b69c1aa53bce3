package procfs_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc/internal/procfs"
)

func TestCached(t *testing.T) {
	var c procfs.Cached[int]
	failed := errors.New("not yet")
	_, err := c.Get(func() (int, error) { return 1, failed })
	require.ErrorIs(t, err, failed)
	for range 2 {
		got, err := c.Get(func() (int, error) { return 2, nil })
		require.NoError(t, err)
		require.Equal(t, 2, got, "a failure is not kept")
	}
	got, err := c.Get(func() (int, error) { return 3, failed })
	require.NoError(t, err)
	require.Equal(t, 2, got, "a success is")
}

func TestSelf(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	boot, err := procfs.BootID()
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(text)), boot)
	ns, err := procfs.PIDNamespace()
	require.NoError(t, err)
	require.NotZero(t, ns)
	uid, err := procfs.OverflowUID()
	require.NoError(t, err)
	require.NotEqualValues(t, os.Geteuid(), uid, "this user has a number of its own here")
}

func TestMapsAll(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"         0     100000      65536\n": false, // a container's
		"      1000       1000          1\n": false,
		"0 1000 1\n1 100000 65536\n":         false,
		"         0     100000 4294967295\n": true, // everybody, by other numbers
		"":                                   false,
	} {
		require.Equal(t, want, procfs.MapsAll(text), "%q", text)
	}
}

func TestChildren(t *testing.T) {
	pid := sleeper(t).Process.Pid
	children := procfs.Children()
	if len(children) == 0 {
		require.NoFileExists(t, "/proc/self/task/"+strconv.Itoa(os.Getpid())+"/children", "only a kernel without the file tells of none")
		return
	}
	require.Contains(t, children, pid)
	require.NotContains(t, children, os.Getpid())
}
