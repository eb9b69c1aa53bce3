package lease_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/store"
)

func TestATTLLeaseRunsOutUnlessItIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	kept, left := r.acquire(byTTL(time.Second)), r.acquire(byTTL(time.Second))
	require.WithinDuration(t, time.Now().Add(time.Second), *r.ExpiresAt(kept.LeaseID), time.Second)
	r.eventually("the one that nobody renews is freed", func() bool {
		_, err := r.renew(kept, lease.Holder{})
		require.NoError(t, err)
		return r.state(left.Port) == ""
	})
	require.Equal(t, store.LeaseHeld, r.state(kept.Port))
	require.Nil(t, r.ExpiresAt(left.LeaseID), "it is over")
	require.Equal(t, fmt.Sprintf("port %d is free: it was not renewed for 1s", left.Port), last(r.events()))
	_, err := r.renew(left, lease.Holder{})
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

// A holder renews every few seconds: that must not cost a write to the disk each time.
func TestAMereRenewalWritesNothing(t *testing.T) {
	r := newRig(t, 1)
	l := r.acquire(byTTL(time.Hour))
	release := r.hold() // whoever wants to commit would wait
	first := *r.ExpiresAt(l.LeaseID)
	for _, h := range []lease.Holder{{}, {TTL: time.Hour}} {
		same, err := r.renew(l, h)
		require.NoError(t, err)
		require.Equal(t, l, same)
	}
	require.True(t, r.ExpiresAt(l.LeaseID).After(first), "it counts from now")
	release()
	require.Len(t, r.events(), 1)

	longer, err := r.renew(l, lease.Holder{TTL: 2 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, longer.TTL)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), *r.ExpiresAt(l.LeaseID), time.Minute)
	recorded, err := r.Lease(l.Port)
	require.NoError(t, err)
	require.Equal(t, longer, recorded, "another ttl is durable")
	require.Equal(t, fmt.Sprintf("port %d is leased to a program for 2h0m0s", l.Port), last(r.events()))
}

// hivectl run leases for itself, and hands the lease to its child.
func TestALeaseIsBoundToAnotherHolder(t *testing.T) {
	r := newRig(t, 2)
	first, second := start(t), start(t)
	l := r.acquire(byPID(first))
	require.Nil(t, r.ExpiresAt(l.LeaseID))
	bound, err := r.renew(l, byPID(second).Holder)
	require.NoError(t, err)
	require.Equal(t, second.PID, bound.Identity.PID)
	for pid, want := range map[int]int{first.PID: 0, second.PID: 1} {
		held, err := r.HeldBy(pid)
		require.NoError(t, err)
		require.Len(t, held, want)
	}
	first.kill()
	ttl, err := r.renew(l, lease.Holder{TTL: time.Hour})
	require.NoError(t, err)
	require.Equal(t, []any{store.LeaseTTL, time.Hour, l.LeaseID}, []any{ttl.Kind, ttl.TTL, ttl.LeaseID})
	require.Nil(t, ttl.Identity)
	require.NotNil(t, r.ExpiresAt(l.LeaseID))
	second.kill()
	_, err = r.renew(l, byPID(second).Holder)
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.Equal(t, []store.Lease{ttl}, r.all(), "a refused renewal changes nothing, nor does the end of who held it before")

	third := start(t)
	_, err = r.renew(l, byPID(third).Holder)
	require.NoError(t, err)
	require.Nil(t, r.ExpiresAt(l.LeaseID), "its time counts no more")
	third.kill()
	r.freed(l.Port)
	require.Equal(t, fmt.Sprintf("port %d is free: its holder, pid %d, has ended", l.Port, third.PID), last(r.events()))
}

func TestALeaseOfAProcessNeedsNoRenewal(t *testing.T) {
	r := newRig(t, 1)
	p := start(t)
	l := r.acquire(byPID(p))
	_, err := r.renew(l, lease.Holder{})
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.EqualError(t, err, "pid: is required, or ttl: a lease that lives as long as a process needs no renewal, only another holder")
	require.Equal(t, []store.Lease{l}, r.all())
}

// A renewal that is given up has not come: the lease is held as before it.
func TestARenewalThatIsGivenUpChangesNothing(t *testing.T) {
	r := newRig(t, 1)
	first, second := start(t), start(t)
	l := r.acquire(byPID(first))
	release := r.hold()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Renew(ctx, access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: byPID(second).Holder})
	require.ErrorIs(t, err, context.Canceled)
	release()
	require.Equal(t, []store.Lease{l}, r.all())
	second.kill()
	require.Equal(t, store.LeaseHeld, r.state(l.Port))
	first.kill()
	r.freed(l.Port)
}

