package lease_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/alloc"
	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

func TestALeaseIsRecordedWhenItIsGiven(t *testing.T) {
	r := newRig(t, 3)
	p := start(t)
	id, err := proc.Identify(p.PID)
	require.NoError(t, err)
	by := user(uint32(os.Geteuid()))
	begun := time.Now().UTC()
	l, err := r.Acquire(t.Context(), by, lease.Request{Holder: lease.Holder{PID: p.PID, StartTime: id.StartTicks}, Owner: "comfy of bob"})
	require.NoError(t, err)
	require.WithinRange(t, l.AcquiredAt, begun, time.Now())
	require.NotEmpty(t, l.LeaseID)
	require.Equal(t, store.Lease{
		Port: r.port(0), LeaseID: l.LeaseID, Kind: store.LeaseProcess, Owner: "comfy of bob", Requester: by.Record(),
		Identity: &id, State: store.LeaseHeld, AcquiredAt: l.AcquiredAt,
	}, l)
	ttl := r.acquire(byTTL(time.Hour))
	require.Equal(t, []any{r.port(1), store.LeaseTTL, time.Hour}, []any{ttl.Port, ttl.Kind, ttl.TTL})
	require.Nil(t, ttl.Identity)

	recorded, err := r.Lease(l.Port)
	require.NoError(t, err)
	require.Equal(t, l, recorded)
	require.Equal(t, []store.Lease{l, ttl}, r.all())
	require.Equal(t, []string{
		fmt.Sprintf("port %d is leased to comfy of bob (pid %d)", l.Port, p.PID),
		fmt.Sprintf("port %d is leased to a program for 1h0m0s", ttl.Port),
	}, r.events())
	held, err := r.HeldBy(p.PID)
	require.NoError(t, err)
	require.Equal(t, []store.Lease{l}, held)
	held, err = r.HeldBy(os.Getpid())
	require.NoError(t, err)
	require.Empty(t, held, "nothing is no error")
	_, err = r.Lease(r.port(2))
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.EqualError(t, err, fmt.Sprintf("lease of port %d: not found", r.port(2)))
}

// Programs read the event's data, not its message.
func TestAnEventOfALeaseSaysWhichItIs(t *testing.T) {
	r := newRig(t, 3)
	l := r.acquire(lease.Request{Holder: lease.Holder{TTL: time.Hour}, Ports: 2})
	_, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	var states []string
	require.NoError(t, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10)
		for _, ev := range evs {
			var data struct {
				Port    uint16
				Ports   []uint16
				LeaseID string `json:"lease_id"`
				Kind    string
				State   string
				Owner   *string
			}
			require.NoError(t, json.Unmarshal(ev.Data, &data))
			require.Equal(t, []any{l.Port, []uint16{r.port(0), r.port(1)}, l.LeaseID, "ttl"}, []any{data.Port, data.Ports, data.LeaseID, data.Kind})
			require.Nil(t, data.Owner, "an owner who was not given is null")
			states = append(states, data.State)
		}
		return err
	}))
	require.Equal(t, []string{"held", "free"}, states)
}

func TestALeaseLivesAsLongAsItsProcess(t *testing.T) {
	r := newRig(t, 2)
	p := start(t)
	l := r.acquire(byPID(p))
	p.kill()
	r.freed(l.Port)
	require.Equal(t, fmt.Sprintf("port %d is free: its holder, pid %d, has ended", l.Port, p.PID), last(r.events()))
	require.NoError(t, r.store.View(func(tx *store.Tx) error {
		stone, err := tx.Tombstone(l.LeaseID)
		require.Equal(t, l, stone.Lease, "what was left behind can be told by it")
		return err
	}))
	require.Equal(t, l.Port, r.acquire(byTTL(time.Hour)).Port, "and is given out again")
}

func TestALeaseOfSeveralPorts(t *testing.T) {
	r := newRig(t, 4)
	p := start(t)
	req := byPID(p)
	req.Port, req.Ports = r.port(1), 3
	l := r.acquire(req)
	require.Equal(t, []uint16{r.port(1), r.port(2), r.port(3)}, l.All())
	require.Equal(t, []uint16{r.port(1), r.port(2), r.port(3)}, portsOf(r.all()))
	held, err := r.HeldBy(p.PID)
	require.NoError(t, err)
	require.Equal(t, l.All(), portsOf(held))
	require.Equal(t, fmt.Sprintf("ports %d-%d are leased to a program (pid %d)", r.port(1), r.port(3), p.PID), last(r.events()))
	require.Equal(t, r.port(0), r.acquire(byTTL(time.Hour)).Port)
	_, err = r.Acquire(t.Context(), access.Hive(), byTTL(time.Hour))
	require.ErrorIs(t, err, alloc.ErrExhausted)

	bound, err := r.Renew(t.Context(), access.Hive(), r.port(3), lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{TTL: time.Hour}})
	require.NoError(t, err)
	require.Equal(t, []any{r.port(3), l.All()}, []any{bound.Port, bound.All()}, "asked by one of its ports, it answers with that")
	freed, err := r.Release(access.Hive(), r.port(2), l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	require.Equal(t, []uint16{r.port(0)}, portsOf(r.all()), "all of its ports, by any of them")
	for _, port := range l.All() {
		require.False(t, r.alloc.Leased(port))
	}
}

