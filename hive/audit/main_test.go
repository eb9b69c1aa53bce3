package audit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/audit"
	"rbeehive/hive/journal"
	"rbeehive/hive/proc"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/run"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// long bounds what must happen: a test that reaches it has failed.
const long = 20 * time.Second

// listenVar makes the test binary a program that listens on these addresses, with
// SO_REUSEPORT, until it is ended. It writes the file readyVar when it does.
const (
	listenVar = "AUDITTEST_LISTEN"
	readyVar  = "AUDITTEST_READY"
)

func TestMain(m *testing.M) {
	if ready := os.Getenv(readyVar); ready != "" {
		os.Exit(listenMain(strings.Fields(os.Getenv(listenVar)), ready))
	}
	goleak.VerifyTestMain(m)
}

func listenMain(addrs []string, ready string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	for _, addr := range addrs {
		l, err := reusing().Listen(context.Background(), "tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer l.Close()
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		return 1
	}
	<-c
	return 0
}

// reusing lets several programs listen at one address, which all of them must want.
func reusing() *net.ListenConfig {
	return &net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
}

// rig is an auditor over a real state file, real sockets and real processes.
type rig struct {
	*audit.Auditor
	t         *testing.T
	store     *store.Store
	run       *run.State
	alloc     *alloc.Allocator
	ports     alloc.Range
	logs      *test.Hook
	workers   *workers
	reviewed  int
	review    func()
	kill      bool
	relocated bool
}

// workers implements audit.Workers.
type workers struct {
	r         *rig
	processes []supervisor.Process
	rechecked []string
}

func (w *workers) Processes() []supervisor.Process { return w.processes }

func (w *workers) Recheck(workerID string) { w.rechecked = append(w.rechecked, workerID) }

func (w *workers) TreeOfLease(l store.Lease) *proc.Tree {
	tree := w.r.tree(l.WorkerID, l.LeaseID)
	tree.StampProof = w.r.proof(l.WorkerID, l.LeaseID)
	return tree
}

// newRig returns an auditor of a hive with n ports.
func newRig(t *testing.T, n int) *rig {
	t.Helper()
	first, err := freeport.Range(n)
	require.NoError(t, err)
	r := &rig{t: t, store: storetest.Open(t), run: run.New(), ports: alloc.Range{First: uint16(first), Last: uint16(first + n - 1)}}
	r.workers = &workers{r: r}
	t.Cleanup(r.run.Close)
	r.open()
	return r
}

// open makes an auditor that has not seen anything yet.
func (r *rig) open() {
	r.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.logs = test.NewLocal(log)
	table := sockets.NewTable()
	var err error
	r.alloc, err = alloc.New(alloc.Options{Range: r.ports, Store: r.store, Sockets: table})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, r.alloc.Close()) })
	require.NoError(r.t, r.alloc.Rebuild(r.t.Context()))
	r.Auditor = audit.New(audit.Options{
		Journal: journal.New(r.run.Context(), r.store, "/data", log), Alloc: r.alloc, Sockets: table, Range: r.ports, Workers: r.workers,
		StateID: r.store.Meta().StateID, Secret: r.store.Secret(), Relocated: r.relocated, KillOrphans: func() bool { return r.kill }, Log: log,
		Review: func(context.Context) {
			r.reviewed++
			if r.review != nil {
				r.review()
			}
		},
	})
}

// port is the n-th port of the range.
func (r *rig) port(n int) uint16 { return r.ports.First + uint16(n) }

// at is an address with the n-th port.
func (r *rig) at(host string, n int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), r.port(n)).String()
}

func (r *rig) proof(workerID, leaseID string) string {
	return proc.Prove(r.store.Secret(), r.store.Meta().StateID, leaseID, workerID, uint32(os.Geteuid()))
}

func (r *rig) tree(workerID, leaseID string) *proc.Tree {
	return &proc.Tree{StateID: r.store.Meta().StateID, WorkerID: workerID, LeaseID: leaseID, UID: uint32(os.Geteuid())}
}

// stamps are the variables of a worker.
func (r *rig) stamps(workerID, leaseID string) []string {
	return []string{
		proc.StampState + "=" + r.store.Meta().StateID, proc.StampLease + "=" + leaseID, proc.StampWorker + "=" + workerID,
		proc.StampProof + "=" + r.proof(workerID, leaseID),
	}
}

