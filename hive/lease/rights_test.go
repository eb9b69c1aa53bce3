package lease_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

func TestWhoCannotHoldALease(t *testing.T) {
	r := newRig(t, 3)
	w, gone, other := start(t), start(t), start(t)
	r.workers[w.PID] = store.Worker{WorkerID: "cpu-8080-abcdef"}
	gone.kill()
	id, err := proc.Identify(other.PID)
	require.NoError(t, err)
	l := r.acquire(byTTL(time.Hour))
	for name, c := range map[string]struct {
		holder      lease.Holder
		field, want string
	}{
		"init":           {lease.Holder{PID: 1}, "pid", "is 1; init cannot hold a lease"},
		"hive":           {lease.Holder{PID: os.Getpid()}, "pid", "which is hive itself"},
		"a worker":       {lease.Holder{PID: w.PID}, "pid", "which is worker cpu-8080-abcdef: hive leases its ports itself (ports in its entry)"},
		"nobody":         {lease.Holder{PID: gone.PID}, "pid", fmt.Sprintf("is %d; no such process runs where hive can see it", gone.PID)},
		"another's time": {lease.Holder{PID: other.PID, StartTime: id.StartTicks + 1}, "start_time", fmt.Sprintf("is %d, but process %d was started at %d", id.StartTicks+1, other.PID, id.StartTicks)},
	} {
		_, err := r.Acquire(t.Context(), access.Hive(), lease.Request{Holder: c.holder})
		require.ErrorIs(t, err, errdefs.ErrBadRequest, name)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in, name)
		require.Equal(t, c.field, in.Field, name)
		require.Contains(t, in.Detail, c.want)
		_, err = r.renew(l, c.holder)
		require.ErrorContains(t, err, c.want, "nor be given one: "+name)
	}
	if k := kernelThread(); k != 0 {
		_, err := r.Acquire(t.Context(), access.Hive(), lease.Request{Holder: lease.Holder{PID: k}})
		require.ErrorContains(t, err, fmt.Sprintf("pid: is %d, which is a thread of the kernel", k))
	}
	require.Equal(t, []store.Lease{l}, r.all(), "nothing was leased or changed")
	require.True(t, w.alive() && other.alive())
}

// kernelThread is the PID of some thread of the kernel; 0 where none can be seen
// (in a PID namespace of our own).
func kernelThread() int {
	for pid := 2; pid < 200; pid++ {
		if proc.KernelThread(pid) {
			return pid
		}
	}
	return 0
}

// Who is known to ask may name processes of their own, and root any.
func TestWhoMayNameAProcess(t *testing.T) {
	r := newRig(t, 8)
	own := uint32(os.Geteuid())
	other := own + 54321
	admin := access.Rights{Level: access.Admin}
	for name, c := range map[string]struct {
		by   access.Caller
		want string // empty: they may
	}{
		"hive itself":                 {access.Hive(), ""},
		"the process's user":          {user(own), ""},
		"root":                        {user(0), ""},
		"an admin's token":            {access.Caller{Token: "ci", Rights: admin}, ""},
		"another user":                {user(other), fmt.Sprintf("a process of the user with uid %d; the caller has uid %d and may name processes of their own (root may name any)", own, other)},
		"an admin who is not root":    {access.Caller{Known: true, UID: other, Rights: admin}, "the caller has uid " + strconv.Itoa(int(other))},
		"a token, whose user is what": {token("ci"), "token ci is not known to be a user of this machine, and may name no process; take ttl instead"},
	} {
		p := start(t)
		l, err := r.Acquire(t.Context(), c.by, byPID(p))
		if c.want == "" {
			require.NoError(t, err, name)
			require.Equal(t, p.PID, l.Identity.PID)
			continue
		}
		require.ErrorIs(t, err, errdefs.ErrForbidden, name)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in)
		require.Equal(t, "pid", in.Field)
		require.Contains(t, in.Detail, c.want, name)
	}
	require.Len(t, r.all(), 4)

	l := r.acquire(byPID(start(t)))
	_, err := r.Renew(t.Context(), access.Caller{Known: true, UID: other, Rights: admin}, l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: byPID(start(t)).Holder})
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	after, err := r.Lease(l.Port)
	require.NoError(t, err)
	require.Equal(t, l.Identity, after.Identity, "it has the holder it had")
}