// A timer that fires late says that hive or the machine was frozen. The lease gets some time
// for what was sent meanwhile, once; and whoever renews it in that time has it.
func TestALeaseThatOutlivesAFreeze(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	l := r.acquire(byTTL(time.Hour))
	for range 2 {
		r.Oversleep(l.LeaseID)
		r.Expire(l.LeaseID)
		_, err := r.renew(l, lease.Holder{})
		require.NoError(t, err)
	}
	r.Oversleep(l.LeaseID)
	r.Expire(l.LeaseID)
	require.Equal(t, store.LeaseHeld, r.state(l.Port))
	r.Expire(l.LeaseID)
	r.freed(l.Port)
}

// The timer has fired, and before it had its turn a renewal came.
func TestARenewalJustBeforeTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	l := r.acquire(byTTL(time.Second))
	_, err := r.renew(l, lease.Holder{})
	require.NoError(t, err)
	r.Expire(l.LeaseID)
	require.Equal(t, []store.Lease{l}, r.all())
	r.freed(l.Port) // when its time is really over
	require.Equal(t, fmt.Sprintf("port %d is free: it was not renewed for 1s", l.Port), last(r.events()))
}

// While a lease is being ended, who wants to renew it waits, and learns that it is gone.
func TestARenewalWhileTheLeaseEnds(t *testing.T) {
	for name, listens := range map[string]bool{"freed": false, "quarantined": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			l := r.acquire(byTTL(time.Hour))
			if listens {
				listen(t, l.Port)
			}
			release := r.hold()
			ended, renewed := make(chan error, 1), make(chan error, 1)
			go func() { _, err := r.Release(access.Hive(), l.Port, l.LeaseID); ended <- err }()
			go func() {
				_, err := r.Renew(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{TTL: 2 * time.Hour}})
				renewed <- err
			}()
			release()
			require.NoError(t, <-ended)
			// If the renewal came first it has succeeded, and the lease has ended all the same.
			if err := <-renewed; err != nil {
				require.ErrorIs(t, err, map[bool]error{false: errdefs.ErrNotFound, true: errdefs.ErrConflict}[listens])
			}
			require.Equal(t, map[bool]store.LeaseState{false: "", true: store.LeaseQuarantined}[listens], r.state(l.Port))
			require.Zero(t, r.Tracked())
		})
	}
}

// At the end of a lease somebody may still listen: then the port is nobody's.
func TestTheHolderIsGoneAndSomebodyStillListens(t *testing.T) {
	r := newRig(t, 4)
	p := start(t)
	l := r.acquire(byPID(p))
	listener := listen(t, l.Port)
	p.kill()
	r.eventually("it is quarantined", func() bool { return r.state(l.Port) == store.LeaseQuarantined })
	quarantined := r.all()[0]
	require.Regexp(t, fmt.Sprintf(`^its holder, pid %d, has ended, and \S+ \(pid %d, user \S+\) still has it$`, p.PID, os.Getpid()), quarantined.Reason)
	require.Nil(t, quarantined.Identity, "the PID may be another's")
	held, err := r.HeldBy(p.PID)
	require.NoError(t, err)
	require.Empty(t, held)
	require.Equal(t, fmt.Sprintf("port %d is quarantined: %s", l.Port, quarantined.Reason), last(r.events()))
	r.eventually("nobody is watched", func() bool { return r.Tracked() == 0 })
	require.True(t, r.alloc.Leased(l.Port), "nobody is given it")

	freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.False(t, freed, "somebody still listens")
	_, err = r.renew(l, lease.Holder{TTL: time.Hour})
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.EqualError(t, err, fmt.Sprintf("conflict: the lease of port %d has ended and the port is quarantined: %s", l.Port, quarantined.Reason))
	require.NoError(t, listener.Close())
	freed, err = r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	r.freed(l.Port)

	several := r.acquire(lease.Request{Holder: lease.Holder{TTL: time.Hour}, Ports: 2})
	listen(t, several.All()[1])
	freed, err = r.Release(access.Hive(), several.Port, several.LeaseID)
	require.NoError(t, err)
	require.False(t, freed, "one of them is enough")
	require.Regexp(t, fmt.Sprintf(`^ports %d-%d are quarantined: released by its holder, and .* still has port %d$`, several.Port, several.Port+1, several.Port+1), last(r.events()))
	require.Equal(t, store.LeaseQuarantined, r.state(several.Port))
}

