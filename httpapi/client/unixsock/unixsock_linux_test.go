package unixsock_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client/unixsock"
)

// A socket whose path is longer than sockaddr_un is bound and reached, and leaves no
// descriptor behind.
func TestReachALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "s")
	before := descriptors(t)

	name, done, err := unixsock.Reach(path)
	require.NoError(t, err)
	require.LessOrEqual(t, len(name), unixsock.MaxPath)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	done()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket, info.Mode().Type())

	name, done, err = unixsock.Reach(path)
	require.NoError(t, err)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	require.NoError(t, err)
	done()
	cred, err := unixsock.Peer(conn)
	require.NoError(t, err)
	require.Equal(t, unixsock.Cred{PID: os.Getpid(), UID: uint32(os.Geteuid())}, cred)
	require.NoError(t, conn.Close())
	_, err = unixsock.Peer(conn)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, ln.Close())
	require.Equal(t, before, descriptors(t))

	_, _, err = unixsock.Reach(filepath.Join(dir, "gone", "s"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = unixsock.Reach(filepath.Join(path, "s"))
	require.Error(t, err, "its directory is a socket")
}

func TestAShortPathStaysAsItIs(t *testing.T) {
	for _, path := range []string{"s", "/run/hive/hive.sock", "/" + strings.Repeat("x", unixsock.MaxPath-1)} {
		name, done, err := unixsock.Reach(path)
		require.NoError(t, err)
		require.Equal(t, path, name)
		done()
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(fds)
}
