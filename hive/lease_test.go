package hive_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// program starts a process that hive knows nothing of. It is ended with the test.
func program(t *testing.T) *os.Process {
	t.Helper()
	return programWith(t, nil)
}

// programWith is program with more in its environment.
func programWith(t *testing.T, env []string) *os.Process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "port-user", "--wait-for", "/nonexistent")
	cmd.Env = append(os.Environ(), env...)
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd.Process
}

func byPID(pid int) lease.Request { return lease.Request{Holder: lease.Holder{PID: pid}} }

func byTTL(ttl time.Duration) lease.Request {
	return lease.Request{Holder: lease.Holder{TTL: ttl}}
}

func (r *rig) lease(req lease.Request) store.Lease {
	r.Helper()
	l, err := r.h.AcquireLease(r.Context(), access.Hive(), req)
	require.NoError(r, err)
	return l
}

// listenOn listens on a port of loopback until the test ends or it is closed.
func listenOn(t *testing.T, port uint16) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestALeaseLivesAsLongAsItsProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	p := program(t)
	req := byPID(p.Pid)
	req.Owner = "comfy of bob"
	l := r.lease(req)
	require.Equal(t, r.port(0), l.Port)
	require.Equal(t, store.LeaseProcess, l.Kind)
	require.Equal(t, p.Pid, l.Identity.PID)
	require.Equal(t, r.port(1), r.spawn("cpu").Port, "workers pass over it")
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu", "port": l.Port})
	require.Contains(t, job.Error.Message, "it is leased to comfy of bob")

	require.NoError(t, p.Kill())
	r.eventually("it is freed", func() bool { return len(r.leases()) == 1 })
	require.Equal(t, l.Port, r.spawn("cpu").Port)
}

func TestALeaseOfSeveralPortsForAProgram(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	r.open()
	req := byPID(program(t).Pid)
	req.Port, req.Ports = r.port(1), 2
	l := r.lease(req)
	require.Equal(t, []uint16{r.port(1), r.port(2)}, l.All())
	require.Equal(t, r.port(0), r.spawn("cpu").Port)
	require.Equal(t, r.port(3), r.spawn("cpu").Port)
	freed, err := r.h.ReleaseLease(access.Hive(), r.port(2), l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	require.Len(t, r.leases(), 2)
}

func TestATTLLeaseRunsOutUnlessItIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	kept, left := r.lease(byTTL(time.Second)), r.lease(byTTL(time.Second))
	expires := r.h.ExpiresAt(kept.LeaseID)
	require.WithinDuration(t, time.Now().Add(time.Second), *expires, time.Second)
	r.eventually("the one that nobody renews is freed", func() bool {
		_, err := r.h.RenewLease(t.Context(), access.Hive(), kept.Port, lease.Renewal{LeaseID: kept.LeaseID})
		require.NoError(t, err)
		return len(r.leases()) == 1
	})
	require.Equal(t, kept.Port, r.leases()[0].Port)
	_, err := r.h.RenewLease(t.Context(), access.Hive(), left.Port, lease.Renewal{LeaseID: left.LeaseID})
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	longer, err := r.h.RenewLease(t.Context(), access.Hive(), kept.Port, lease.Renewal{LeaseID: kept.LeaseID, Holder: lease.Holder{TTL: time.Hour}})
	require.NoError(t, err)
	require.Equal(t, time.Hour, longer.TTL)
	require.WithinDuration(t, time.Now().Add(time.Hour), *r.h.ExpiresAt(kept.LeaseID), time.Minute)
}

// hivectl run leases for itself, and hands the lease to its child.
func TestALeaseIsBoundToAnotherProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	first, second := program(t), program(t)
	l := r.lease(byPID(first.Pid))
	bound, err := r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{PID: second.Pid}})
	require.NoError(t, err)
	require.Equal(t, second.Pid, bound.Identity.PID)
	require.NoError(t, first.Kill())
	r.eventually("the first is gone", func() bool { return !alive(first.Pid) })
	r.never("the lease of the second", 100*time.Millisecond, func() bool { return len(r.leases()) != 1 })

	ttl, err := r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{TTL: time.Hour}})
	require.NoError(t, err)
	require.Equal(t, store.LeaseTTL, ttl.Kind)
	require.NoError(t, second.Kill())
	r.eventually("the second is gone", func() bool { return !alive(second.Pid) })
	r.never("the lease is nobody's process's", 100*time.Millisecond, func() bool { return len(r.leases()) != 1 })
	_, err = r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{PID: second.Pid}})
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.Equal(t, store.LeaseTTL, r.leases()[0].Kind, "a refused renewal changes nothing")
}

