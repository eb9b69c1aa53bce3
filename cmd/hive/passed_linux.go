package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// passedListeners takes the sockets that a service manager has opened for hive
// (sd_listen_fds(3)): its variables are removed, and the descriptors are closed on execve,
// so that nothing that hive starts takes them for its own. What hive cannot serve is an
// error. After an error none is left open.
func passedListeners() (lns []net.Listener, err error) {
	files := activation.Files(true)
	_ = os.Unsetenv("LISTEN_PIDFDID") // of systemd 259 and later; the library does not know it
	defer func() {
		for _, f := range files {
			_ = f.Close() // a listener has a descriptor of its own
		}
		if err != nil {
			for _, ln := range lns {
				_ = ln.Close()
			}
		}
	}()
	for _, f := range files {
		ln, err := passedListener(f)
		if err != nil {
			return lns, fmt.Errorf("descriptor %d (%s) of the service manager (LISTEN_FDS): %w; hive accepts listening TCP sockets and unix stream sockets with a path: correct the socket unit", f.Fd(), f.Name(), err)
		}
		lns = append(lns, ln)
	}
	return lns, nil
}

func passedListener(f *os.File) (net.Listener, error) {
	fd, opts := int(f.Fd()), [4]int{}
	// Asked before net.FileListener, which takes some of these sockets and of the others says
	// only that the argument is invalid.
	for i, name := range [...]int{unix.SO_TYPE, unix.SO_ACCEPTCONN, unix.SO_DOMAIN, unix.SO_PROTOCOL} {
		value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if err != nil {
			return nil, os.NewSyscallError("getsockopt", err)
		}
		opts[i] = value
	}
	kind, listens, domain, protocol := opts[0], opts[1], opts[2], opts[3]
	switch {
	case kind != unix.SOCK_STREAM:
		return nil, fmt.Errorf("a socket of type %d", kind)
	case listens == 0:
		return nil, errors.New("a socket that does not listen")
	case domain != unix.AF_UNIX && domain != unix.AF_INET && domain != unix.AF_INET6:
		return nil, fmt.Errorf("a socket of address family %d", domain)
	// MPTCP is what a socket unit may ask for, and what Go itself listens with by default.
	case domain != unix.AF_UNIX && protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP:
		return nil, fmt.Errorf("a socket of protocol %d", protocol)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	// An abstract name has no mode that keeps anybody out.
	if path := ln.Addr().String(); domain == unix.AF_UNIX && !filepath.IsAbs(path) {
		_ = ln.Close()
		return nil, fmt.Errorf("the unix socket %q", path)
	}
	return ln, nil
}

// v6Only reports whether a listener of IPv6 takes no IPv4.
func v6Only(ln net.Listener) (yes bool) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		yes = err == nil && on != 0
	})
	return yes && err == nil
}
