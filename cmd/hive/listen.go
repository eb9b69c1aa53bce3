package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/cmd/hive/config"
)

// listenPatience is for how long a taken address is tried again. When hive is
// killed in the middle of a spawn, the child that has not yet become the gate
// still has hive's descriptors, for as long as it takes to its execve.
const listenPatience = time.Second

// listenTCP opens the TCP listeners of addrs. When an address is taken the error
// says by whom. With an error none is left open.
func listenTCP(ctx context.Context, addrs []config.Address) ([]net.Listener, error) {
	var open []net.Listener
	for _, addr := range addrs {
		if addr.Socket != "" {
			continue
		}
		ln, err := listen(ctx, addr)
		if err != nil {
			return nil, errors.Join(err, closeListeners(open))
		}
		open = append(open, ln)
	}
	return open, nil
}

func closeListeners(lns []net.Listener) (err error) {
	for _, ln := range lns {
		err = errors.Join(err, ln.Close())
	}
	return err
}

func listen(ctx context.Context, addr config.Address) (net.Listener, error) {
	network := "tcp"
	if addr.TCP.Addr().Is4() { // "tcp" makes [::] of 0.0.0.0
		network = "tcp4"
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, network, addr.String())
	for deadline := time.Now().Add(listenPatience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
		ln, err = lc.Listen(ctx, network, addr.String())
	}
	if err == nil {
		return ln, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by %s; stop it, or choose another port with --port: %w", addr, holderOf(ctx, addr.TCP.Port()), syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("may not listen on %s; choose a port above 1023 with --port: %w", addr, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("this machine has no address %s; correct --listen: %w", addr.TCP.Addr(), syscall.EADDRNOTAVAIL)
	}
	return nil, fmt.Errorf("listen: %w", err)
}

// holderOf names who has the port, as far as the system lets us see.
func holderOf(ctx context.Context, port uint16) string {
	const unknown = "another program that cannot be seen from here"
	snap, err := sockets.NewTable().Snapshot(ctx, 0)
	if err != nil {
		return unknown
	}
	holders, err := sockets.Holders(ctx, snap.Listeners(port))
	if err != nil || len(holders) == 0 {
		return unknown
	}
	return holders[0].String()
}
