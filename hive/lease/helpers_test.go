package lease_test

import (
	"context"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/access"
	"rbeehive/hive/journal"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/hive/run"
	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// long bounds what must happen: a test that reaches it has failed.
const long = 20 * time.Second

// perUser is how many ports one caller may have in these tests.
const perUser = 3

// rig is a manager over a real state file and a real pool of ports, without a hive.
type rig struct {
	*lease.Manager
	t       testing.TB
	store   *store.Store
	run     *run.State
	alloc   *alloc.Allocator
	journal *journal.Journal
	logs    *test.Hook
	ports   alloc.Range
	workers workers               // by PID
	trees   map[string]*proc.Tree // by lease id
}

// workers implements lease.Workers.
type workers map[int]store.Worker

func (w workers) LiveByPID(pid int) (store.Worker, bool) {
	rec, ok := w[pid]
	return rec, ok
}

// newRig returns a manager of n ports that serves.
func newRig(t testing.TB, n int) *rig {
	t.Helper()
	r := closedRig(t, n)
	r.recover(t.Context())
	return r
}

// closedRig is newRig before its recovery.
func closedRig(t testing.TB, n int) *rig {
	t.Helper()
	first, err := freeport.Range(n)
	require.NoError(t, err)
	r := &rig{
		t: t, store: storetest.Open(t), workers: workers{}, trees: map[string]*proc.Tree{},
		ports: alloc.Range{First: uint16(first), Last: uint16(first + n - 1)},
	}
	r.open()
	t.Cleanup(func() { r.shut() })
	return r
}

// open makes a manager that has not recovered anything.
func (r *rig) open() {
	r.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.logs, r.run = test.NewLocal(log), run.New()
	r.journal = journal.New(r.run.Context(), r.store, "/data", log)
	table := sockets.NewTable()
	var err error
	r.alloc, err = alloc.New(alloc.Options{Range: r.ports, Store: r.store, Sockets: table})
	require.NoError(r.t, err)
	r.Manager = lease.New(lease.Options{
		Run: r.run, Journal: r.journal, Alloc: r.alloc, Sockets: table, Workers: r.workers, PerUser: perUser,
		Tree: func(l store.Lease) *proc.Tree {
			if tree := r.trees[l.LeaseID]; tree != nil {
				return tree
			}
			return &proc.Tree{}
		},
	})
}

// shut closes the manager, as at the end of a hive.
func (r *rig) shut() {
	r.t.Helper()
	r.run.Close()
	r.Close()
	r.run.Wait()
	require.NoError(r.t, r.alloc.Close())
}

// recovery does what a hive does between the reading of the file and its decisions.
func (r *rig) recovery(ctx context.Context, contested ...uint16) (rec *lease.Recovery) {
	r.t.Helper()
	require.NoError(r.t, r.alloc.Rebuild(r.t.Context()))
	require.NoError(r.t, r.store.View(func(tx *store.Tx) (err error) { rec, err = r.Load(tx); return err }))
	rec.Verify(ctx, contested)
	return rec
}

// recover takes over what the file has, and serves.
func (r *rig) recover(ctx context.Context, contested ...uint16) {
	r.t.Helper()
	rec := r.recovery(ctx, contested...)
	require.NoError(r.t, r.journal.With(func(closure func(*store.Tx) error) error {
		return r.alloc.ReleaseAll(context.Background(), rec.Freed(), closure)
	}, rec.Record))
	rec.Adopt()
	r.run.Serve()
}

// port is the n-th port of the range.
func (r *rig) port(n int) uint16 { return r.ports.First + uint16(n) }

// acquire leases for hive itself, which may do everything.
func (r *rig) acquire(req lease.Request) store.Lease {
	r.t.Helper()
	l, err := r.Acquire(r.t.Context(), access.Hive(), req)
	require.NoError(r.t, err)
	return l
}

func (r *rig) renew(l store.Lease, h lease.Holder) (store.Lease, error) {
	return r.Renew(r.t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: h})
}

// all are the leases in the file.
func (r *rig) all() []store.Lease {
	r.t.Helper()
	list, err := r.List()
	require.NoError(r.t, err)
	return list
}

// state is the state of the lease of a port; empty: there is none.
func (r *rig) state(port uint16) store.LeaseState {
	r.t.Helper()
	for _, l := range r.all() {
		if l.Port == port {
			return l.State
		}
	}
	return ""
}

