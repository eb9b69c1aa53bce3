package hive_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/hive/doctor"
	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// doctor asks the real hive, which must check everything.
func (r *rig) doctor() []doctor.Checkup {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := r.h.Doctor(ctx)
	require.NoError(r, err)
	require.Len(r, all, 23)
	return all
}

// named finds a check.
func named(t *testing.T, all []doctor.Checkup, name string) doctor.Checkup {
	t.Helper()
	i := slices.IndexFunc(all, func(c doctor.Checkup) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return all[i]
}

// examined waits for the full check after a start.
func (r *rig) examined() {
	r.Helper()
	r.eventually("the full check is over", r.h.Examined)
}

// Nothing of hive's own is wrong with a hive that runs well; the machine below
// it may be anything.
func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	r.examined()
	r.spawn("cpu")
	all := r.doctor()
	for _, name := range []string{"ports", "squatters", "quarantined", "unverified", "members", "file", "origin"} {
		require.Equal(t, doctor.OK, named(t, all, name).Status, "%+v", named(t, all, name))
	}
	require.NotEqual(t, doctor.Warning, named(t, all, "clock").Status, "%+v", named(t, all, "clock"))
	require.Equal(t, "3 in all, 2 free, 1 leased", named(t, all, "ports").Found)
	require.Contains(t, named(t, all, "kernel").Found, host.KernelRelease())
}

func TestDoctorNamesASquatter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port(1)))
	require.NoError(t, err)
	defer l.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	c := named(t, r.doctor(), "squatters")
	require.Equal(t, doctor.Warning, c.Status)
	require.Contains(t, c.Found, fmt.Sprintf("%d %s (pid %d", r.port(1), strings.TrimSpace(string(comm)), os.Getpid()))
	require.Contains(t, c.Do, fmt.Sprintf("`%d` to `ports.reserved`", r.port(1)))

	// As it says: then the port is somebody else's by agreement.
	r.close()
	r.cfg.Ports.Reserved = []alloc.Range{{First: r.port(1), Last: r.port(1)}}
	r.open()
	require.Equal(t, doctor.OK, named(t, r.doctor(), "squatters").Status)
}

func TestDoctorOnAnUnverifiedWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	other, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(other, &syscall.SockaddrUnix{Name: fmt.Sprintf("@hive-port/%d", w.Port)}))
	r.open()
	c := named(t, r.doctor(), "unverified")
	require.Equal(t, doctor.Warning, c.Status)
	require.Equal(t, fmt.Sprintf("%d %s: another hive on this machine claims its port", w.Port, w.WorkerID), c.Found)
	r.close()
	require.NoError(t, syscall.Close(other))
	r.open()
	require.Equal(t, doctor.OK, named(t, r.doctor(), "unverified").Status)
}

// A worker's port is quarantined as long as a stranger listens on it.
func TestDoctorOnAQuarantinedPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	kill9(t, w.PID)
	r.eventually("it is dead", func() bool { return !alive(w.PID) })
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.Port))
	require.NoError(t, err)
	defer l.Close()
	r.open()
	c := named(t, r.doctor(), "quarantined")
	require.Equal(t, doctor.Warning, c.Status, "%+v", c)
	require.Contains(t, c.Found, fmt.Sprintf("%d of %s, held by ", w.Port, w.WorkerID))
	require.Contains(t, c.Found, fmt.Sprintf("(pid %d", os.Getpid()))
}

func TestDoctorOnTheRangeOfOutgoingConnections(t *testing.T) {
	t.Parallel()
	local, err := host.ReadLocalPorts()
	require.NoError(t, err)
	r := newRig(t, 1)
	// Nothing is started here, so the ports need not be free.
	r.cfg.Ports.Range = alloc.Range{First: local.Range.Last - 1, Last: local.Range.Last}
	r.open()
	c := named(t, r.doctor(), "range")
	if len(local.Reserved) > 0 {
		require.NotEqual(t, doctor.Unknown, c.Status, "what this machine reserves may cover it: %+v", c)
		return
	}
	require.Equal(t, doctor.Warning, c.Status)
	overlap := r.cfg.Ports.Range.String()
	require.Contains(t, c.Found, overlap+" are also ports of outgoing connections")
	require.Contains(t, c.Do, "`sysctl -w net.ipv4.ip_local_reserved_ports="+overlap+"`")
}

// A process with this hive's stamp that no record knows.
func TestDoctorOnAMemberWithoutRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{proc.StampState + "=" + r.h.Info().StateID, proc.StampLease + "=l", proc.StampWorker + "=cpu-1-gone"}
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	}()
	c := named(t, r.doctor(), "members")
	require.Equal(t, doctor.Warning, c.Status)
	require.Equal(t, fmt.Sprintf("sleep (pid %d) of cpu-1-gone", cmd.Process.Pid), c.Found)
	require.Contains(t, c.Do, fmt.Sprintf("`ps -fp %d`", cmd.Process.Pid))
}

// The doctor says what the full check after the start has found.
func TestDoctorOnADamagedFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	r.close()
	r.edit(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: r.port(1), LeaseID: "l", Kind: store.LeaseWorker, WorkerID: "cpu-1-gone", State: store.LeaseHeld})
	})
	r.open()
	r.examined()
	c := named(t, r.doctor(), "file")
	require.Equal(t, doctor.Warning, c.Status, "%+v", c)
	require.Contains(t, c.Found, `is held by worker "cpu-1-gone", which has no record`)
	require.Contains(t, c.Do, "`hivectl db salvage --data-dir "+r.cfg.DataDir+"`")
	r.close()
	r.edit(func(tx *store.Tx) error {
		_, err := tx.EndLease(r.port(1), "l")
		return err
	})
}

func TestDoctorOnARestoredFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	r.close()
	file := filepath.Join(r.cfg.DataDir, "hive.db")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".copy", raw, 0o600))
	require.NoError(t, os.Rename(file+".copy", file))
	r.open()
	require.Equal(t, doctor.Warning, named(t, r.doctor(), "origin").Status)
	r.close()
	r.open()
	require.Equal(t, doctor.OK, named(t, r.doctor(), "origin").Status)
}

// A clock that was turned back shows as records of the future.
func TestDoctorOnTheClock(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	r.close()
	r.edit(func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{Type: store.EventAudit, At: time.Now().Add(time.Hour)})
		return err
	})
	r.open()
	c := named(t, r.doctor(), "clock")
	require.Equal(t, doctor.Warning, c.Status)
	require.Regexp(t, `^the clock is (1h0m0s|59m[0-9]+s) behind event [0-9]+, `, c.Found)
}

func TestDoctorEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.h.Doctor(ctx)
	require.ErrorIs(t, err, context.Canceled)
	h := r.h
	r.close()
	_, err = h.Doctor(t.Context())
	require.ErrorIs(t, err, store.ErrClosed)
}