func TestWhoCannotHoldALease(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	w := r.spawn("cpu")
	gone := program(t)
	require.NoError(t, gone.Kill())
	r.eventually("it is gone", func() bool { return !alive(gone.Pid) })
	other := program(t)
	id, err := proc.Identify(other.Pid)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		holder lease.Holder
		want   string
	}{
		"init":           {lease.Holder{PID: 1}, "pid: is 1; init cannot hold a lease"},
		"hive":           {lease.Holder{PID: os.Getpid()}, "which is hive itself"},
		"a worker":       {lease.Holder{PID: w.PID}, "which is worker " + w.WorkerID},
		"nobody":         {lease.Holder{PID: gone.Pid}, "no such process runs where hive can see it"},
		"another's time": {lease.Holder{PID: other.Pid, StartTime: id.StartTicks + 1}, "start_time: is "},
	} {
		_, err := r.h.AcquireLease(t.Context(), access.Hive(), lease.Request{Holder: c.holder})
		require.ErrorIs(t, err, errdefs.ErrBadRequest, name)
		require.ErrorContains(t, err, c.want)
	}
	if k := kernelThread(); k != 0 {
		_, err := r.h.AcquireLease(t.Context(), access.Hive(), byPID(k))
		require.ErrorContains(t, err, "a thread of the kernel")
	}
	require.Len(t, r.leases(), 1, "nothing was leased")
	l, err := r.h.AcquireLease(t.Context(), access.Hive(), lease.Request{Holder: lease.Holder{PID: other.Pid, StartTime: id.StartTicks}})
	require.NoError(t, err)

	for _, port := range []uint16{w.Port, l.Port} {
		_, err = r.h.ReleaseLease(access.Hive(), port, "another")
		require.ErrorIs(t, err, errdefs.ErrConflict)
		_, err = r.h.RenewLease(t.Context(), access.Hive(), port, lease.Renewal{LeaseID: w.LeaseID, Holder: lease.Holder{TTL: time.Hour}})
		require.ErrorIs(t, err, errdefs.ErrConflict, "the lease of a worker is not to be had")
	}
	_, err = r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID})
	require.ErrorIs(t, err, errdefs.ErrBadRequest, "there is nothing to renew")
	_, err = r.h.ReleaseLease(access.Hive(), r.port(2), l.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.Len(t, r.leases(), 2)
	require.True(t, alive(w.PID) && alive(other.Pid))

	_, err = r.h.AcquireLease(t.Context(), access.Hive(), lease.Request{Holder: lease.Holder{TTL: time.Hour}, Port: w.Port})
	require.ErrorIs(t, err, alloc.ErrUnavailable)
	r.lease(byTTL(time.Hour))
	_, err = r.h.AcquireLease(t.Context(), access.Hive(), byTTL(time.Hour))
	require.ErrorIs(t, err, alloc.ErrExhausted)
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

func TestDecodeLeases(t *testing.T) {
	for body, want := range map[string]string{
		``:                                   `the body is empty; expected a JSON object such as {"ttl": "30s"}`,
		`{}`:                                 `pid: is required, or ttl: what keeps the lease alive`,
		`{"pid": 0}`:                         `pid: is 0; expected an integer from 1 to 4194304`,
		`{"pid": "7"}`:                       `pid: is "7"; expected an integer`,
		`{"pid": 7, "ttl": "30s"}`:           `ttl: cannot be given with pid`,
		`{"ttl": 30}`:                        `ttl: is 30; expected a string`,
		`{"ttl": "30"}`:                      `ttl: is "30"; expected a duration with a unit from 1s to 24h, such as 30s`,
		`{"ttl": "10ms"}`:                    `ttl: is "10ms"; expected a duration`,
		`{"ttl": "25h"}`:                     `ttl: is "25h"; expected a duration`,
		`{"ttl": "30s", "start_time": 4}`:    `start_time: is nothing without pid`,
		`{"ttl": "30s", "port": 65536}`:      `port: is 65536; expected an integer from 1 to 65535`,
		`{"ttl": "30s", "port": 1023}`:       `port: is 1023; below 1024 only a worker gets a port, if its entry has it (port in hive.yaml)`,
		`{"ttl": "30s", "port": 80}`:         `port: is 80; below 1024`,
		`{"ttl": "30s", "ports": 257}`:       `ports: is 257; expected an integer from 1 to 256`,
		`{"ttl": "30s", "owner": "a\u0007"}`: `owner: has control characters`,
		`{"ttl": "30s", "owner": "a\u2066"}`: `owner: has \u2066, which is invisible`,
		`{"ttl": "30s", "hive_id": "x"}`:     `hive_id: is not a field of a lease (its fields: pid, start_time, ttl, port, ports, owner)`,
	} {
		_, err := lease.DecodeRequest([]byte(body))
		require.ErrorContains(t, err, want, body)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in)
	}
	got, err := lease.DecodeRequest([]byte(`{"pid": 7, "start_time": 99, "port": 8188, "ports": 2, "owner": "bob"}`))
	require.NoError(t, err)
	require.Equal(t, lease.Request{Holder: lease.Holder{PID: 7, StartTime: 99}, Port: 8188, Ports: 2, Owner: "bob"}, got)
	for body, want := range map[string]string{
		`{"pid": 7}`:                    `lease_id: is required`,
		`{"lease_id": "l", "port": 1}`:  `port: is not a field of a renewal`,
		`{"lease_id": "l", "ttl": "x"}`: `ttl: is "x"; expected a duration`,
	} {
		_, err := lease.DecodeRenewal([]byte(body))
		require.ErrorContains(t, err, want, body)
	}
	renewal, err := lease.DecodeRenewal([]byte(`{"lease_id": "l"}`))
	require.NoError(t, err)
	require.Equal(t, lease.Renewal{LeaseID: "l"}, renewal)
}

