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
	made fs.FileInfo // the file as it was created
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

// inUseError is a socket that another process listens on.
type inUseError struct {
	path   string
	holder unixsock.Cred
	remedy string // what to do
}

func (e *inUseError) Error() string {
	return fmt.Sprintf("unix:%s is held by %s; %s", e.path, describe(e.holder), e.remedy)
}

// errNoSockets: the file system of the path does not support them.
var errNoSockets = errors.New("its file system does not support sockets")

// listenSocket opens a unix socket. One that is in use is an *inUseError. As with TCP, a
// child of a hive that was killed in the middle of a spawn may have its descriptors for a
// moment.
func listenSocket(ctx context.Context, path string, how config.Socket) (net.Listener, error) {
	// Whoever can replace files there can be mistaken for hive, and make hive set mode and
	// group of any file.
	if err := trust.Parent(path); errors.Is(err, trust.ErrUntrusted) {
		return nil, fmt.Errorf("listen on unix:%s: %w; or choose another path with --listen", path, err)
	}
	for deadline := time.Now().Add(listenTimeout); ; {
		ln, err := tryListenSocket(ctx, path, how)
		if err == nil {
			return ln, nil
		}
		// Any other error does not go away by waiting.
		if !errors.As(err, new(*inUseError)) || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, err
		}
		sleep(ctx, retryInterval)
	}
}

func tryListenSocket(ctx context.Context, path string, how config.Socket) (*socket, error) {
	// Two hives that start together must not each take the other's new socket for the stale
	// one.
	defer lockDir(filepath.Dir(path))()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	s, err := bindSocket(path, true)
	if err != nil {
		return nil, err
	}
	if err := s.open(how); err != nil {
		return nil, errors.Join(err, s.UnixListener.Close(), os.Remove(path))
	}
	return s, nil
}

// bindSocket creates the file with mode 0600, whatever its final mode. Only bind(2) can do
// that without a moment in which it is open to all, and it takes its mode from the
// process's umask. alone: nothing else creates files yet; else the mode is as it comes, and
// nobody but hive's user may enter the directory.
func bindSocket(path string, alone bool) (*socket, error) {
	name, done, err := unixsock.Reach(path)
	var ln *net.UnixListener
	if err == nil {
		bind := func() { ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}) }
		if alone {
			// The umask is the whole process's, which is why nothing else may create files yet.
			old := syscall.Umask(0o177)
			bind()
			syscall.Umask(old)
		} else {
			bind()
		}
		done()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("listen on unix:%s: the directory %s does not exist; create it, writable only by hive's user (in a systemd unit: RuntimeDirectory=)", path, filepath.Dir(path))
	// mknod(2): what a file system without sockets answers. EPERM is not EACCES.
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		return nil, fmt.Errorf("listen on unix:%s: %w (%w)", path, errNoSockets, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("listen on unix:%s: hive has no permission to create files in %s; choose another path with --listen, or make hive's user the owner of that directory", path, filepath.Dir(path))
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on unix:%s: a file has just been created there; start hive again", path)
	case err != nil:
		return nil, fmt.Errorf("listen: %w", err)
	}
	ln.SetUnlinkOnClose(false) // it would remove by name, whoever owns the file
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stat the socket: %w", err), ln.Close())
	}
	return &socket{UnixListener: ln, path: path, made: made}, nil
}

// open sets the socket's group, and only then its mode.
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

// removeStale removes the socket of a hive that has ended. One that accepts a connection is
// in use.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on unix:%s: a file that is not a socket exists; remove it, or choose another path", path)
	}
	holder, err := socketHolder(ctx, path)
	switch {
	case err == nil:
		return &inUseError{path: path, holder: holder, remedy: "stop it, or choose another path"}
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen on unix:%s: a socket exists, and could not be tested for use: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}

// socketHolder is the process that accepts connections on a socket; PID 0: it cannot be
// seen. The error is that of connect(2); EAGAIN (too many wait already) also means that it
// is in use.
func socketHolder(ctx context.Context, path string) (unixsock.Cred, error) {
	name, done, err := unixsock.Reach(path)
	if err != nil {
		return unixsock.Cred{}, err
	}
	defer done()
	conn, err := (&net.Dialer{Timeout: listenTimeout}).DialContext(ctx, "unix", name)
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

// lockDir locks the sockets of a directory against other hives, and returns the unlock.
// Whoever may read the directory can hold the lock, so the wait is at most listenTimeout.
func lockDir(dir string) (unlock func()) {
	f, err := os.Open(dir) //nolint:gosec // the directory of a socket that the operator names
	if err != nil {
		return func() {} // the next operation reports why
	}
	deadline := time.Now().Add(listenTimeout)
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil && time.Now().Before(deadline) {
		time.Sleep(retryInterval)
	}
	return func() { f.Close() }
}

// restoreSockets makes hive's own unix sockets anew whose files somebody has removed, at
// every audit until ctx ends: hive would be reached by them no more. Those that a service
// manager has passed are its own.
func (d *daemon) restoreSockets(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.AuditInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, ln := range d.listeners.all() {
			s, ok := ln.(*socket)
			if !ok {
				continue
			}
			log := d.log.WithField("socket", s.path)
			switch again, err := s.again(d.cfg.Socket); {
			case err != nil:
				log.WithError(err).Warn("the socket was removed and could not be made anew; restart hive")
			case again != nil:
				log.Warn("the socket was removed and has been made anew")
				// The old one stays open, for who is connected by it.
				go func() {
					if err := d.api.Serve(again); err != nil {
						log.WithError(err).Error("the socket that was made anew has failed")
					}
				}()
			}
		}
	}
}

// again makes the socket anew if nothing is at its path; nil: something is. It is bound in a
// directory that only hive's user enters, and gets its name when it has its mode: the umask,
// by which the first was made, is the whole process's, and others create files by now.
func (s *socket) again(how config.Socket) (_ net.Listener, err error) {
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilerr,nilnil // it is there, or cannot be seen
	}
	if err := trust.Parent(s.path); err != nil {
		return nil, err
	}
	defer lockDir(filepath.Dir(s.path))()
	dir, err := os.MkdirTemp(filepath.Dir(s.path), "."+filepath.Base(s.path)+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	next, err := bindSocket(filepath.Join(dir, filepath.Base(s.path)), false)
	if err != nil {
		return nil, err
	}
	if err = next.open(how); err == nil {
		// Not by rename, which replaces.
		err = os.Link(next.path, s.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make it anew: %w", err), next.UnixListener.Close())
	}
	s.made, next.path = next.made, s.path
	return next, nil
}
