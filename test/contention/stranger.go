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
)

// strangers have ports of the range for a short time each, in every way a
// program can have one. hive did not start them, and must not ask them anything.
type strangers struct{ *world }

func newStrangers(w *world) *strangers { return &strangers{w} }

// stance is how a stranger has a port.
type stance struct {
	network, host        string
	listens              bool // else it is bound only, as vLLM is while it loads
	reuseAddr, reusePort bool
}

// addresses are where strangers bind. A worker binds 127.0.0.1.
var addresses = []stance{
	{network: "tcp4", host: "127.0.0.1"}, {network: "tcp4", host: "0.0.0.0"}, {network: "tcp6", host: "::1"}, {network: "tcp", host: ""},
}

func anyStance(rnd *rand.Rand) stance {
	s := addresses[rnd.IntN(len(addresses))]
	s.listens, s.reuseAddr, s.reusePort = rnd.IntN(3) > 0, rnd.IntN(2) == 0, rnd.IntN(2) == 0
	return s
}

// Times of a stranger, at most.
const (
	strangerWaits = 200 * time.Millisecond // for a port that somebody has
	strangerStays = 150 * time.Millisecond
	strangerRests = 300 * time.Millisecond
)

// roam takes one port after the other until ctx ends, half of them such as were
// leased a moment ago. A stranger that finds its port taken waits for it a while,
// and so often gets it the moment a worker has ended, or before one has begun to
// listen.
func (s *strangers) roam(ctx context.Context, rnd *rand.Rand) {
	upTo := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
	for wait(ctx, upTo(strangerRests)) {
		port, how := s.y.First+rnd.IntN(ports), anyStance(rnd)
		if leased := s.leasedLately(); rnd.IntN(2) == 0 && len(leased) > 0 {
			port = int(leased[rnd.IntN(len(leased))])
		}
		for until := time.Now().Add(upTo(strangerWaits)); ; {
			err := s.squat(ctx, port, how, upTo(strangerStays))
			if err == nil {
				s.tally.add("strangers", 1)
			}
			if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(until) || !wait(ctx, time.Millisecond) {
				break
			}
		}
	}
}

// squat has a port for so long.
func (s *strangers) squat(ctx context.Context, port int, how stance, stay time.Duration) error {
	if !how.listens {
		return s.bind(ctx, port, how, stay)
	}
	lc := net.ListenConfig{Control: how.control}
	l, err := lc.Listen(ctx, how.network, net.JoinHostPort(how.host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.answer(port, how), ConnContext: abrupt, ReadHeaderTimeout: time.Second}
	srv.SetKeepAlivesEnabled(false)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	wait(ctx, stay)
	_ = srv.Close()
	<-served
	return nil
}

// abrupt closes connections with a reset: residue of them would keep a port
// draining for a minute after the last stranger has gone.
func abrupt(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return ctx
}

// answer answers 200 to everything. A request of hive's own is one too many.
func (s *strangers) answer(port int, how stance) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == "hive" {
			s.found("STRANGER", "hive sent %s %s to a stranger on port %d (%+v)", r.Method, r.URL.Path, port, how)
		}
		s.tally.add("requests to strangers", 1)
		fmt.Fprintln(w, "STRANGER")
	})
}

func (how stance) control(_, _ string, c syscall.RawConn) error {
	var set error
	if err := c.Control(func(fd uintptr) { set = how.set(int(fd)) }); err != nil {
		return err
	}
	return set
}

// set sets both options, also to off: Go turns SO_REUSEADDR on.
func (how stance) set(fd int) error {
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

func (s *strangers) bind(ctx context.Context, port int, how stance, stay time.Duration) error {
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
	wait(ctx, stay)
	return nil
}
