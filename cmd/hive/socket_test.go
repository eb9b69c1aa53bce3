package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/cmd/hive/config"
)

// shortDir is a directory whose path leaves room for a socket in sockaddr_un.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hive")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

var private = config.Socket{Mode: 0o600, GID: -1}

func TestSocketModeAndGroup(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(shortDir(t), "s")
	for _, how := range []config.Socket{private, {Mode: 0o660, GID: os.Getegid()}, {Mode: 0o666, GID: -1}} {
		ln, err := main.ListenSocket(t.Context(), path, how)
		require.NoError(t, err)
		require.Equal(t, how.Mode, mode(t, path))
		require.Equal(t, 0, syscall.Umask(0), "the umask is as it was")
		require.NoError(t, ln.Close())
		require.NoFileExists(t, path)
	}
}

func TestSocketGroup(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	ln, err := main.ListenSocket(t.Context(), path, config.Socket{Mode: 0o660, GID: 54321})
	if os.Geteuid() != 0 { // not a member
		require.ErrorContains(t, err, "socket.group: ")
		require.ErrorContains(t, err, "hive's user must be a member of the group (gid 54321), or root")
		require.NoFileExists(t, path)
		return
	}
	require.NoError(t, err)
	defer ln.Close()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, uint32(54321), info.Sys().(*syscall.Stat_t).Gid)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())
}

// staleSocket is what a hive leaves that was killed.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	require.NoError(t, ln.Close())
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	staleSocket(t, path)
	ln, err := main.ListenSocket(t.Context(), path, private)
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestSocketInUseNamesItsHolder(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	first, err := main.ListenSocket(t.Context(), path, private)
	require.NoError(t, err)
	defer first.Close()
	_, err = main.ListenSocket(t.Context(), path, private)
	require.ErrorContains(t, err, "unix:"+path+" is held by process "+strconv.Itoa(os.Getpid())+" (")
	require.ErrorContains(t, err, "); stop it, or choose another path")
	conn, err := net.Dial("unix", path)
	require.NoError(t, err, "it is left alone")
	require.NoError(t, conn.Close())
}

func TestSocketPathsThatAreRefused(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	write(t, file, "precious")
	_, err := main.ListenSocket(t.Context(), file, private)
	require.EqualError(t, err, "listen on unix:"+file+": a file that is not a socket exists; remove it, or choose another path")
	require.FileExists(t, file)

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file, link))
	_, err = main.ListenSocket(t.Context(), link, private)
	require.ErrorContains(t, err, "a file that is not a socket exists")

	_, err = main.ListenSocket(t.Context(), filepath.Join(dir, "gone", "s"), private)
	require.ErrorContains(t, err, "the directory "+filepath.Join(dir, "gone")+" does not exist; create it")
}

// A hive that ends late must not take away the socket of the one that has
// replaced it.
func TestSocketOfAnotherIsLeft(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	old, err := main.ListenSocket(t.Context(), path, private)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	next, err := main.ListenSocket(t.Context(), path, private)
	require.NoError(t, err)
	defer next.Close()
	require.NoError(t, old.Close())
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// Of hives that start at once over a stale socket one gets it, and it works.
func TestSocketOfManyStartsAtOnce(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	for range 4 {
		staleSocket(t, path)
		won := make(chan net.Listener, 8)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if ln, err := main.ListenSocket(t.Context(), path, private); err == nil {
					won <- ln
				}
			})
		}
		// The loser waits for listenTimeout; the winner need not.
		winner := <-won
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.NoError(t, winner.Close())
		all.Wait()
		close(won)
		for ln := range won { // it came after the first had ended
			require.NoError(t, ln.Close())
		}
		require.NoFileExists(t, path)
	}
}