// At the end of a lease somebody may still listen: then the port is nobody's.
func TestTheHolderIsGoneAndSomebodyStillListens(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	p := program(t)
	l := r.lease(byPID(p.Pid))
	listener := listenOn(t, l.Port)
	require.NoError(t, p.Kill())
	quarantined := func() bool { return r.leases()[0].State == store.LeaseQuarantined }
	r.eventually("it is quarantined", quarantined)
	require.Contains(t, r.leases()[0].Reason, "has ended, and ")
	freed, err := r.h.ReleaseLease(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.False(t, freed, "somebody still listens")
	_, err = r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{TTL: time.Hour}})
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, "has ended and the port is quarantined")
	require.NoError(t, listener.Close())
	r.eventually("nobody was found on it twice", func() bool { return len(r.leases()) == 0 })

	ttl := r.lease(byTTL(time.Hour))
	listener = listenOn(t, ttl.Port)
	freed, err = r.h.ReleaseLease(access.Hive(), ttl.Port, ttl.LeaseID)
	require.NoError(t, err)
	require.False(t, freed)
	require.NoError(t, listener.Close())
	// A child that another test has forked may have the listener until it executes.
	r.eventually("it is released", func() bool {
		freed, err := r.h.ReleaseLease(access.Hive(), ttl.Port, ttl.LeaseID)
		return freed || errors.Is(err, errdefs.ErrNotFound) // the review came first
	})
	require.Empty(t, r.leases())
}

func TestLeasesOfProgramsOverARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	r.open()
	lives, dies, leaves := program(t), program(t), program(t)
	kept, freed, held, ttl := r.lease(byPID(lives.Pid)), r.lease(byPID(dies.Pid)), r.lease(byPID(leaves.Pid)), r.lease(byTTL(time.Hour))
	r.close()
	require.NoError(t, dies.Kill())
	require.NoError(t, leaves.Kill())
	listener := listenOn(t, held.Port)
	r.eventually("both are gone", func() bool { return !alive(dies.Pid) && !alive(leaves.Pid) })

	r.open()
	leases := r.leases()
	require.Len(t, leases, 3)
	require.Equal(t, kept, leases[0])
	require.Equal(t, held.LeaseID, leases[1].LeaseID)
	require.Equal(t, store.LeaseQuarantined, leases[1].State)
	require.Contains(t, leases[1].Reason, "its holder ended while hive was not running")
	require.Equal(t, ttl, leases[2])
	require.WithinDuration(t, time.Now().Add(time.Hour), *r.h.ExpiresAt(ttl.LeaseID), time.Minute, "a start gives it its whole time again")
	require.Equal(t, freed.Port, r.spawn("cpu").Port)
	require.Zero(t, r.h.Info().Recovery.Adopted, "those numbers are of workers")

	require.NoError(t, lives.Kill())
	r.eventually("its end is seen by the hive that did not see its beginning", func() bool { return len(r.leases()) == 3 })
	require.NoError(t, listener.Close())
}

// A holder that cannot be judged keeps its port, and is judged again.
func TestAHolderThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	l := r.lease(byPID(program(t).Pid))
	r.close()
	squatter, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(squatter, &unix.SockaddrUnix{Name: "@hive-port/" + strconv.Itoa(int(l.Port))}))
	r.open()
	require.Equal(t, store.LeaseUnverified, r.leases()[0].State)
	require.Contains(t, r.leases()[0].Reason, "another hive on this machine claims its port")
	require.Equal(t, r.port(1), r.spawn("cpu").Port)
	require.NoError(t, unix.Close(squatter))
	r.eventually("it is judged again", func() bool { return r.leases()[0].State == store.LeaseHeld })
	require.Equal(t, l, r.leases()[0])
}

// Nothing signals a process that hive did not start.
func TestHoldersAreNeverSignalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	p := program(t)
	r.lease(byPID(p.Pid))
	job := r.do(map[string]any{"operation": "worker_process_delete", "pid": p.Pid})
	require.Equal(t, errdefs.CodeNotFound, job.Error.Code)
	require.NoError(t, r.h.StopWorkers(t.Context()))
	r.close()
	require.NoError(t, p.Signal(syscall.Signal(0)))
	require.True(t, alive(p.Pid))
	r.open()
	require.Len(t, r.leases(), 1, "and the lease stays with it")
}

// Who is known to ask may name processes of their own, and root any.
func TestLeaseOfSomebodyElsesProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	own := uint32(os.Geteuid())
	other := own + 54321
	as := func(uid uint32) access.Caller {
		return access.Caller{Known: true, UID: uid, Rights: access.Rights{Level: access.Admin}}
	}
	_, err := r.h.AcquireLease(t.Context(), as(other), byPID(program(t).Pid))
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	var in *errdefs.InputError
	require.ErrorAs(t, err, &in)
	require.Equal(t, "pid", in.Field)
	require.Contains(t, in.Detail, "a process of the user with uid "+strconv.Itoa(int(own))+"; the caller has uid "+strconv.Itoa(int(other)))
	require.Empty(t, r.leases())
	token := access.Caller{Token: "ci", Rights: access.Rights{Level: access.Operate}}
	_, err = r.h.AcquireLease(t.Context(), token, byPID(program(t).Pid))
	require.ErrorIs(t, err, errdefs.ErrForbidden, "of a token it is not known whose processes are theirs")

	for _, by := range []access.Caller{as(own), as(0)} {
		_, err := r.h.AcquireLease(t.Context(), by, byPID(program(t).Pid))
		require.NoError(t, err)
	}
	l := r.lease(byPID(program(t).Pid))
	_, err = r.h.RenewLease(t.Context(), as(other), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: byPID(program(t).Pid).Holder})
	require.ErrorIs(t, err, errdefs.ErrForbidden)
	after, err := r.h.Lease(l.Port)
	require.NoError(t, err)
	require.Equal(t, l.Identity, after.Identity, "it has the holder it had")
}