// A lease's id is no secret: whoever knows it may still not touch what is another's.
func TestOnlyWhoAcquiredALeaseMayTouchIt(t *testing.T) {
	r := newRig(t, 4)
	alice, bob := user(4001), user(4002)
	l, err := r.Acquire(t.Context(), alice, byTTL(time.Hour))
	require.NoError(t, err)
	for _, by := range []access.Caller{bob, token("ci")} {
		_, err = r.Renew(t.Context(), by, l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{TTL: 2 * time.Hour}})
		require.ErrorIs(t, err, errdefs.ErrForbidden)
		_, err = r.Release(by, l.Port, l.LeaseID)
		require.ErrorIs(t, err, errdefs.ErrForbidden)
		require.EqualError(t, err, fmt.Sprintf(
			"the lease of port %d was acquired by %s, and only they and admins may renew or release it; the caller is %s", l.Port, access.Name(l.Requester), by))
	}
	require.Equal(t, []store.Lease{l}, r.all())

	again := alice // the same user by another process
	again.PID = 4711
	_, err = r.Renew(t.Context(), again, l.Port, lease.Renewal{LeaseID: l.LeaseID})
	require.NoError(t, err)
	freed, err := r.Release(again, l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)

	ci, err := r.Acquire(t.Context(), token("ci"), byTTL(time.Hour))
	require.NoError(t, err)
	_, err = r.Release(token("cd"), ci.Port, ci.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	freed, err = r.Release(access.Caller{Known: true, UID: 4003, Rights: access.Rights{Level: access.Admin}}, ci.Port, ci.LeaseID)
	require.NoError(t, err)
	require.True(t, freed, "an admin may")
}

// A quarantined port is still who acquired it's to ask for.
func TestOnlyWhoAcquiredALeaseMayReleaseItsQuarantine(t *testing.T) {
	r := newRig(t, 1)
	l, err := r.Acquire(t.Context(), user(4001), byTTL(time.Hour))
	require.NoError(t, err)
	listener := listen(t, l.Port)
	freed, err := r.Release(user(4001), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.False(t, freed)
	require.NoError(t, listener.Close())
	_, err = r.Release(user(4002), l.Port, l.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	require.Equal(t, store.LeaseQuarantined, r.state(l.Port))
	freed, err = r.Release(user(4001), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	require.Equal(t, fmt.Sprintf("port %d is free again: released by its holder", l.Port), last(r.events()))
	r.freed(l.Port)
	_, err = r.Release(user(4001), l.Port, l.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

func TestALeaseThatIsNotTheCallersIsAConflict(t *testing.T) {
	r := newRig(t, 3)
	l := r.acquire(byTTL(time.Hour))
	r.worker(1, store.WorkerReady)
	for port, want := range map[uint16]struct {
		id   string
		kind error
		text string
	}{
		l.Port:    {"another", errdefs.ErrConflict, fmt.Sprintf("conflict: port %d is leased under another lease_id", l.Port)},
		r.port(1): {"lease-of-w1", errdefs.ErrConflict, fmt.Sprintf("conflict: port %d is leased to worker w1, which has it for as long as it lives; stop the worker", r.port(1))},
		r.port(2): {l.LeaseID, errdefs.ErrNotFound, fmt.Sprintf("lease of port %d: not found", r.port(2))},
	} {
		_, err := r.Release(access.Hive(), port, want.id)
		require.ErrorIs(t, err, want.kind)
		require.EqualError(t, err, want.text)
		_, err = r.Renew(t.Context(), access.Hive(), port, lease.Renewal{LeaseID: want.id, Holder: lease.Holder{TTL: time.Minute}})
		require.EqualError(t, err, want.text)
	}
	require.Equal(t, []uint16{l.Port, r.port(1)}, portsOf(r.all()))
}
