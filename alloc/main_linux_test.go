package alloc_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is an Allocator over a real store, on ports that nobody had.
type fixture struct {
	*alloc.Allocator
	t     testing.TB
	store *store.Store
	rng   alloc.Range
}

// setUp makes an Allocator of n ports.
func setUp(t testing.TB, n int, change ...func(*alloc.Options)) *fixture {
	t.Helper()
	first := porttest.Free(t, n)
	f := &fixture{t: t, store: storetest.Open(t), rng: alloc.Range{First: first, Last: first + uint16(n) - 1}}
	f.Allocator = f.again(change...)
	return f
}

// again makes another Allocator over the same store, as a restart does. The one
// before must be closed, unless the test is about that.
func (f *fixture) again(change ...func(*alloc.Options)) *alloc.Allocator {
	f.t.Helper()
	o := alloc.Options{Range: f.rng, Store: f.store}
	for _, c := range change {
		c(&o)
	}
	a, err := alloc.New(o)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, a.Close()) })
	require.NoError(f.t, a.Rebuild(context.Background()))
	return a
}

// restart closes the Allocator and makes another.
func (f *fixture) restart(change ...func(*alloc.Options)) {
	f.t.Helper()
	require.NoError(f.t, f.Close())
	f.Allocator = f.again(change...)
}

func sequential(o *alloc.Options) { o.Policy = alloc.Sequential }

// port is the i-th port of the range.
func (f *fixture) port(i int) uint16 { return f.rng.First + uint16(i) }

func (f *fixture) acquire(req alloc.Request) *alloc.Reservation {
	f.t.Helper()
	r, err := f.Acquire(context.Background(), req)
	require.NoError(f.t, err)
	return r
}

// newLease is a lease of a worker that could be recorded.
func newLease(port uint16, pid int) store.Lease {
	id := uuid.NewString()
	return store.Lease{
		Port: port, LeaseID: id, Kind: store.LeaseWorker, WorkerID: fmt.Sprintf("test-%d-%s", port, id[:6]),
		Identity: &store.Identity{BootID: "boot", PID: pid, StartTicks: uint64(pid)},
		State:    store.LeaseHeld, AcquiredAt: time.Now().UTC(),
	}
}

// record puts a reservation and the worker of its lease into the store.
func (f *fixture) record(r *alloc.Reservation, l store.Lease) error {
	return f.store.Update(context.Background(), func(tx *store.Tx) error {
		if err := r.Record(tx, l); err != nil {
			return err
		}
		return tx.PutWorker(worker(l))
	})
}

func worker(l store.Lease) store.Worker {
	return store.Worker{
		WorkerID: l.WorkerID, Type: "test", Port: l.Port, Ports: []uint16{l.Port}, LeaseID: l.LeaseID,
		Identity: l.Identity, State: store.WorkerReady, Desired: store.DesiredRunning,
		Spec: store.Spec{Argv: []string{"/bin/true"}}, Log: "/dev/null", StartedAt: time.Now().UTC(),
	}
}

// lease acquires and records.
func (f *fixture) lease(req alloc.Request) store.Lease {
	f.t.Helper()
	r := f.acquire(req)
	l := newLease(r.Port, 1000+int(r.Port))
	require.NoError(f.t, f.record(r, l))
	return l
}

// release ends a lease together with its worker.
func (f *fixture) release(l store.Lease) {
	f.t.Helper()
	require.NoError(f.t, f.Release(context.Background(), l.Port, l.LeaseID, ended(l)))
}

func ended(leases ...store.Lease) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		for _, l := range leases {
			w := worker(l)
			w.State, w.Identity = store.WorkerStopped, nil
			now := tx.Now()
			w.EndedAt = &now
			if err := tx.PutWorker(w); err != nil {
				return err
			}
		}
		return nil
	}
}

func loopback(port uint16) netip.AddrPort { return netip.AddrPortFrom(porttest.Loopback, port) }

// foreignProgram takes a port for a moment, if it can.
func foreignProgram(at netip.AddrPort, listen bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	if err == nil && listen {
		_ = unix.Listen(fd, 1)
	}
}
