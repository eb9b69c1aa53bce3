package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rbeehive/cmd/hive/config"
	"rbeehive/store/plain"
)

// socket is a unix socket that removes its file when it is closed, unless the
// file is another's by then.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo // the file as it was made
}

// Close removes the file first: while the socket is open its inode is not used
// again, so that the same inode means the same socket.
func (s *socket) Close() error {
	defer lockDir(filepath.Dir(s.path))()
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(s.made, now) {
		if err := os.Remove(s.path); err != nil {
			return errors.Join(fmt.Errorf("remove the socket: %w", err), s.UnixListener.Close())
		}
	}
	return s.UnixListener.Close()
}

// listenSockets opens the unix sockets of addrs. With an error none is left open.
func listenSockets(ctx context.Context, addrs []config.Address, how config.Socket) ([]net.Listener, error) {
	var open []net.Listener
	for _, addr := range addrs {
		if addr.Socket == "" {
			continue
		}
		ln, err := listenSocket(ctx, addr.Socket, how)
		if err != nil {
			return nil, errors.Join(err, closeListeners(open))
		}
		open = append(open, ln)
	}
	return open, nil
}

func listenSocket(ctx context.Context, path string, how config.Socket) (net.Listener, error) {
	// Two hives that start at once must not each take the other's new socket for
	// the stale one.
	defer lockDir(filepath.Dir(path))()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	s, err := bindSocket(path)
	if err != nil {
		return nil, err
	}
	if err := s.open(how); err != nil {
		return nil, errors.Join(err, s.UnixListener.Close(), os.Remove(path))
	}
	return s, nil
}

// bindSocket makes the file with mode 0600, whatever it is to have in the end.
// Only bind(2) can do that without a moment in which it is open to all, and it
// knows no mode but the process's umask. Nothing else makes files yet.
func bindSocket(path string) (*socket, error) {
	old := syscall.Umask(0o177)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("listen on unix:%s: the directory %s does not exist; make it, for hive's user alone to write to", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("listen on unix:%s: hive may not make files in %s; choose another path with --listen, or give hive's user that directory", path, filepath.Dir(path))
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on unix:%s: somebody has just made a file there; start again", path)
	case err != nil:
		return nil, fmt.Errorf("listen: %w", err)
	}
	ln.SetUnlinkOnClose(false) // by name, whosever it is
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at the socket: %w", err), ln.Close())
	}
	return &socket{UnixListener: ln, path: path, made: made}, nil
}

// open gives the socket its group, and only then its mode.
func (s *socket) open(how config.Socket) error {
	if how.GID >= 0 {
		if err := os.Lchown(s.path, -1, how.GID); err != nil {
			return fmt.Errorf("socket.group: %w; hive's user must be a member of the group (gid %d), or root", err, how.GID)
		}
	}
	if err := os.Chmod(s.path, how.Mode); err != nil {
		return fmt.Errorf("socket.mode: %w", err)
	}
	return nil
}

// removeStale removes the socket of a hive that is gone. One that takes a
// connection is somebody's. As with TCP, what is left of a hive that was killed in
// the middle of a spawn may have its descriptors for a moment.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on unix:%s: there is a file that is no socket; remove it, or choose another path with --listen", path)
	}
	holder, err := socketHolder(ctx, path)
	for deadline := time.Now().Add(listenPatience); err == nil && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
		holder, err = socketHolder(ctx, path)
	}
	switch {
	case err == nil:
		return fmt.Errorf("unix:%s is in use by %s; stop it, or choose another path with --listen", path, holder)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen on unix:%s: there is a socket, and it cannot be told whether somebody has it: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a hive that is gone: %w", err)
	}
	return nil
}

// socketHolder names who accepts connections on a socket. The error is that of
// connect(2); EAGAIN (too many wait already) also means that there is somebody.
func socketHolder(ctx context.Context, path string) (string, error) {
	const unknown = "another program that cannot be seen from here"
	conn, err := (&net.Dialer{Timeout: listenPatience}).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.EAGAIN) {
		return unknown, nil
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	pid := listenerPID(conn.(*net.UnixConn)) // that is what "unix" dials
	if pid <= 0 {
		return unknown, nil
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return fmt.Sprintf("process %d", pid), nil
	}
	return fmt.Sprintf("%s (pid %d)", plain.Text(strings.TrimSuffix(string(comm), "\n")), pid), nil
}

// lockDir keeps other hives out of what is done to the sockets of a directory,
// and returns the end of that. Whoever may read the directory can hold the lock,
// so it is not waited for beyond listenPatience.
func lockDir(dir string) (unlock func()) {
	f, err := os.Open(dir) //nolint:gosec // the directory of a socket that the operator names
	if err != nil {
		return func() {} // what follows says why
	}
	deadline := time.Now().Add(listenPatience)
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	return func() { f.Close() }
}
