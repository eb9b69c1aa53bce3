package audit_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/audit"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// stranger listens in this process, which is no worker.
func stranger(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := reusing().Listen(context.Background(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// me is how messages name this process.
var me = fmt.Sprintf(`\S+ \(pid %d, user \S+\)`, os.Getpid())

func TestAWorkerThatDoesNotListen(t *testing.T) {
	r := newRig(t, 1)
	rec := r.record("w", store.WorkerReady, r.port(0))
	r.worker(rec)
	f := r.one()
	require.Equal(t, audit.Finding{
		Code: audit.FindingNotListening, Port: r.port(0), WorkerID: "w", LeaseID: rec.LeaseID, Since: f.Since, Sightings: 1,
		Message: fmt.Sprintf("nothing listens on port %d of worker w", r.port(0)),
	}, f)
}

// It listens, where nobody who was told its address looks for it.
func TestAWorkerThatListensOnAnotherAddress(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)), r.at("127.0.0.2", 0))
	f := r.one()
	require.Equal(t, audit.FindingNotListening, f.Code)
	require.Equal(t, fmt.Sprintf("worker w: it listens on %s, not on %s", r.at("127.0.0.2", 0), r.at("127.0.0.1", 0)), f.Message)
}

func TestAStrangerOnAWorkersPort(t *testing.T) {
	r := newRig(t, 2)
	rec := r.record("w", store.WorkerUnhealthy, r.port(0), r.port(1))
	r.worker(rec, r.at("127.0.0.1", 0))
	other := stranger(t, r.at("127.0.0.1", 1))
	f := r.one()
	require.Equal(t, []any{audit.FindingForeign, r.port(1), "w", rec.LeaseID, os.Getpid()}, []any{f.Code, f.Port, f.WorkerID, f.LeaseID, f.PID})
	require.NotEmpty(t, f.Program)
	require.Regexp(t, fmt.Sprintf(`^%s listens on port %d of worker w$`, me, r.port(1)), f.Message)
	require.Equal(t, 2, r.one().Sightings)
	require.Equal(t, []string{"w"}, r.workers.rechecked)
	require.NoError(t, other.Close())
	require.Empty(t, r.audit(), "only the first of its ports a worker must listen on")
}

// SO_REUSEPORT lets a stranger in beside the worker, and the kernel deals connections out at
// random.
func TestAStrangerSharesAWorkersPort(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)), r.at("127.0.0.1", 0))
	stranger(t, r.at("127.0.0.1", 0))
	f := r.one()
	require.Equal(t, []any{audit.FindingShared, os.Getpid()}, []any{f.Code, f.PID})
	require.Regexp(t, fmt.Sprintf(`^%s listens on port %d beside worker w: each connection reaches one of the two at random$`, me, r.port(0)), f.Message)
	r.audit()
	require.Equal(t, []string{"w"}, r.workers.rechecked)
}

// Who listens on another address gets none of the worker's connections.
func TestAStrangerBesideAWorker(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)), r.at("127.0.0.1", 0))
	stranger(t, r.at("127.0.0.2", 0))
	f := r.one()
	require.Equal(t, []any{audit.FindingBeside, os.Getpid()}, []any{f.Code, f.PID})
	require.Regexp(t, fmt.Sprintf(`^%s listens on %s, beside worker w on %s$`, me, r.at("127.0.0.2", 0), r.at("127.0.0.1", 0)), f.Message)
	r.audit()
	require.Empty(t, r.workers.rechecked, "the worker is none the worse for it")
}

// A stranger in the place of the worker, and another beside: each is told.
func TestStrangersInBothPlaces(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)))
	stranger(t, r.at("127.0.0.1", 0))
	stranger(t, r.at("127.0.0.2", 0))
	require.Equal(t, []string{audit.FindingForeign, audit.FindingBeside}, codes(r.audit()))
}

// A socket that is only bound gets no connections: nothing is shared with it.
func TestASocketThatIsOnlyBound(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)), r.at("127.0.0.1", 0))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(r.port(0))}))
	require.Empty(t, r.audit())
}

