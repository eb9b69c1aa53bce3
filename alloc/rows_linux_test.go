package alloc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
	"rbeehive/store"
)

func TestSeveralPortsInARow(t *testing.T) {
	f := setUp(t, 8)
	porttest.Listen(t, loopback(f.port(1)), porttest.Options{})
	single := f.lease(alloc.Request{Port: f.port(4)})

	r := f.acquire(alloc.Request{Ports: 2})
	require.Equal(t, []uint16{f.port(2), f.port(3)}, r.Ports, "past the foreign port in the middle")
	require.Len(t, r.Skipped, 1)
	l := newLease(r.Port, 77)
	require.NoError(t, f.record(r, l))
	require.Equal(t, []uint16{f.port(2), f.port(3)}, f.portsOf(77))
	for _, i := range []int{2, 3, 4} {
		require.True(t, f.Leased(f.port(i)))
	}

	three := f.acquire(alloc.Request{Ports: 3})
	require.Equal(t, f.port(5), three.Port, "behind what is leased")
	_, err := f.Acquire(t.Context(), alloc.Request{Ports: 2})
	var e *alloc.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.EqualError(t, err, "no 2 consecutive ports available in "+f.rng.String()+"; 1 of them by programs that hive did not start")
	three.Abandon()
	require.Equal(t, 3, f.Count(), "all ports of a reservation are given back")

	f.release(single)
	require.NoError(t, f.Release(t.Context(), f.port(3), l.LeaseID, ended(l)), "by any of its ports")
	require.Zero(t, f.Count())
	require.Equal(t, f.port(2), f.acquire(alloc.Request{Ports: 6}).Port)
}

func TestSeveralPortsFromOneOn(t *testing.T) {
	f := setUp(t, 4)
	f.lease(alloc.Request{Port: f.port(2)})
	_, err := f.Acquire(t.Context(), alloc.Request{Port: f.port(1), Ports: 2})
	var e *alloc.UnavailableError
	require.ErrorAs(t, err, &e)
	require.Equal(t, f.port(2), e.Port, "the one that is in the way is named")
	require.Equal(t, 1, f.Count())
	require.Equal(t, []uint16{f.port(0), f.port(1)}, f.acquire(alloc.Request{Port: f.port(0), Ports: 2}).Ports)
	_, err = f.Acquire(t.Context(), alloc.Request{Port: 65535, Ports: 2})
	require.ErrorIs(t, err, alloc.ErrUnavailable)
	_, err = f.Acquire(t.Context(), alloc.Request{Ports: 5})
	require.ErrorIs(t, err, alloc.ErrExhausted)
}

func TestANameKeepsItsRow(t *testing.T) {
	f := setUp(t, 6)
	f.lease(alloc.Request{})
	l := f.lease(alloc.Request{Name: "pair", Ports: 2})
	require.Equal(t, f.port(1), l.Port)
	f.release(l)
	f.lease(alloc.Request{Port: f.port(2)})
	r := f.acquire(alloc.Request{Name: "pair", Ports: 2})
	require.Equal(t, f.port(3), r.Port, "half of the row is somebody else's")
	require.True(t, r.NameMoved)
}

func TestFixedPortsAreReplaced(t *testing.T) {
	f := setUp(t, 3)
	f.SetFixed([]uint16{f.port(0), f.port(1)})
	held := f.lease(alloc.Request{})
	require.Equal(t, f.port(2), held.Port)
	f.SetFixed([]uint16{f.port(2)})
	require.Equal(t, f.port(0), f.lease(alloc.Request{}).Port, "it was promised before")
	require.True(t, f.Leased(held.Port), "a lease stays")
	f.release(held)
	require.Equal(t, f.port(1), f.lease(alloc.Request{}).Port)
	_, err := f.Acquire(t.Context(), alloc.Request{})
	require.ErrorIs(t, err, alloc.ErrExhausted)
	require.Equal(t, f.port(2), f.lease(alloc.Request{Port: f.port(2)}).Port)
}