func TestAPortThatIsAskedForIsThatOneOrNone(t *testing.T) {
	r := newRig(t, 3)
	l := r.acquire(lease.Request{Holder: lease.Holder{TTL: time.Hour}, Port: r.port(1), Owner: "bob"})
	require.Equal(t, r.port(1), l.Port)
	_, err := r.Acquire(t.Context(), access.Hive(), lease.Request{Holder: lease.Holder{TTL: time.Hour}, Port: r.port(1)})
	require.ErrorIs(t, err, alloc.ErrUnavailable)
	require.ErrorContains(t, err, "bob")
	require.Len(t, r.all(), 1)
}

func TestNothingIsLeasedBeforeHiveServesNorWhenItEnds(t *testing.T) {
	r := closedRig(t, 2)
	for range 2 { // as long as it recovers
		_, err := r.Acquire(t.Context(), access.Hive(), byTTL(time.Hour))
		require.ErrorIs(t, err, errdefs.ErrRecovering)
		_, err = r.Renew(t.Context(), access.Hive(), r.port(0), lease.Renewal{LeaseID: "l"})
		require.ErrorIs(t, err, errdefs.ErrRecovering)
		_, err = r.Release(access.Hive(), r.port(0), "l")
		require.ErrorIs(t, err, errdefs.ErrRecovering)
	}
	r.recover(t.Context())
	l := r.acquire(byTTL(time.Hour))

	r.run.Drain()
	_, err := r.Acquire(t.Context(), access.Hive(), byTTL(time.Hour))
	require.ErrorIs(t, err, errdefs.ErrClosed)
	_, err = r.renew(l, lease.Holder{})
	require.NoError(t, err, "what is there can still be renewed")
	freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed, "and released")
}

// Whoever goes away while the lease is being recorded must leave nothing: nobody has its id.
func TestAnAcquisitionThatIsGivenUpLeavesNothing(t *testing.T) {
	r := newRig(t, 2)
	p := start(t)
	by := user(uint32(os.Geteuid()))
	before := goleak.IgnoreCurrent()
	for range perUser + 1 { // nor does it count
		release := r.hold()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { _, err := r.Acquire(ctx, by, byPID(p)); failed <- err }()
		r.eventually("the port is reserved", func() bool { return r.alloc.Leased(r.port(0)) })
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
		release()
		require.False(t, r.alloc.Leased(r.port(0)))
	}
	require.Empty(t, r.all())
	require.Empty(t, r.events())
	require.Zero(t, r.Tracked())
	goleak.VerifyNone(t, before) // nobody follows the process
	_, err := r.Acquire(t.Context(), by, byPID(p))
	require.NoError(t, err)
}

// Two programs never have one port, whoever comes first.
func TestManyAskAtOnce(t *testing.T) {
	const ports, clients = 5, 16
	r := newRig(t, ports)
	var wg sync.WaitGroup
	results, errs := make([]store.Lease, clients), make([]error, clients)
	for i := range clients {
		wg.Go(func() { results[i], errs[i] = r.Acquire(t.Context(), access.Hive(), byTTL(time.Hour)) })
	}
	wg.Wait()
	owners := map[uint16]string{}
	for i, l := range results {
		if errs[i] != nil {
			require.ErrorIs(t, errs[i], alloc.ErrExhausted)
			continue
		}
		require.Empty(t, owners[l.Port], "port %d was given twice", l.Port)
		owners[l.Port] = l.LeaseID
	}
	require.Len(t, owners, ports)
	for _, l := range r.all() {
		require.Equal(t, owners[l.Port], l.LeaseID)
	}
}

// A release is one commit: of many at once one ends the lease, the others find none.
func TestALeaseIsReleasedOnce(t *testing.T) {
	r := newRig(t, 1)
	for range 5 {
		l := r.acquire(byTTL(time.Hour))
		var wg sync.WaitGroup
		freed, errs := make([]bool, 8), make([]error, 8)
		for i := range freed {
			wg.Go(func() { freed[i], errs[i] = r.Release(access.Hive(), l.Port, l.LeaseID) })
		}
		wg.Wait()
		n := 0
		for i := range freed {
			if errs[i] != nil {
				require.ErrorIs(t, errs[i], errdefs.ErrNotFound)
			} else if freed[i] {
				n++
			}
		}
		require.Equal(t, 1, n)
		require.Empty(t, r.all())
	}
	require.Len(t, r.events(), 10, "an acquisition and a release each time")
}