func (r *rig) update(fn func(tx *store.Tx) error) {
	r.t.Helper()
	require.NoError(r.t, r.store.Update(r.t.Context(), fn))
	require.NoError(r.t, r.alloc.Rebuild(r.t.Context()))
}

// record writes a worker with the lease of its ports.
func (r *rig) record(id string, state store.WorkerState, ports ...uint16) store.Worker {
	r.t.Helper()
	uid := uint32(os.Geteuid())
	rec := store.Worker{
		WorkerID: id, Port: ports[0], Ports: ports, LeaseID: "lease-of-" + id, State: state, StampUID: &uid,
		Log: filepath.Join(r.t.TempDir(), "log"), Spec: store.Spec{Host: "127.0.0.1"},
	}
	l := store.Lease{Port: ports[0], LeaseID: rec.LeaseID, Kind: store.LeaseWorker, WorkerID: id, State: store.LeaseHeld}
	if len(ports) > 1 {
		l.Ports = ports
	}
	r.update(func(tx *store.Tx) error {
		if err := tx.PutWorker(rec); err != nil {
			return err
		}
		return tx.PutLease(l)
	})
	return rec
}

// worker starts a worker of a record that listens on these addresses; it is ended with the
// test.
func (r *rig) worker(rec store.Worker, listens ...string) supervisor.Process {
	r.t.Helper()
	self, err := os.Executable()
	require.NoError(r.t, err)
	ready := filepath.Join(r.t.TempDir(), "ready")
	g, err := proc.Start(proc.Spec{
		Argv: []string{self}, Env: append(os.Environ(), listenVar+"="+strings.Join(listens, " "), readyVar+"="+ready), Log: rec.Log,
		StateID: r.store.Meta().StateID, Secret: r.store.Secret(), LeaseID: rec.LeaseID, WorkerID: rec.WorkerID,
	})
	require.NoError(r.t, err)
	p, err := g.Open(r.t.Context())
	require.NoError(r.t, err)
	tree := r.tree(rec.WorkerID, rec.LeaseID)
	tree.Main, tree.Identity, tree.Log, tree.StampProof = p, p.Identity(), rec.Log, r.proof(rec.WorkerID, rec.LeaseID)
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		left, err := tree.Stop(ctx, store.Stop{})
		require.NoError(r.t, err)
		require.Empty(r.t, left)
		p.Close()
	})
	r.eventually("the worker listens", func() bool { _, err := os.Stat(ready); return err == nil })
	w := supervisor.Process{Worker: rec, Tree: tree}
	r.workers.processes = append(r.workers.processes, w)
	return w
}

// program is a process that hive has not started.
type program struct {
	PID  int
	cmd  *exec.Cmd
	done chan struct{}
}

// program starts a program that listens on these addresses, with more in its environment.
func (r *rig) program(env []string, listens ...string) *program {
	r.t.Helper()
	self, err := os.Executable()
	require.NoError(r.t, err)
	ready := filepath.Join(r.t.TempDir(), "ready")
	cmd := exec.Command(self)
	cmd.Env = slices.Concat(os.Environ(), env, []string{listenVar + "=" + strings.Join(listens, " "), readyVar + "=" + ready})
	require.NoError(r.t, cmd.Start())
	p := &program{PID: cmd.Process.Pid, cmd: cmd, done: make(chan struct{})}
	go func() { defer close(p.done); _ = cmd.Wait() }()
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); <-p.done })
	r.eventually("the program listens", func() bool { _, err := os.Stat(ready); return err == nil })
	return p
}

func (p *program) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	require.Eventually(r.t, ok, long, time.Millisecond, what)
}

// audit audits once.
func (r *rig) audit() []audit.Finding {
	r.t.Helper()
	report, err := r.Audit(r.t.Context())
	require.NoError(r.t, err)
	return report.Findings
}

// one audits once and requires that there is one finding.
func (r *rig) one() audit.Finding {
	r.t.Helper()
	found := r.audit()
	require.Len(r.t, found, 1, "%+v", found)
	return found[0]
}

func codes(found []audit.Finding) (list []string) {
	for _, f := range found {
		list = append(list, f.Code)
	}
	return list
}

// events are the messages of all events in the file.
func (r *rig) events() (list []string) {
	r.t.Helper()
	require.NoError(r.t, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 1000)
		for _, ev := range evs {
			require.Equal(r.t, store.EventAudit, ev.Type)
			list = append(list, ev.Message)
		}
		return err
	}))
	return list
}
