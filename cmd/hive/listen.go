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
)

// listenPatience is for how long a taken address is tried again. When hive is
// killed in the middle of a spawn, the child that has not yet become the gate
// still has hive's descriptors, for as long as it takes to its execve.
const listenPatience = time.Second

// listen opens the API's listener. When the address is taken the error says by whom.
func listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr.String())
	for deadline := time.Now().Add(listenPatience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
		ln, err = lc.Listen(ctx, "tcp", addr.String())
	}
	if err == nil {
		return ln, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by %s; stop it, or choose another port with --port: %w", addr, holderOf(ctx, addr.Port()), syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("may not listen on %s; choose a port above 1023 with --port: %w", addr, syscall.EACCES)
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