func TestFixedPortsAreOnlyForThoseWhoAsk(t *testing.T) {
	f := setUp(t, 3)
	f.restart(func(o *alloc.Options) { o.Fixed = []uint16{f.port(0)} })
	require.Equal(t, f.port(1), f.lease(alloc.Request{}).Port)
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
	_, err := f.Acquire(t.Context(), alloc.Request{})
	require.ErrorIs(t, err, alloc.ErrExhausted)
	s, err := f.Survey(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, s.Reserved)
	fixed := f.lease(alloc.Request{Port: f.port(0)})
	s, err = f.Survey(t.Context())
	require.NoError(t, err)
	require.Zero(t, s.Reserved)
	require.Equal(t, 3, s.Leased)
	f.release(fixed)
	require.Equal(t, f.port(0), f.lease(alloc.Request{Port: f.port(0)}).Port)
}

func TestQuarantineAfterRelease(t *testing.T) {
	f := setUp(t, 2)
	long := func(o *alloc.Options) { o.Quarantine = time.Hour }
	f.restart(long)
	l := f.lease(alloc.Request{})
	named := f.lease(alloc.Request{Name: "n"})
	f.release(l)
	f.release(named)
	for range 2 { // before and after a restart
		_, err := f.Acquire(t.Context(), alloc.Request{})
		require.EqualError(t, err, "no ports available (all "+f.rng.String()+" in use); 2 of them quarantined after their release (ports.quarantine)")
		s, err := f.Survey(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, s.Quarantined)
		f.restart(long)
	}
	f.acquire(alloc.Request{Port: l.Port}).Abandon()
	require.Equal(t, named.Port, f.acquire(alloc.Request{Name: "n"}).Port, "a name gets its own port immediately")
	f.restart() // no quarantine any more in the configuration
	require.Equal(t, f.port(0), f.acquire(alloc.Request{}).Port)
}

func TestQuarantineIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := alloc.NewPool(alloc.Range{First: 100, Last: 101}, alloc.Lowest)
		cooldown := pool.NewCooldown(30 * time.Second)
		cooldown.Add(100, time.Now())
		time.Sleep(10 * time.Second)
		cooldown.Add(101, time.Now())
		_, ok := pool.Pick(alloc.ClassFree)
		require.False(t, ok)
		time.Sleep(20 * time.Second)
		cooldown.Expire(time.Now())
		port, ok := pool.Pick(alloc.ClassFree)
		require.True(t, ok)
		require.EqualValues(t, 100, port)
		cooldown.Add(100, time.Now()) // asked for by number, and released again
		time.Sleep(10 * time.Second)
		cooldown.Expire(time.Now())
		port, ok = pool.Pick(alloc.ClassFree)
		require.True(t, ok)
		require.EqualValues(t, 101, port)
		time.Sleep(20 * time.Second)
		cooldown.Expire(time.Now())
		port, _ = pool.Pick(alloc.ClassFree)
		require.EqualValues(t, 100, port)
	})
}

// The range was changed in the configuration while leases outside it exist: they
// live on, are shown, and are not given out again.
func TestTheRangeIsChanged(t *testing.T) {
	f := setUp(t, 4)
	a, b := f.lease(alloc.Request{}), f.lease(alloc.Request{Name: "b"})
	f.restart(func(o *alloc.Options) { o.Range = alloc.Range{First: f.port(2), Last: f.port(3)} })
	s, err := f.Survey(t.Context())
	require.NoError(t, err)
	require.Equal(t, alloc.Survey{Range: s.Range, Total: 4, Free: 2, Leased: 2, Outside: 2}, s)
	require.Equal(t, []uint16{a.Port, b.Port}, f.Ports())
	var held []store.Lease
	for range 2 {
		held = append(held, f.lease(alloc.Request{}))
	}
	require.Equal(t, f.port(2), held[0].Port)
	require.Equal(t, f.port(3), held[1].Port)
	f.release(a)
	f.release(b)
	_, err = f.Acquire(t.Context(), alloc.Request{Name: "b"})
	require.ErrorIs(t, err, alloc.ErrExhausted, "neither unasked nor for a name")
	require.Equal(t, a.Port, f.acquire(alloc.Request{Port: a.Port}).Port)
}
