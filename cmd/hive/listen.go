package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/cmd/hive/config"
)

// listenTimeout is how long a taken address is retried. When hive is killed in the middle
// of a spawn, the child that has not yet become the gate still has hive's descriptors, for
// as long as it takes to its execve.
const listenTimeout = time.Second

// retryInterval is the time between tries.
const retryInterval = 5 * time.Millisecond

// listenTCP opens a TCP listener. When the address is taken the error says by whom.
func listenTCP(ctx context.Context, addr config.Address) (net.Listener, error) {
	ln, err := bindTCP(ctx, addr, listenTimeout)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by %s; stop it, or choose another port with --port: %w", addr, holderOf(ctx, addr.TCP), syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("no permission to listen on %s; choose a port above 1023 with --port: %w", addr, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("this machine has no address %s; correct --listen: %w", addr.TCP.Addr(), syscall.EADDRNOTAVAIL)
	}
	return nil, fmt.Errorf("listen: %w", err)
}

// bindTCP listens on addr, and retries until the timeout if it is taken.
func bindTCP(ctx context.Context, addr config.Address, timeout time.Duration) (net.Listener, error) {
	network := "tcp"
	if addr.TCP.Addr().Is4() { // "tcp" makes [::] of 0.0.0.0
		network = "tcp4"
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, network, addr.String())
	for deadline := time.Now().Add(timeout); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline) && ctx.Err() == nil; {
		sleep(ctx, retryInterval)
		ln, err = lc.Listen(ctx, network, addr.String())
	}
	return ln, err
}

// holderOf names who keeps hive from listening on addr, as far as the system lets us
// see. An address that is not valid is all addresses.
func holderOf(ctx context.Context, addr netip.AddrPort) string {
	const unknown = "another program that cannot be seen from here"
	snap, err := sockets.NewTable().Snapshot(ctx, 0)
	if err != nil {
		return unknown
	}
	var rivals []sockets.Socket
	for _, s := range snap.Listeners(addr.Port()) {
		if at := s.Local.Addr().Unmap(); at == addr.Addr() || at.IsUnspecified() || !addr.Addr().IsValid() || addr.Addr().IsUnspecified() {
			rivals = append(rivals, s)
		}
	}
	holders, err := sockets.Holders(ctx, rivals)
	if err != nil || len(holders) == 0 {
		return unknown
	}
	return holders[0].String()
}
