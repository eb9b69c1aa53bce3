package lease_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

func TestTheNextHiveTakesLeasesOver(t *testing.T) {
	r := newRig(t, 6)
	lives, dies, leaves, two := start(t), start(t), start(t), start(t)
	kept, freed, held, ttl := r.acquire(byPID(lives)), r.acquire(byPID(dies)), r.acquire(byPID(leaves)), r.acquire(byTTL(time.Hour))
	pair := r.acquire(lease.Request{Holder: lease.Holder{PID: two.PID}, Ports: 2})
	var before []string
	r.reopen(func() {
		before = r.events()
		dies.kill()
		leaves.kill()
		listen(t, held.Port)
	})
	require.Equal(t, []uint16{kept.Port, held.Port, ttl.Port, pair.All()[0], pair.All()[1]}, portsOf(r.all()))
	require.Equal(t, []store.Lease{kept, ttl}, []store.Lease{r.all()[0], r.all()[2]}, "as they were")
	require.WithinDuration(t, time.Now().Add(time.Hour), *r.ExpiresAt(ttl.LeaseID), time.Minute, "a start gives it its whole time again")
	quarantined := r.all()[1]
	require.Equal(t, store.LeaseQuarantined, quarantined.State)
	require.Nil(t, quarantined.Identity)
	gone := "its holder ended while hive was not running: "
	require.Regexp(t, "^"+gone+fmt.Sprintf(`.*, and \S+ \(pid %d, user \S+\) still has it$`, os.Getpid()), quarantined.Reason)
	told := r.events()[len(before):]
	require.Len(t, told, 2, "of what is as before nothing is told")
	require.Contains(t, told[0], fmt.Sprintf("port %d is free: %s", freed.Port, gone))
	require.Equal(t, fmt.Sprintf("port %d is quarantined: %s", held.Port, quarantined.Reason), told[1])
	require.False(t, r.alloc.Leased(freed.Port))
	require.Equal(t, 3, r.Tracked(), "the quarantined one has no holder to watch")

	lives.kill()
	r.freed(kept.Port)
	two.kill()
	r.freed(pair.All()[1])
	require.Equal(t, fmt.Sprintf("ports %d-%d are free: its holder, pid %d, has ended", pair.Port, pair.Port+1, two.PID), last(r.events()))
}

// A hive that is killed before it has recorded its decisions has decided nothing.
func TestARecoveryThatIsGivenUp(t *testing.T) {
	r := newRig(t, 2)
	lives, dies := start(t), start(t)
	kept, freed := r.acquire(byPID(lives)), r.acquire(byPID(dies))
	r.shut()
	dies.kill()
	r.open()
	rec := r.recovery(t.Context())
	require.Equal(t, []store.Lease{freed}, rec.Freed())
	rec.Abort() // goleak sees what is left of it
	require.Equal(t, []store.Lease{kept, freed}, r.all())
	require.Zero(t, r.Tracked())
}

// What cannot be judged keeps its port, is said to be so, and is judged again.
func TestAHolderThatCannotBeJudgedKeepsItsPort(t *testing.T) {
	for name, c := range map[string]struct {
		edit      func(*store.Lease) // of the record
		contested bool
		late      bool // recovery has no time
		want      string
	}{
		"another PID namespace": {edit: func(l *store.Lease) { l.Identity.PIDNamespace++ }, want: proc.ErrOtherNamespace.Error()},
		"a contested port":      {contested: true, want: "another hive on this machine claims its port"},
		"no time":               {late: true, want: "there was no time to verify it"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			p := start(t)
			l := r.acquire(byPID(p))
			r.shut()
			if c.edit != nil {
				l = r.edit(l, c.edit)
			}
			var contested []uint16
			if c.contested {
				contested = []uint16{l.Port}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.late {
				cancel()
			}
			for range 2 { // told once
				r.open()
				r.recover(ctx, contested...)
				now := r.all()[0]
				require.Equal(t, store.LeaseUnverified, now.State)
				require.Contains(t, now.Reason, c.want)
				require.Equal(t, l.Identity, now.Identity, "its process is still the one that was recorded")
				require.Len(t, r.events(), 2)
				require.Equal(t, fmt.Sprintf("port %d is unverified: %s", l.Port, now.Reason), last(r.events()))
				require.True(t, r.alloc.Leased(l.Port))
				require.Equal(t, 1, r.Tracked())
				r.shut()
			}
			r.edit(r.all()[0], func(l *store.Lease) {
				if c.edit != nil {
					l.Identity.PIDNamespace--
				}
			})
			r.open()
			r.recover(t.Context())
			require.Equal(t, store.LeaseHeld, r.state(l.Port))
			require.Empty(t, r.all()[0].Reason)
			require.Equal(t, fmt.Sprintf("port %d is held", l.Port), last(r.events()))
			p.kill()
			r.freed(l.Port)
		})
	}
}

