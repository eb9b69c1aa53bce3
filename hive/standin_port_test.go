package hive_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// claimOthers takes what the program takes besides its port.
func (s *standIn) claimOthers(given map[string]string) error {
	if path := given["--uds-path"]; path != "" {
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		go func() { _, _ = l.Accept() }()
	}
	if port := given["--prometheus-port"]; port != "" {
		l, err := net.Listen("tcp", "0.0.0.0:"+port)
		if err != nil {
			return err
		}
		go func() { _, _ = l.Accept() }()
	}
	dir := given["--base-directory"]
	if dir == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "comfyui.db.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // held until the process ends
}

// open does with the port what the program does before it has loaded its model,
// and returns what it does after. Each listener goes to serve.
func (s *standIn) open(given map[string]string, serve func(net.Listener)) (func() error, error) {
	host, port := "0.0.0.0", given[s.port]
	if s.host != "" {
		host = given[s.host]
	}
	listen := func() (net.Listener, error) { return s.listen(host, port) }
	switch s.order {
	case early:
		l, err := listen()
		if err != nil {
			return nil, err
		}
		serve(l)
		return func() error { return nil }, nil
	case bound:
		var err error
		if listen, err = bindFirst(host, port); err != nil {
			return nil, err
		}
	}
	return func() error {
		if s.talks {
			fmt.Println("listening on", host, port)
		}
		l, err := listen()
		if err == nil {
			serve(l)
		}
		return err
	}, nil
}

func (s *standIn) listen(host, port string) (net.Listener, error) {
	if s.nextPort {
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			c.Close()
			n, err := strconv.Atoi(port)
			if err != nil {
				return nil, err
			}
			port = strconv.Itoa(n + 1)
		}
	}
	var lc net.ListenConfig
	if s.reusePort {
		lc.Control = reusePort
	}
	return lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, port))
}

func reusePort(_, _ string, c syscall.RawConn) (err error) {
	if ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); ctl != nil {
		return ctl
	}
	return err
}

// bindFirst binds with SO_REUSEPORT and listens later, as vLLM does.
func bindFirst(host, port string) (func() (net.Listener, error), error) {
	ip := net.ParseIP(host).To4()
	n, err := strconv.Atoi(port)
	if ip == nil || err != nil {
		return nil, fmt.Errorf("address %s:%s", host, port)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return nil, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte(ip)}); err != nil {
		return nil, err
	}
	return func() (net.Listener, error) {
		if err := unix.Listen(fd, 16); err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fd), "bound")
		defer f.Close()
		return net.FileListener(f)
	}, nil
}

// awaitStranger waits until somebody serves on the port; false: a signal came first.
func awaitStranger(port string, caught <-chan os.Signal) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-caught:
			return false
		case <-tick.C:
		}
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			c.Close()
			return true
		}
	}
}
