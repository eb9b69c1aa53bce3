package procfs_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
)

func TestOpenFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	want, ok := procfs.FileOf(name)
	require.True(t, ok)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(name, &st))
	require.Equal(t, procfs.FileID{Dev: st.Dev, Ino: st.Ino}, want)

	require.NoError(t, os.Remove(name)) // its name has gone, and it is the same file
	got, ok := procfs.OpenFile(os.Getpid(), int(f.Fd()))
	require.True(t, ok)
	require.Equal(t, want, got)
	_, ok = procfs.FileOf(name)
	require.False(t, ok)
	_, ok = procfs.OpenFile(os.Getpid(), 1<<20)
	require.False(t, ok)
}

func TestSocketInodes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f, err := l.(*net.TCPListener).File() // a second descriptor of the same socket
	require.NoError(t, err)
	require.NoError(t, l.Close())
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	got, err := procfs.SocketInodes(t.Context(), os.Getpid())
	require.NoError(t, err)
	require.True(t, got[st.Ino], "%d is not in %v", st.Ino, got)
	require.NoError(t, f.Close())
	got, err = procfs.SocketInodes(t.Context(), os.Getpid())
	require.NoError(t, err)
	require.False(t, got[st.Ino])

	_, err = procfs.SocketInodes(t.Context(), 1<<30)
	require.True(t, procfs.Gone(err), "%v", err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = procfs.SocketInodes(over, os.Getpid())
	require.ErrorIs(t, err, context.Canceled)
}

func TestParseSocketLink(t *testing.T) {
	inode, ok := procfs.ParseSocketLink("socket:[4711]")
	require.True(t, ok)
	require.EqualValues(t, 4711, inode)
	for _, bad := range []string{"", "/dev/null", "pipe:[4711]", "socket:[]", "socket:[x]", "/tmp/socket:[4711]"} {
		_, ok := procfs.ParseSocketLink(bad)
		require.False(t, ok, bad)
	}
}
