package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestUpdateIsSeenByView(t *testing.T) {
	s := storetest.Open(t)
	lease := store.Lease{Port: 8080, LeaseID: "l1", Kind: store.LeaseProcess, State: store.LeaseHeld, Identity: &store.Identity{PID: 42}}
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutLease(lease) }))
	require.NoError(t, s.View(func(tx *store.Tx) error {
		got, err := tx.Lease(8080)
		require.NoError(t, err)
		require.Equal(t, lease, got)
		pid, err := tx.PIDOfPort(8080)
		require.NoError(t, err)
		require.Equal(t, 42, pid)
		ports, err := tx.PortsOfPID(42)
		require.NoError(t, err)
		require.Equal(t, []uint16{8080}, ports)
		return nil
	}))
}
