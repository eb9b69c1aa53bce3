package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/test/harness"
)

// binding is how a stranger has a port.
type binding struct {
	network, host        string
	listens              bool // else it is bound only, as vLLM is while it loads
	reuseAddr, reusePort bool
}

// addresses are where strangers bind. A worker binds 127.0.0.1.
var addresses = []binding{
	{network: "tcp4", host: "127.0.0.1"}, {network: "tcp4", host: "0.0.0.0"}, {network: "tcp6", host: "::1"}, {network: "tcp", host: ""},
}

func anyBinding(rnd *rand.Rand) binding {
	b := addresses[rnd.IntN(len(addresses))]
	b.listens, b.reuseAddr, b.reusePort = rnd.IntN(3) > 0, rnd.IntN(2) == 0, rnd.IntN(2) == 0
	return b
}

// Times of a stranger, at most.
const (
	strangerWaits  = 200 * time.Millisecond // for a port that somebody has
	strangerStays  = 150 * time.Millisecond
	strangerPauses = 300 * time.Millisecond
)

// takePorts is one stranger: a program that hive did not start and must not ask
// anything. It takes one port after the other until ctx ends, each for a short time and
// in any way that a program can have one, half of them such as were leased a moment
// ago. When it finds its port taken it waits for it a while, and so often gets it the
// moment a worker has ended, or before one has begun to listen.
func (r *run) takePorts(ctx context.Context, rnd *rand.Rand) {
	upTo := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
	for harness.Sleep(ctx, upTo(strangerPauses)) {
		port, how := r.hive.First+rnd.IntN(ports), anyBinding(rnd)
		if leased := r.recentPorts(); rnd.IntN(2) == 0 && len(leased) > 0 {
			port = int(leased[rnd.IntN(len(leased))])
		}
		for until := time.Now().Add(upTo(strangerWaits)); ; {
			err := r.occupy(ctx, port, how, upTo(strangerStays))
			if err == nil {
				r.tally.Add("strangers", 1)
			}
			if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(until) || !harness.Sleep(ctx, time.Millisecond) {
				break
			}
		}
	}
}

// occupy has a port for so long.
func (r *run) occupy(ctx context.Context, port int, how binding, stay time.Duration) error {
	if !how.listens {
		return bindOnly(ctx, port, how, stay)
	}
	lc := net.ListenConfig{Control: how.control}
	l, err := lc.Listen(ctx, how.network, net.JoinHostPort(how.host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r.strangerHandler(port, how), ConnContext: resetOnClose, ReadHeaderTimeout: time.Second}
	srv.SetKeepAlivesEnabled(false)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	harness.Sleep(ctx, stay)
	_ = srv.Close()
	<-served
	return nil
}

// resetOnClose closes connections with a reset: sockets in TIME_WAIT would keep a port
// draining for a minute after the last stranger has gone.
func resetOnClose(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return ctx
}

// strangerHandler answers 200 to everything. A request of hive's own is one too many.
func (r *run) strangerHandler(port int, how binding) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.UserAgent() == "hive" {
			r.tally.Violation("STRANGER", "hive sent %s %s to a stranger on port %d (%+v)", req.Method, req.URL.Path, port, how)
		}
		r.tally.Add("requests to strangers", 1)
		fmt.Fprintln(w, "STRANGER")
	})
}

func (how binding) control(_, _ string, c syscall.RawConn) error {
	var set error
	if err := c.Control(func(fd uintptr) { set = how.set(int(fd)) }); err != nil {
		return err
	}
	return set
}

// set sets both options, also to off: Go turns SO_REUSEADDR on.
func (how binding) set(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, number(how.reuseAddr)),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, number(how.reusePort)))
}

func number(on bool) int {
	if on {
		return 1
	}
	return 0
}

func bindOnly(ctx context.Context, port int, how binding, stay time.Duration) error {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: port})
	switch how.host {
	case "127.0.0.1":
		addr = &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	case "::1", "":
		six := &unix.SockaddrInet6{Port: port}
		six.Addr[15] = byte(number(how.host == "::1"))
		family, addr = unix.AF_INET6, six
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := errors.Join(how.set(fd), unix.Bind(fd, addr)); err != nil {
		return err
	}
	harness.Sleep(ctx, stay)
	return nil
}
