package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rbeehive/store"
)

// A lease, its PID mapping and what else belongs to it become durable together, and
// nothing of them if the function fails.
func Example() {
	dir, err := os.MkdirTemp("", "store-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "hive.db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()

	lease := store.Lease{Port: 8080, LeaseID: "l-1", Kind: store.LeaseTTL, TTL: 30e9, State: store.LeaseHeld, Owner: "bob"}
	err = st.Update(ctx, func(tx *store.Tx) error { return tx.PutLease(lease) })
	fmt.Println("leased:", err == nil)

	other := lease
	other.LeaseID = "l-2"
	err = st.Update(ctx, func(tx *store.Tx) error { return tx.PutLease(other) })
	fmt.Println("leased twice:", !errors.Is(err, store.ErrLeaseConflict))

	err = st.View(func(tx *store.Tx) error {
		l, err := tx.Lease(8080)
		fmt.Println("holder:", l.Owner)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// leased: true
	// leased twice: false
	// holder: bob
}