// One that loads or stops may listen or not, and of a container any process may.
func TestWorkersWhoseListenersSayNothing(t *testing.T) {
	for name, change := range map[string]func(*store.Worker){
		"loading":      func(w *store.Worker) { w.State = store.WorkerLoading },
		"stopping":     func(w *store.Worker) { w.State = store.WorkerStopping },
		"any listener": func(w *store.Worker) { w.Spec.Ready.AnyListener = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			rec := r.record("w", store.WorkerReady, r.port(0))
			change(&rec)
			r.worker(rec)
			require.Empty(t, r.audit())
			stranger(t, r.at("127.0.0.1", 0))
			require.Empty(t, r.audit())
		})
	}
}

func TestAWorkerOnAPortThatItHasNoLeaseFor(t *testing.T) {
	r := newRig(t, 5)
	outside := stranger(t, "127.0.0.1:0") // a port that is free and not of the range
	addr := outside.Addr().String()
	require.NoError(t, outside.Close())
	rec := r.record("w", store.WorkerReady, r.port(0))
	w := r.worker(rec, r.at("127.0.0.1", 0), r.at("127.0.0.1", 1), r.at("127.0.0.1", 2), addr)
	r.record("other", store.WorkerSpawning, r.port(2))
	stranger(t, r.at("127.0.0.1", 3)) // nobody's business
	f := r.one()
	require.Equal(t, audit.Finding{
		Code: audit.FindingUnleased, Port: r.port(1), WorkerID: "w", LeaseID: rec.LeaseID, PID: w.Tree.Main.PID(), Program: f.Program, Since: f.Since, Sightings: 1,
		Message: fmt.Sprintf("worker w listens on port %d, which it has no lease for", r.port(1)),
	}, f)
	require.NotEmpty(t, f.Program)
	r.audit()
	require.Empty(t, r.workers.rechecked)
}

// So is one of its children, by whatever proof that is known.
func TestAChildOnAPortWithoutALease(t *testing.T) {
	r := newRig(t, 2)
	rec := r.record("w", store.WorkerReady, r.port(0))
	r.worker(rec, r.at("127.0.0.1", 0))
	child := r.program(r.stamps("w", rec.LeaseID), r.at("127.0.0.1", 1))
	f := r.one()
	require.Equal(t, []any{audit.FindingUnleased, r.port(1), "w", child.PID}, []any{f.Code, f.Port, f.WorkerID, f.PID})
}

func TestWhatLeasesSayOfThemselves(t *testing.T) {
	r := newRig(t, 8)
	r.record("ready", store.WorkerReady, r.port(0))
	r.record("ended", store.WorkerStopped, r.port(1))
	lost := r.record("lost", store.WorkerStopped, r.port(2))
	id := &store.Identity{PID: 4711, BootID: "boot"}
	r.update(func(tx *store.Tx) error {
		for _, l := range []store.Lease{
			{Port: r.port(3), LeaseID: "q", Kind: store.LeaseTTL, State: store.LeaseQuarantined, Reason: "nginx still has it"},
			{Port: r.port(4), Ports: []uint16{r.port(4), r.port(5)}, LeaseID: "q2", Kind: store.LeaseTTL, State: store.LeaseQuarantined, Reason: "nginx still has it"},
			{Port: r.port(6), LeaseID: "u", Kind: store.LeaseProcess, State: store.LeaseUnverified, Reason: "no rights", Identity: id},
			{Port: r.port(7), LeaseID: "h", Kind: store.LeaseProcess, State: store.LeaseHeld, Identity: id},
		} {
			if err := tx.PutLease(l); err != nil {
				return err
			}
		}
		return tx.DeleteWorker("lost")
	})
	want := map[string]string{
		fmt.Sprint(audit.FindingNoHolder, r.port(1)):    fmt.Sprintf("port %d is leased to worker ended, which has ended", r.port(1)),
		fmt.Sprint(audit.FindingNoHolder, r.port(2)):    fmt.Sprintf("port %d is leased to worker lost, which has no record", r.port(2)),
		fmt.Sprint(audit.FindingQuarantined, r.port(3)): fmt.Sprintf("port %d is quarantined: nginx still has it", r.port(3)),
		fmt.Sprint(audit.FindingQuarantined, r.port(4)): fmt.Sprintf("ports %d-%d are quarantined: nginx still has it", r.port(4), r.port(5)),
		fmt.Sprint(audit.FindingUnverified, r.port(6)):  fmt.Sprintf("whether pid 4711 is still the holder of port %d cannot be told: no rights", r.port(6)),
	}
	got := map[string]string{}
	for _, f := range r.audit() {
		got[fmt.Sprint(f.Code, f.Port)] = f.Message
		require.Equal(t, f.Code == audit.FindingUnverified, f.PID == 4711)
		require.NotEmpty(t, f.LeaseID)
	}
	require.Equal(t, want, got)
	r.update(func(tx *store.Tx) error { _, err := tx.EndLease(r.port(2), lost.LeaseID); return err }) // else the file is not whole
	r.update(func(tx *store.Tx) error { _, err := tx.EndLease(r.port(1), "lease-of-ended"); return err })
}

