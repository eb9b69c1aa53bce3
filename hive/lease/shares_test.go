package lease_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/store"
)

// take has a caller lease so many ports by renewals.
func (r *rig) take(by access.Caller, ports int) (store.Lease, error) {
	r.t.Helper()
	return r.Acquire(r.t.Context(), by, lease.Request{Holder: lease.Holder{TTL: time.Hour}, Ports: ports})
}

func (r *rig) requireTaken(by access.Caller, ports int) store.Lease {
	r.t.Helper()
	l, err := r.take(by, ports)
	require.NoError(r.t, err)
	return l
}

func (r *rig) requireTooMany(by access.Caller, ports, have int) {
	r.t.Helper()
	_, err := r.take(by, ports)
	require.ErrorIs(r.t, err, errdefs.ErrForbidden)
	var in *errdefs.InputError
	require.ErrorAs(r.t, err, &in)
	require.Equal(r.t, "ports", in.Field)
	require.Equal(r.t, fmt.Sprintf("%s has leased %d ports and may have %d at a time (ports.per_user); release one first", by, have, perUser), in.Detail)
}

// One caller must not be able to take all ports; what they may have is counted in ports.
func TestACallerHasALimit(t *testing.T) {
	r := newRig(t, 20)
	alice, bob := user(4001), user(4002)
	r.requireTooMany(alice, perUser+1, 0)
	two := r.requireTaken(alice, 2)
	r.requireTooMany(alice, 2, 2)
	one := r.requireTaken(alice, 1)
	r.requireTooMany(alice, 1, 3)
	again := alice
	again.PID, again.User = 4711, "alice"
	_, err := r.take(again, 1)
	require.ErrorIs(t, err, errdefs.ErrForbidden, "the same user by another process")

	r.requireTaken(bob, perUser)
	r.requireTaken(token("ci"), perUser)
	r.requireTaken(token("cd"), perUser)
	r.requireTooMany(token("ci"), 1, perUser)

	freed, err := r.Release(alice, two.Port, two.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	r.requireTaken(alice, 2)
	_, err = r.Release(access.Hive(), one.Port, one.LeaseID)
	require.NoError(t, err)
	r.requireTaken(alice, 1) // whoever has released it, it is theirs no more
	r.requireTooMany(alice, 1, 3)
}

func TestAdminsHaveNoLimit(t *testing.T) {
	r := newRig(t, 12)
	admin := access.Caller{Known: true, UID: 4001, Rights: access.Rights{Level: access.Admin}}
	r.requireTaken(admin, perUser+1)
	r.requireTaken(access.Hive(), perUser+1)
	r.requireTaken(access.Hive(), 1)
	// They are counted all the same: as one who is no admin any more they have them still.
	r.requireTooMany(user(4001), 1, perUser+1)
}

// A request that has leased nothing, for whatever reason, counts for nothing.
func TestARefusedAcquisitionDoesNotCount(t *testing.T) {
	r := newRig(t, 3)
	by := user(4001)
	r.acquire(byTTL(time.Hour))
	for range perUser + 1 {
		_, err := r.Acquire(t.Context(), by, lease.Request{Holder: lease.Holder{PID: 1}})
		require.ErrorIs(t, err, errdefs.ErrBadRequest)
		_, err = r.take(by, 3)
		require.Error(t, err)
		require.NotErrorIs(t, err, errdefs.ErrForbidden)
	}
	r.requireTaken(by, 2)
}

// Leases that end by themselves are given back as those that are released; a quarantined
// port is nobody's.
func TestTheEndOfALeaseGivesItsPortsBack(t *testing.T) {
	r := newRig(t, 12)
	by := user(4001)
	short, err := r.Acquire(t.Context(), by, lease.Request{Holder: lease.Holder{TTL: 10 * time.Millisecond}, Ports: perUser})
	require.NoError(t, err)
	r.freed(short.Port)
	r.eventually("they count no more", func() bool {
		l, err := r.take(by, perUser)
		if err != nil {
			return false
		}
		_, err = r.Release(by, l.Port, l.LeaseID)
		require.NoError(t, err)
		return true
	})
	l := r.requireTaken(by, perUser)
	listen(t, l.Port)
	freed, err := r.Release(by, l.Port, l.LeaseID)
	require.NoError(t, err)
	require.False(t, freed)
	r.requireTaken(by, perUser)
}

// The limit holds for requests that come at the same time, too.
func TestRequestsAtOnceDoNotPassTheLimit(t *testing.T) {
	r := newRig(t, 20)
	by := user(4001)
	var wg sync.WaitGroup
	var given atomic.Int32
	for range 12 {
		wg.Go(func() {
			_, err := r.take(by, 1)
			if err == nil {
				given.Add(1)
			} else if !errors.Is(err, errdefs.ErrForbidden) {
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, perUser, given.Load())
	require.Len(t, r.all(), perUser)
}
