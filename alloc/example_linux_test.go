package alloc_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/store"
	"rbeehive/test/freeport"
)

// A port that somebody else listens on is passed over, and a lease is durable together
// with whatever its transaction writes.
func Example() {
	if err := example(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// the first port is skipped: true
	// the second is leased: true
	// and free again: true
}

func example() error {
	first, err := freeport.Range(2)
	if err != nil {
		return err
	}
	stranger, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
	if err != nil {
		return err
	}
	defer stranger.Close()

	dir, err := os.MkdirTemp("", "alloc-example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "hive.db")})
	if err != nil {
		return err
	}
	defer st.Close()
	ports, err := alloc.New(alloc.Options{
		Range: alloc.Range{First: uint16(first), Last: uint16(first + 1)}, Policy: alloc.Lowest, Store: st, Sockets: sockets.NewTable(),
	})
	if err != nil {
		return err
	}
	defer ports.Close()

	if err := ports.Rebuild(ctx); err != nil { // from the leases in the file
		return err
	}

	// The reservation holds the port in memory, until a transaction records it or it is
	// abandoned.
	res, err := ports.Acquire(ctx, alloc.Request{})
	if err != nil {
		return err
	}
	fmt.Println("the first port is skipped:", len(res.Skipped) == 1 && int(res.Skipped[0].Port) == first)
	lease := store.Lease{Port: res.Port, LeaseID: "l-1", Kind: store.LeaseTTL, TTL: 30e9, State: store.LeaseHeld}
	if err := st.Update(ctx, func(tx *store.Tx) error { return res.Record(tx, lease) }); err != nil {
		return err
	}
	fmt.Println("the second is leased:", ports.Leased(res.Port))
	if err := ports.Release(ctx, res.Port, "l-1", func(*store.Tx) error { return nil }); err != nil {
		return err
	}
	fmt.Println("and free again:", !ports.Leased(res.Port))
	return nil
}
