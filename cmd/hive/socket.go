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
	"rbeehive/hive/trust"
	"rbeehive/httpapi/client/unixsock"
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

// Addr is the path, whatever name it was bound by.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: s.path} }

// inUseError is a socket that somebody listens on.
type inUseError struct {
	path   string
	holder unixsock.Cred
	remedy string // what to do
}

func (e *inUseError) Error() string {
	return fmt.Sprintf("unix:%s is held by %s; %s", e.path, describe(e.holder), e.remedy)
}

// errNoSockets: the file system of the path has none.
var errNoSockets = errors.New("its file system has no sockets")

// listenSocket opens a unix socket. One that somebody listens on is an *inUseError. As
// with TCP, what is left of a hive that was killed in the middle of a spawn may have
// its descriptors for a moment.
func listenSocket(ctx context.Context, path string, how config.Socket) (net.Listener, error) {
	// Who can exchange files there can be taken for hive, and has hive give a mode and a
	// group to a file of his choice.
	if err := trust.Parent(path); errors.Is(err, trust.ErrUntrusted) {
		return nil, fmt.Errorf("listen on unix:%s: %w; or choose another path with --listen", path, err)
	}
	for deadline := time.Now().Add(listenPatience); ; {
		ln, err := tryListenSocket(ctx, path, how)
		if err == nil {
			return ln, nil
		}
		if !errors.As(err, new(*inUseError)) || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, err
		}
		sleep(ctx, retryPause)
	}
}

func tryListenSocket(ctx context.Context, path string, how config.Socket) (*socket, error) {
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
	name, done, err := unixsock.Reach(path)
	var ln *net.UnixListener
	if err == nil {
		old := syscall.Umask(0o177)
		ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		syscall.Umask(old)
		done()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("listen on unix:%s: the directory %s does not exist; make it, for hive's user alone to write to (in a unit of systemd: RuntimeDirectory=)", path, filepath.Dir(path))
	// mknod(2): what a file system without sockets answers. EPERM is not EACCES.
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		return nil, fmt.Errorf("listen on unix:%s: %w (%w)", path, errNoSockets, err)
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
// connection is somebody's.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on unix:%s: there is a file that is no socket; remove it, or choose another path", path)
	}
	holder, err := socketHolder(ctx, path)
	switch {
	case err == nil:
		return &inUseError{path: path, holder: holder, remedy: "stop it, or choose another path"}
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen on unix:%s: there is a socket, and it cannot be told whether somebody has it: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a hive that is gone: %w", err)
	}
	return nil
}

// socketHolder is who accepts connections on a socket; PID 0: that cannot be seen. The
// error is that of connect(2); EAGAIN (too many wait already) also means that there is
// somebody.
func socketHolder(ctx context.Context, path string) (unixsock.Cred, error) {
	name, done, err := unixsock.Reach(path)
	if err != nil {
		return unixsock.Cred{}, err
	}
	defer done()
	conn, err := (&net.Dialer{Timeout: listenPatience}).DialContext(ctx, "unix", name)
	if errors.Is(err, syscall.EAGAIN) {
		return unixsock.Cred{}, nil
	}
	if err != nil {
		return unixsock.Cred{}, err
	}
	defer conn.Close()
	holder, err := unixsock.Peer(conn.(*net.UnixConn)) // that is what "unix" dials
	if err != nil {
		return unixsock.Cred{}, nil
	}
	return holder, nil
}

// describe names a process for a person. Any user chooses the name of a process.
func describe(c unixsock.Cred) string {
	if c.PID == 0 {
		return "another program that cannot be seen from here"
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID) + "/comm")
	if err != nil {
		return fmt.Sprintf("process %d", c.PID)
	}
	return fmt.Sprintf("process %d (%s)", c.PID, plain.Text(strings.TrimSuffix(string(comm), "\n")))
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
		time.Sleep(retryPause)
	}
	return func() { f.Close() }
}
