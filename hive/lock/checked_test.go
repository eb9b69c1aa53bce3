//go:build lockrank

package lock_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/lock"
)

func TestInOrder(t *testing.T) {
	var worker lock.Ranked[lock.Worker]
	var registry lock.Ranked[lock.Registry]
	require.NotPanics(t, func() {
		worker.Lock()
		registry.Lock()
		worker.Unlock() // in any order
		registry.Unlock()
	})
}

// An inversion panics also where it would not have deadlocked: nobody else is there.
func TestAnInversionPanics(t *testing.T) {
	var worker lock.Ranked[lock.Worker]
	var registry lock.Ranked[lock.Registry]
	registry.Lock()
	defer registry.Unlock()
	require.PanicsWithValue(t, "lock order: supervisor.worker is taken while supervisor.registry is held (docs/locks.md)", worker.Lock)
}

func TestTwoOfARankPanic(t *testing.T) {
	var one, other lock.Ranked[lock.Job]
	one.Lock()
	defer one.Unlock()
	require.Panics(t, other.Lock)
}

func TestOtherGoroutinesHaveTheirOwn(t *testing.T) {
	var registry lock.Ranked[lock.Registry]
	var worker lock.Ranked[lock.Worker]
	registry.Lock()
	defer registry.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		worker.Lock()
		worker.Unlock() //nolint:staticcheck // that it could be taken is all
	}()
	<-done
}

func TestNoCommitUnderATable(t *testing.T) {
	var lease lock.Ranked[lock.ExternalLease]
	lease.Lock()
	require.NotPanics(t, lock.MayCommit, "an operation on a lease has its commit inside")
	lease.Unlock()
	var registry lock.Ranked[lock.Registry]
	registry.Lock()
	require.PanicsWithValue(t, "lock order: a commit while supervisor.registry is held (docs/locks.md)", lock.MayCommit)
	registry.Unlock()
	require.NotPanics(t, lock.MayCommit)
}
