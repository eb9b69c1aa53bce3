package procfs_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc/internal/procfs"
)

func TestParseCgroup(t *testing.T) {
	for text, want := range map[string]string{
		"0::/a/b:c\n":                           "/a/b:c",
		"9:name=systemd:/x\n8:pids:/y\n0::/z\n": "/z",
		"0::/\n":                                "/",
		"0::/no line break":                     "/no line break",
	} {
		got, ok := procfs.ParseCgroup(text)
		require.True(t, ok, text)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "9:pids:/x\n", "10::/x\n", " 0::/x\n"} {
		_, ok := procfs.ParseCgroup(bad)
		require.False(t, ok, bad)
	}
}

// A cgroup's name is whatever its user likes, but for a slash and, as the kernel has
// it, a line break.
func FuzzParseCgroup(f *testing.F) {
	f.Add("a")
	f.Add("0::")
	f.Fuzz(func(t *testing.T, name string) {
		name = strings.ReplaceAll(name, "\n", "")
		got, ok := procfs.ParseCgroup("1:name=systemd:/" + name + "\n0::/" + name + "\n")
		require.True(t, ok)
		require.Equal(t, "/"+name, got)
	})
}

func TestRelative(t *testing.T) {
	for _, c := range []struct {
		root, in, want string
		ok             bool
	}{
		{"/", "/a/b", "/a/b", true},
		{"/docker/x", "/docker/x", "/", true},
		{"/docker/x", "/docker/x/a", "/a", true},
		{"/docker/x", "/docker/xy", "", false},
		{"/docker/x", "/", "", false},
	} {
		got, ok := procfs.CgroupMount{Root: c.root}.Relative(c.in)
		require.Equal(t, c.ok, ok, c)
		if ok {
			require.Equal(t, c.want, got, c)
		}
	}
}

func TestFindCgroupMount(t *testing.T) {
	m, err := procfs.FindCgroupMount()
	if err != nil {
		require.ErrorIs(t, err, procfs.ErrNoCgroup2)
		require.Zero(t, m)
		return
	}
	require.FileExists(t, m.Dir+"/cgroup.procs")
	if own, ok := m.Of(os.Getpid()); ok {
		require.DirExists(t, m.Dir+own)
	}
	_, ok := m.Of(1 << 30)
	require.False(t, ok)
}

func TestUnescape(t *testing.T) {
	require.Equal(t, "/mnt/a b\tc\nd\\040", procfs.Unescape(`/mnt/a\040b\011c\012d\134040`))
}