// The end of a process, of its time and a release may come together: the lease ends once,
// and no port of another is freed.
func TestALeaseEndsOnceHoweverManyEndIt(t *testing.T) {
	r := newRig(t, 2)
	other := r.acquire(byTTL(time.Hour))
	for range 10 {
		p := start(t)
		l := r.acquire(byPID(p))
		var wg sync.WaitGroup
		wg.Go(p.kill)
		for range 2 {
			wg.Go(func() {
				_, err := r.Release(access.Hive(), l.Port, l.LeaseID)
				if err != nil {
					require.ErrorIs(t, err, errdefs.ErrNotFound)
				}
			})
			wg.Go(func() {
				// It may come first, or find the process or the lease gone.
				_, _ = r.Renew(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{PID: p.PID}})
			})
		}
		wg.Wait()
		r.freed(l.Port)
	}
	ends := 0
	for _, m := range r.events() {
		if strings.HasPrefix(m, fmt.Sprintf("port %d is free: ", r.port(1))) {
			ends++
		}
	}
	require.Equal(t, 10, ends)
	require.Equal(t, []store.Lease{other}, r.all())
}

// What hive did not start it does not end either, whatever becomes of the lease.
func TestHoldersAreNeverSignalled(t *testing.T) {
	r := newRig(t, 3)
	released, rebound, kept := start(t), start(t), start(t)
	l, b := r.acquire(byPID(released)), r.acquire(byPID(rebound))
	k := r.acquire(byPID(kept))
	_, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	_, err = r.renew(b, lease.Holder{TTL: time.Hour})
	require.NoError(t, err)
	r.reopen(func() {})
	for _, p := range []*program{released, rebound, kept} {
		require.True(t, p.alive())
	}
	require.Equal(t, []uint16{b.Port, k.Port}, portsOf(r.all()))
}

// When hive closes, leases stay in the file: the next hive decides about them.
func TestLeasesOutliveTheManager(t *testing.T) {
	r := newRig(t, 3)
	p := start(t)
	before := goleak.IgnoreCurrent()
	l, ttl := r.acquire(byPID(p)), r.acquire(byTTL(time.Second))
	r.Close()
	goleak.VerifyNone(t, before) // nobody follows the process
	p.kill()
	require.Equal(t, []store.Lease{l, ttl}, r.all())
	require.Zero(t, r.Tracked())
	require.Nil(t, r.ExpiresAt(ttl.LeaseID))
	r.run.Close()
	_, err := r.Acquire(t.Context(), access.Hive(), byTTL(time.Hour))
	require.ErrorIs(t, err, errdefs.ErrRecovering, "hive does not serve any more")
}

// A request that was under way when hive closed is recorded, and not watched over.
func TestALeaseThatComesWhileHiveCloses(t *testing.T) {
	r := newRig(t, 1)
	p := start(t)
	before := goleak.IgnoreCurrent()
	release := r.hold()
	got := make(chan store.Lease, 1)
	go func() {
		l, _ := r.Acquire(context.Background(), access.Hive(), byPID(p))
		got <- l
	}()
	r.eventually("the port is reserved", func() bool { return r.alloc.Leased(r.port(0)) })
	r.Close()
	release()
	l := <-got
	goleak.VerifyNone(t, before) // nobody follows the process
	p.kill()
	require.Zero(t, r.Tracked())
	require.Equal(t, []store.Lease{l}, r.all(), "the next hive takes it over from the file")
}

// Whoever lists leases can see one before its acquisition has returned. Freed at that moment
// it was ended a second time when its holder ended, which found no lease and broke the hive.
func TestALeaseThatIsJustBeingGiven(t *testing.T) {
	r := newRig(t, 2)
	l := store.Lease{Port: r.port(0), LeaseID: "seen", Kind: store.LeaseTTL, TTL: time.Hour, State: store.LeaseHeld}
	r.update(func(tx *store.Tx) error { return tx.PutLease(l) })
	_, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	_, err = r.renew(l, lease.Holder{TTL: 2 * time.Hour})
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.EqualError(t, err, fmt.Sprintf("conflict: the lease of port %d is just being given; ask again", l.Port))
	require.Equal(t, []store.Lease{l}, r.all())
}

func TestPortsAre(t *testing.T) {
	require.Equal(t, "port 8080 is", lease.PortsAre([]uint16{8080}))
	require.Equal(t, "ports 8080-8083 are", lease.PortsAre([]uint16{8080, 8081, 8082, 8083}))
}