// events are the messages of all events in the file.
func (r *rig) events() (list []string) {
	r.t.Helper()
	require.NoError(r.t, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 1000)
		for _, ev := range evs {
			require.Equal(r.t, store.EventPort, ev.Type)
			list = append(list, ev.Message)
		}
		return err
	}))
	return list
}

// update changes the file as an earlier hive, or a hand, has left it.
func (r *rig) update(fn func(tx *store.Tx) error) {
	r.t.Helper()
	require.NoError(r.t, r.store.Update(r.t.Context(), fn))
}

// worker records a worker with the lease of the n-th port, as its supervisor does.
func (r *rig) worker(n int, state store.WorkerState) store.Lease {
	r.t.Helper()
	id := "w" + strconv.Itoa(n)
	l := store.Lease{Port: r.port(n), LeaseID: "lease-of-" + id, Kind: store.LeaseWorker, WorkerID: id, State: store.LeaseHeld}
	r.update(func(tx *store.Tx) error {
		if err := tx.PutWorker(store.Worker{WorkerID: id, Port: l.Port, Ports: l.All(), LeaseID: l.LeaseID, State: state}); err != nil {
			return err
		}
		return tx.PutLease(l)
	})
	return l
}

// edit changes the record of a lease under the manager's feet.
func (r *rig) edit(l store.Lease, change func(*store.Lease)) store.Lease {
	r.t.Helper()
	change(&l)
	r.update(func(tx *store.Tx) error { return tx.PutLease(l) })
	return l
}

// reopen is the end of one hive and the start of the next, with what happens in between.
func (r *rig) reopen(between func()) {
	r.t.Helper()
	r.shut()
	between()
	r.open()
	r.recover(r.t.Context())
}

// hold keeps the store's writer busy until release is called.
func (r *rig) hold() (release func()) {
	r.t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.store.Update(context.Background(), func(*store.Tx) error { close(held); <-free; return nil })
	}()
	r.soon(held, "the writer is held")
	return func() { close(free); require.NoError(r.t, <-done) }
}

func (r *rig) soon(ch <-chan struct{}, what string) {
	r.t.Helper()
	select {
	case <-ch:
	case <-time.After(long):
		require.FailNow(r.t, "not in time: "+what)
	}
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	require.Eventually(r.t, ok, long, time.Millisecond, what)
}

// freed waits until a port has no lease, in the file and in the pool.
func (r *rig) freed(port uint16) {
	r.t.Helper()
	r.eventually("the port is free", func() bool { return r.state(port) == "" && !r.alloc.Leased(port) })
}

// program is a process that hive knows nothing of. It is ended with the test.
type program struct {
	t    testing.TB
	PID  int
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t testing.TB, argv ...string) *program {
	t.Helper()
	if len(argv) == 0 {
		argv = []string{"/bin/sleep", "600"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	require.NoError(t, cmd.Start())
	p := &program{t: t, PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() { defer close(p.done); _ = cmd.Wait() }()
	t.Cleanup(p.kill)
	return p
}

// kill ends the program, and returns when it is gone.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	select {
	case <-p.done:
	case <-time.After(long):
		require.FailNow(p.t, "a killed program has not ended")
	}
}

func (p *program) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func byPID(p *program) lease.Request { return lease.Request{Holder: lease.Holder{PID: p.PID}} }

func byTTL(ttl time.Duration) lease.Request {
	return lease.Request{Holder: lease.Holder{TTL: ttl}}
}

// user is a caller who is no admin.
func user(uid uint32) access.Caller {
	return access.Caller{Known: true, UID: uid, Rights: access.Rights{Level: access.Operate}}
}

// token is a caller of whom no user is known.
func token(name string) access.Caller {
	return access.Caller{Token: name, Rights: access.Rights{Level: access.Operate}}
}

// listen listens on a port of loopback until the test ends or it is closed.
func listen(t testing.TB, port uint16) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func last[T any](list []T) T { return list[len(list)-1] }

// portsOf are the ports of leases, in order.
func portsOf(leases []store.Lease) (ports []uint16) {
	for _, l := range leases {
		ports = append(ports, l.Port)
	}
	return slices.Clip(ports)
}