// A recorded process of another boot, or none, is dead: its number says nothing.
func TestAHolderThatIsProvenDead(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*store.Lease)
		want string
	}{
		"another boot":    {func(l *store.Lease) { l.Identity.BootID = "another" }, "the machine has been booted since"},
		"no process":      {func(l *store.Lease) { l.Identity = nil }, "it has no process"},
		"another process": {func(l *store.Lease) { l.Identity.PidfdInode++; l.Identity.StartTicks++ }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			p := start(t)
			l := r.acquire(byPID(p))
			r.reopen(func() { r.edit(l, c.edit) })
			require.Empty(t, r.all())
			require.Contains(t, last(r.events()), fmt.Sprintf("port %d is free: its holder ended while hive was not running: %s", l.Port, c.want))
			require.False(t, r.alloc.Leased(l.Port))
			require.True(t, p.alive(), "whoever has the number now is left in peace")
		})
	}
}

// The port of a dead holder is looked at also when recovery has no time left: it is
// freed only when nobody is there.
func TestNothingIsFreedUnlooked(t *testing.T) {
	r := newRig(t, 2)
	p := start(t)
	l := r.acquire(byPID(p))
	r.shut()
	p.kill()
	listen(t, l.Port)
	r.open()
	require.NoError(t, r.alloc.Rebuild(t.Context()))
	var rec *lease.Recovery
	require.NoError(t, r.store.View(func(tx *store.Tx) (err error) { rec, err = r.Load(tx); return err }))
	rec.Verify(t.Context(), nil)
	require.Empty(t, rec.Freed())
	require.NoError(t, r.journal.Commit(t.Context(), rec.Record))
	rec.Adopt()
	require.Equal(t, store.LeaseQuarantined, r.state(l.Port))
}

// Leases of workers are the supervisor's, and quarantined ones the review's.
func TestRecoveryLeavesOthersLeasesAlone(t *testing.T) {
	r := newRig(t, 3)
	w := r.worker(0, store.WorkerReady)
	require.NoError(t, r.alloc.Rebuild(t.Context()))
	q := r.acquire(byTTL(time.Hour))
	q = r.edit(q, func(l *store.Lease) { l.State, l.Reason = store.LeaseQuarantined, "somebody still has it" })
	before := r.events()
	r.reopen(func() {})
	require.Equal(t, []store.Lease{w, q}, r.all())
	require.Equal(t, before, r.events())
	require.Zero(t, r.Tracked())
}

// What was leased in the last run counts in this one.
func TestRecoveryCountsTheSharesOfCallers(t *testing.T) {
	r := newRig(t, 6)
	by := user(4001)
	req := byTTL(time.Hour)
	req.Ports = perUser
	l, err := r.Acquire(t.Context(), by, req)
	require.NoError(t, err)
	r.reopen(func() {})
	_, err = r.Acquire(t.Context(), by, byTTL(time.Hour))
	require.ErrorContains(t, err, "has leased 3 ports and may have 3 at a time (ports.per_user); release one first")
	freed, err := r.Release(by, l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	_, err = r.Acquire(t.Context(), by, req)
	require.NoError(t, err, "all of them were given back")
}
