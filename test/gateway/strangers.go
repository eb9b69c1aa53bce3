package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/test/harness"
)

const (
	strangerClients = 4
	strangerHolds   = 40 * time.Millisecond // at most; so that hive's workers get their ports back
)

// strangers take ports of the range until ctx ends, each in another way, and read what they are sent.
func (s *site) strangers(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for n := range strangerClients {
		wg.Go(func() {
			rand := s.p.Rand(uint64(100 + n))
			for ctx.Err() == nil {
				// Most ports are free: those of the first workers are what is of interest.
				port := s.hive.First + rand.IntN(replicas+2)
				s.take(ctx, port, n%2 == 0, time.Duration(rand.Int64N(int64(strangerHolds))))
				harness.Sleep(ctx, time.Duration(rand.Int64N(int64(strangerHolds))))
			}
		})
	}
	return wg.Wait
}

// take listens on a port for some time, if it can. One that shares its port gets it beside another
// stranger only: workers do not share theirs.
func (s *site) take(ctx context.Context, port int, share bool, hold time.Duration) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if !share {
			return nil
		}
		ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, ctl)
	}}
	ln, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return
	}
	s.tally.Add("ports taken", 1)
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(hold))
	for {
		conn, err := ln.Accept()
		if err != nil {
			break
		}
		s.tally.Add("connections to strangers", 1)
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, _ := conn.Read(make([]byte, 4096)); n > 0 {
			s.tally.Violation("SPOKEN TO", "a stranger on port %d got %d bytes", port, n)
		}
		_ = conn.Close()
	}
	_ = ln.Close()
}
