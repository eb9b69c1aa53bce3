package alloc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/store"
)

// The eleven behaviours that the seed listed for its port allocator.

func TestFirstPortIsTheFirstOfTheRange(t *testing.T) {
	f := setUp(t, 4)
	require.Equal(t, f.port(0), f.lease(alloc.Request{}).Port)
}

func TestSequentialAssignment(t *testing.T) {
	for _, policy := range []alloc.Policy{alloc.Lowest, alloc.Sequential} {
		f := setUp(t, 4, func(o *alloc.Options) { o.Policy = policy })
		for i := range 4 {
			require.Equal(t, f.port(i), f.lease(alloc.Request{}).Port, policy)
		}
	}
}

func TestReleaseAndReuse(t *testing.T) {
	f := setUp(t, 3)
	first := f.lease(alloc.Request{})
	f.lease(alloc.Request{})
	f.release(first)
	require.Equal(t, first.Port, f.lease(alloc.Request{}).Port)
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
}

func TestIsAssigned(t *testing.T) {
	f := setUp(t, 2)
	require.False(t, f.Leased(f.port(0)))
	l := f.lease(alloc.Request{})
	require.True(t, f.Leased(l.Port))
	require.False(t, f.Leased(f.port(1)))
	f.release(l)
	require.False(t, f.Leased(l.Port))
}

func TestAssignedCount(t *testing.T) {
	f := setUp(t, 3)
	require.Zero(t, f.Count())
	l := f.lease(alloc.Request{})
	f.lease(alloc.Request{})
	require.Equal(t, 2, f.Count())
	f.release(l)
	require.Equal(t, 1, f.Count())
}

func TestAssignedPortsAreSorted(t *testing.T) {
	f := setUp(t, 5)
	require.Empty(t, f.Ports())
	for _, i := range []int{4, 0, 2} {
		f.lease(alloc.Request{Port: f.port(i)})
	}
	require.Equal(t, []uint16{f.port(0), f.port(2), f.port(4)}, f.Ports())
}

func TestResetByRebuildingFromAnEmptyStore(t *testing.T) {
	f := setUp(t, 3)
	var leases []store.Lease
	for range 3 {
		leases = append(leases, f.lease(alloc.Request{}))
	}
	require.NoError(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		for _, l := range leases {
			if _, err := tx.EndLease(l.Port, l.LeaseID); err != nil {
				return err
			}
		}
		return ended(leases...)(tx)
	}))
	require.Equal(t, 3, f.Count(), "the pool does not watch the store")
	require.NoError(t, f.Rebuild(t.Context()))
	require.Zero(t, f.Count())
	require.Equal(t, f.port(0), f.lease(alloc.Request{}).Port)
}

func TestWraparoundAtTheEndOfTheRange(t *testing.T) {
	f := setUp(t, 3, sequential)
	first := f.lease(alloc.Request{})
	f.release(first)
	require.Equal(t, f.port(1), f.lease(alloc.Request{}).Port, "sequential goes on")
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
	require.Equal(t, f.port(0), f.lease(alloc.Request{}).Port, "and wraps")
}

func TestThreadSafety(t *testing.T) {
	const callers, each = 10, 10
	for _, policy := range []alloc.Policy{alloc.Lowest, alloc.Sequential} {
		f := setUp(t, callers*each, func(o *alloc.Options) { o.Policy = policy })
		var wg sync.WaitGroup
		errs := make(chan error, callers*each)
		for range callers {
			wg.Go(func() {
				for range each {
					r, err := f.Acquire(context.Background(), alloc.Request{})
					if err == nil {
						err = f.record(r, newLease(r.Port, int(r.Port)))
					}
					errs <- err
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err) // a port twice would be ErrLeaseConflict
		}
		require.Equal(t, callers*each, f.Count())
		require.Len(t, f.leases(), callers*each)
	}
}

func TestExhaustionThenErrorThenWorksAgain(t *testing.T) {
	f := setUp(t, 3)
	var last store.Lease
	for range 3 {
		last = f.lease(alloc.Request{})
	}
	_, err := f.Acquire(t.Context(), alloc.Request{})
	require.ErrorIs(t, err, alloc.ErrExhausted)
	require.EqualError(t, err, "no ports available (all "+f.rng.String()+" in use)")
	var e *alloc.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.Equal(t, &alloc.ExhaustedError{Range: f.rng, Leased: 3}, e)

	f.release(last)
	require.Equal(t, last.Port, f.lease(alloc.Request{}).Port)
}

func TestReleaseOfAnUnassignedPortChangesNothing(t *testing.T) {
	f := setUp(t, 3)
	l := f.lease(alloc.Request{})
	ran := false
	also := func(*store.Tx) error { ran = true; return nil }

	err := f.Release(t.Context(), f.port(1), l.LeaseID, also)
	require.ErrorIs(t, err, store.ErrNotFound)
	err = f.Release(t.Context(), l.Port, "another lease", also)
	require.ErrorIs(t, err, store.ErrLeaseConflict)
	require.False(t, ran)
	require.Equal(t, []uint16{l.Port}, f.Ports())
	require.Equal(t, []store.Lease{l}, f.leases())
}

// The seven behaviours of the seed's registry of PIDs and ports.

func (f *fixture) leases() []store.Lease {
	f.t.Helper()
	var out []store.Lease
	require.NoError(f.t, f.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	}))
	return out
}