// Its supervisor may be handling the exit: then the next audit does not see it.
func TestALeaseWhoseProcessHasEnded(t *testing.T) {
	r := newRig(t, 1)
	w := r.worker(r.record("w", store.WorkerRunning, r.port(0)), r.at("127.0.0.1", 0))
	require.Empty(t, r.audit())
	require.NoError(t, w.Tree.Main.Signal(syscall.SIGKILL))
	<-w.Tree.Main.Done()
	f := r.one()
	require.Equal(t, audit.FindingNoHolder, f.Code)
	require.Equal(t, fmt.Sprintf("port %d is leased to worker w, whose process has ended", r.port(0)), f.Message)
}

func TestAPortThatAnotherHiveClaims(t *testing.T) {
	r := newRig(t, 1)
	port := r.port(0)
	claim, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(claim, &unix.SockaddrUnix{Name: "@hive-port/" + strconv.Itoa(int(port))}))
	r.update(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: port, LeaseID: "ttl", Kind: store.LeaseTTL, State: store.LeaseHeld, TTL: time.Hour})
	})
	f := r.one()
	require.Equal(t, []any{audit.FindingContested, port}, []any{f.Code, f.Port})
	require.Equal(t, fmt.Sprintf("another hive on this machine claims port %d, which is leased here", port), f.Message)
	require.NoError(t, unix.Close(claim))
	require.Empty(t, r.audit(), "the claim is taken when it can be")
}

// What belongs to nobody who lives: reported, whoever started it.
func TestAMemberWithoutARecord(t *testing.T) {
	r := newRig(t, 2)
	live := r.record("live", store.WorkerReady, r.port(0))
	r.worker(live, r.at("127.0.0.1", 0))
	ended := r.record("ended", store.WorkerReady, r.port(1))
	p := r.program(r.stamps("ended", ended.LeaseID))
	unknown := r.program(r.stamps("cpu-1-x", "unknown"))
	r.program(r.stamps("live", live.LeaseID))                                                    // a living record's
	r.program(r.stamps("ended", ended.LeaseID)[:3])                                              // ids that anybody can read
	r.program(append(r.stamps("ended", "other")[:3], proc.StampProof+"="+r.proof("ended", "x"))) // nor another's proof
	r.update(func(tx *store.Tx) error {
		ended.State = store.WorkerStopped
		if _, err := tx.EndLease(r.port(1), ended.LeaseID); err != nil {
			return err
		}
		return tx.PutWorker(ended)
	})
	found := map[int]audit.Finding{}
	for _, f := range r.audit() {
		require.Equal(t, audit.FindingNoRecord, f.Code)
		found[f.PID] = f
	}
	require.Len(t, found, 2)
	require.Equal(t, []string{"ended", ended.LeaseID}, []string{found[p.PID].WorkerID, found[p.PID].LeaseID})
	require.Equal(t, []string{"cpu-1-x", "unknown"}, []string{found[unknown.PID].WorkerID, found[unknown.PID].LeaseID})
	require.Equal(t, fmt.Sprintf("%s (pid %d) carries the mark of worker ended, of which no living record knows", found[p.PID].Program, p.PID), found[p.PID].Message)
}
