package hive_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
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
	// Its port is given out again a moment after that is in the file.
	r.eventually("its port can be had", func() bool {
		job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu", "port": l.Port})
		return job.Error == nil
	})
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

// A worker's ports are leased to it by hive itself.
func TestAWorkerHoldsNoOtherLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	_, err := r.h.AcquireLease(t.Context(), access.Hive(), lease.Request{Holder: lease.Holder{PID: w.PID}})
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.ErrorContains(t, err, "which is worker "+w.WorkerID)
	_, err = r.h.ReleaseLease(access.Hive(), w.Port, w.LeaseID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.Len(t, r.leases(), 1)
	require.True(t, alive(w.PID))
}