func (f *fixture) portsOf(pid int) []uint16 {
	f.t.Helper()
	var out []uint16
	require.NoError(f.t, f.store.View(func(tx *store.Tx) (err error) {
		out, err = tx.PortsOfPID(pid)
		return err
	}))
	return out
}

func (f *fixture) pidOf(port uint16) (pid int, err error) {
	err = f.store.View(func(tx *store.Tx) (err error) {
		pid, err = tx.PIDOfPort(port)
		return err
	})
	return pid, err
}

func TestRegisterAndGetBothWays(t *testing.T) {
	f := setUp(t, 2)
	l := f.lease(alloc.Request{})
	require.Equal(t, []uint16{l.Port}, f.portsOf(l.Identity.PID))
	pid, err := f.pidOf(l.Port)
	require.NoError(t, err)
	require.Equal(t, l.Identity.PID, pid)
}

func TestUnregister(t *testing.T) {
	f := setUp(t, 2)
	l, other := f.lease(alloc.Request{}), f.lease(alloc.Request{})
	f.release(l)
	require.Empty(t, f.portsOf(l.Identity.PID))
	_, err := f.pidOf(l.Port)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Equal(t, []uint16{other.Port}, f.portsOf(other.Identity.PID))
}

func TestUnregisterOfAnUnknownPID(t *testing.T) {
	f := setUp(t, 2)
	l := f.lease(alloc.Request{})
	require.Empty(t, f.portsOf(4_000_000))
	_, err := f.pidOf(f.port(1))
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorIs(t, f.Release(t.Context(), f.port(1), "", nil), store.ErrNotFound)
	require.Equal(t, []store.Lease{l}, f.leases())
}

func TestRegistryCount(t *testing.T) {
	f := setUp(t, 3)
	for i := range 3 {
		require.Len(t, f.leases(), i)
		f.lease(alloc.Request{})
	}
	require.Len(t, f.leases(), 3)
	require.Equal(t, f.Count(), len(f.leases()))
}

func TestRegistryList(t *testing.T) {
	f := setUp(t, 3)
	b, a := f.lease(alloc.Request{Port: f.port(2)}), f.lease(alloc.Request{})
	require.Equal(t, []store.Lease{a, b}, f.leases(), "by port")
}

func TestRegistryClear(t *testing.T) {
	f := setUp(t, 3)
	all := []store.Lease{f.lease(alloc.Request{}), f.lease(alloc.Request{})}

	refused := errors.New("refused")
	err := f.ReleaseAll(t.Context(), all, func(*store.Tx) error { return refused })
	require.ErrorIs(t, err, refused)
	require.Equal(t, all, f.leases())
	require.Equal(t, 2, f.Count())

	require.NoError(t, f.ReleaseAll(t.Context(), all, ended(all...)))
	require.Empty(t, f.leases())
	require.Zero(t, f.Count())
	require.Empty(t, f.portsOf(all[0].Identity.PID))
}

func TestRegistryThreadSafety(t *testing.T) {
	const callers, rounds = 8, 15
	f := setUp(t, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range rounds {
				r, err := f.Acquire(context.Background(), alloc.Request{})
				if !assertNil(t, err) {
					return
				}
				l := newLease(r.Port, 5000+i)
				if !assertNil(t, f.record(r, l)) {
					return
				}
				pid, err := f.pidOf(r.Port)
				if !assertNil(t, err) || pid != 5000+i {
					t.Errorf("port %d belongs to %d, not to %d", r.Port, pid, 5000+i)
				}
				if !assertNil(t, f.Release(context.Background(), l.Port, l.LeaseID, ended(l))) {
					return
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, f.Count())
	require.Empty(t, f.leases())
}

// assertNil is for goroutines, which must not stop the test.
func assertNil(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}
