package supervisor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/reference"
	"rbeehive/hive/run"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// TestMain is the reference worker, or one that can be made ill, when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(reference.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "sickly" {
		os.Exit(sicklyMain(os.Args[2], os.Args[3], len(os.Args) > 4))
	}
	reaper, err := proc.NewReaper(func(int) {})
	if err != nil {
		panic(err)
	}
	defer reaper.Close()
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

const testTimeout = 20 * time.Second

// rig is a state file and the supervisor that works on it, with a real port pool and real
// processes. What a hive would do besides is left out: there are no jobs but those that a
// test makes, and nothing happens by itself that the supervisor does not do.
type rig struct {
	*testing.T
	s     *supervisor.Supervisor
	store *store.Store
	alloc *alloc.Allocator
	run   *run.State

	ports    alloc.Range
	types    atomic.Pointer[catalog.Catalog]
	metrics  *metrics
	recovery supervisor.Counts // of the last start
	stale    chan string       // workers that are to be restarted because they are stale
	ended    int               // records made by endedWorkers

	dir       string
	cgroups   bool
	relocated bool
	restarts  map[string]string // jobs that had begun to restart a worker -> its id
	journal   *journal.Journal
}

// newRig opens a supervisor with a range of n ports. What is left at the end of the test
// is stopped, and the state file is checked.
func newRig(t *testing.T, n int, entries ...catalog.Entry) *rig {
	t.Helper()
	first, err := freeport.Range(n)
	require.NoError(t, err)
	r := &rig{
		T: t, dir: t.TempDir(), metrics: &metrics{},
		ports: alloc.Range{First: uint16(first), Last: uint16(first + n - 1)}, stale: make(chan string, 16),
	}
	r.setTypes(entries...)
	t.Cleanup(func() {
		if r.s == nil {
			r.open()
		}
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		require.NoError(t, r.s.StopAll(ctx))
		r.close()
		storetest.Check(t, r.path())
	})
	r.open()
	return r
}

func (r *rig) path() string { return filepath.Join(r.dir, "hive.db") }

// port is the n-th port of the range.
func (r *rig) port(n int) uint16 { return r.ports.First + uint16(n) }

// setTypes makes these the worker types, as a reload does.
func (r *rig) setTypes(entries ...catalog.Entry) {
	r.Helper()
	self, err := os.Executable()
	require.NoError(r, err)
	types, err := catalog.New(entries, self)
	require.NoError(r, err)
	r.types.Store(types)
}

// open makes the supervisor of the state file, and takes over what is recorded in it, in
// the order in which a hive does.
func (r *rig) open() {
	r.Helper()
	r.assemble()
	var recovery *supervisor.Recovery
	require.NoError(r, r.store.View(func(tx *store.Tx) (err error) { recovery, err = r.s.Load(tx); return err }))
	ctx := context.Background()
	require.NoError(r, r.alloc.Rebuild(ctx))
	verified := 0
	var mu sync.Mutex
	recovery.Verify(ctx, r.alloc.Contested(), func() { mu.Lock(); defer mu.Unlock(); verified++ })
	require.Equal(r, recovery.Len(), verified)
	require.NoError(r, r.store.View(recovery.FindLeases))
	recovery.EndTrees(ctx)
	for job, worker := range r.restarts {
		recovery.FinishRestart(worker, job)
	}
	recovery.DecideRestarts()
	require.NoError(r, r.journal.With(func(closure func(*store.Tx) error) error {
		return r.alloc.ReleaseAll(ctx, recovery.Freed(), closure)
	}, recovery.Record))
	recovery.Adopt()
	r.recovery = recovery.Counts()
	r.run.Serve()
}

func (r *rig) assemble() {
	r.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(r.Output())
		log.SetLevel(logrus.DebugLevel)
	}
	logDir := filepath.Join(r.dir, "logs")
	require.NoError(r, os.MkdirAll(logDir, 0o700))
	var err error
	r.store, err = store.Open(context.Background(), store.Options{Path: r.path()})
	require.NoError(r, err)
	library, err := models.New(models.Options{Dir: filepath.Join(r.dir, "models"), Endpoint: "http://127.0.0.1:1"})
	require.NoError(r, err)
	r.run = run.New()
	r.journal = journal.New(r.run.Context(), r.store, r.dir, log)
	table, files := sockets.NewTable(), logs.New(logs.Config{MaxSize: logs.MinSize}, logDir, log)
	r.alloc, err = alloc.New(alloc.Options{Range: r.ports, Fixed: r.types.Load().FixedPorts(), Store: r.store, Sockets: table})
	require.NoError(r, err)
	r.s = supervisor.New(supervisor.Options{
		Run: r.run, Journal: r.journal, Alloc: r.alloc, Sockets: table, Range: r.ports, Logs: files,
		Launcher: &launch.Launcher{
			StateID: r.store.Meta().StateID, Secret: r.store.Secret(), HiveURL: "http://127.0.0.1:1", QueenURL: func() string { return "" },
			Cgroups: r.cgroups, Models: library, Logs: files, Closing: r.run.Closing, Log: log,
		},
		Catalog: r.types.Load, Relocated: r.relocated, Metrics: r.metrics, Log: log,
		RestartStale: func(_ context.Context, workerID string) { r.stale <- workerID },
	})
}

// close lets go of the workers, as SIGTERM does.
func (r *rig) close() (left bool) {
	r.Helper()
	r.run.Close()
	r.run.Wait()
	left = r.s.Close()
	if !left {
		_, _ = proc.PruneCgroups(r.store.Meta().StateID) // there may be none
	}
	require.NoError(r, r.alloc.Close())
	require.NoError(r, r.store.Close())
	r.s = nil
	return left
}

// job is a job as the supervisor sees one.
type job struct {
	id        string
	mu        sync.Mutex
	worker    string
	effective int
	begin     func(workerID string) // called while its commit is under way
	refused   error                 // what Finalize returns
	result    any                   // that its end was recorded with
	with      store.WorkerState     // its worker's, as the transaction of its end had it
	forgotten []string
}

func newJob() *job { return &job{id: "job-" + uuid.Must(uuid.NewV7()).String()} }

func (j *job) ID() string { return j.id }

func (j *job) Record() store.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now().UTC()
	return store.Job{JobID: j.id, Operation: "test", Request: json.RawMessage("{}"), State: store.JobRunning, WorkerID: j.worker, CreatedAt: now, StartedAt: &now}
}

func (j *job) Begin(workerID string, _ time.Time) {
	if j.begin != nil {
		j.begin(workerID)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.worker = workerID
}

func (j *job) Accept() error { return nil }

func (j *job) RecordRunning(b *journal.Batch) error { return b.PutJob(j.Record()) }
func (j *job) Finalize(context.Context) error       { return j.refused }

func (j *job) RecordEnd(b *journal.Batch, result any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	id := j.worker
	if s, ok := result.(operation.Spawned); ok {
		id = s.WorkerID // a job of the last hive has not begun again
	}
	rec, err := b.Worker(id)
	j.result, j.with = result, rec.State
	return err
}

func (j *job) Forget(workerID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgotten = append(j.forgotten, workerID)
}

func (j *job) MarkEffective() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.effective++
}

func (j *job) AwaitTarget(_ context.Context, found func() bool) error { found(); return nil }

// metrics counts what it is told.
type metrics struct {
	mu       sync.Mutex
	started  int
	ready    int
	restarts []supervisor.Reason
}

func (m *metrics) Spawned(until operation.WaitFor, _ time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if until == operation.WaitReady {
		m.ready++
		return
	}
	m.started++
}

func (m *metrics) Restarted(_ string, reason supervisor.Reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restarts = append(m.restarts, reason)
}

// reasons are why workers were started again so far.
func (m *metrics) reasons() []supervisor.Reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]supervisor.Reason{}, m.restarts...)
}

// serving is a type whose workers are the reference worker with these flags.
func serving(name string, flags ...string) catalog.Entry {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return catalog.Entry{
		Name: name, Command: append([]string{self, "worker", "--port", "{{.Port}}"}, flags...),
		Env:   []string{"GORACE=atexit_sleep_ms=0"}, // else the race detector makes it take a second to exit
		Ready: catalog.ReadyEntry{Path: ref("/health"), Timeout: ref(testTimeout)},
		Stop:  catalog.StopEntry{Grace: ref(testTimeout)},
	}
}

// script is a type whose workers run a shell script. $0 is this test binary and $1 the port.
func script(name, text string) catalog.Entry {
	e := serving(name)
	e.Command = []string{"sh", "-c", text, e.Command[0], "{{.Port}}"}
	return e
}

// restarting makes an entry's workers be started again, after short waits.
func restarting(e catalog.Entry, policy string, most int) catalog.Entry {
	e.Restart = catalog.RestartEntry{
		Policy: policy, Max: ref(most), Window: ref(time.Minute), Backoff: ref(20 * time.Millisecond), MaxBackoff: ref(80 * time.Millisecond),
	}
	return e
}

func ref[T any](v T) *T { return &v }

// bounded is a context for what should not take long.
func (r *rig) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*testTimeout)
	r.Cleanup(cancel)
	return ctx
}

// spawnBy carries out a spawn by a job.
func (r *rig) spawnBy(j *job, op operation.Spawn) (operation.Spawned, error) {
	r.Helper()
	if op.Wait == "" {
		op.Wait = operation.WaitReady
	}
	result, err := r.s.Spawn(r.bounded(), j, op)
	if err != nil {
		return operation.Spawned{}, err
	}
	return result.(operation.Spawned), nil
}

// spawn starts a worker and waits until it is ready.
func (r *rig) spawn(workerType string) store.Worker {
	r.Helper()
	res, err := r.spawnBy(newJob(), operation.Spawn{Worker: workerType})
	require.NoError(r, err)
	return r.worker(res.WorkerID)
}

// begin starts a worker and waits until its program runs.
func (r *rig) begin(workerType string) store.Worker {
	r.Helper()
	res, err := r.spawnBy(newJob(), operation.Spawn{Worker: workerType, Wait: operation.WaitStarted})
	require.NoError(r, err)
	return r.worker(res.WorkerID)
}

func (r *rig) worker(ref string) store.Worker {
	r.Helper()
	w, err := r.s.Worker(ref)
	require.NoError(r, err)
	return w
}

// stop stops a worker, which then must have ended.
func (r *rig) stop(ref string) store.Worker {
	r.Helper()
	_, err := r.s.StopWorker(r.bounded(), newJob(), operation.StopWorker{WorkerID: ref})
	require.NoError(r, err)
	return r.worker(ref)
}

func (r *rig) restart(ref string) error {
	r.Helper()
	_, err := r.s.RestartWorker(r.bounded(), newJob(), operation.RestartWorker{WorkerID: ref})
	return err
}

// failure is the failure that an error must be.
func (r *rig) failure(err error) *errdefs.Failure {
	r.Helper()
	var f *errdefs.Failure
	require.ErrorAs(r, err, &f)
	return f
}

func (r *rig) leases() (leases []store.Lease) {
	r.Helper()
	require.NoError(r, r.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			leases = append(leases, l)
		}
		return nil
	}))
	return leases
}

// stored is what the file says of a worker.
func (r *rig) stored(workerID string) (w store.Worker, err error) {
	r.Helper()
	err = r.store.View(func(tx *store.Tx) (err error) { w, err = tx.Worker(workerID); return err })
	return w, err
}

// messages are the events of a worker, in order.
func (r *rig) messages(workerID string) (list []string) {
	r.Helper()
	require.NoError(r, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10000)
		for _, ev := range evs {
			if ev.WorkerID == workerID {
				list = append(list, ev.Message)
			}
		}
		return err
	}))
	return list
}

func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	require.Eventually(r, ok, testTimeout, 2*time.Millisecond, what)
}

// becomes waits for the state of a worker.
func (r *rig) becomes(ref string, state store.WorkerState) store.Worker {
	r.Helper()
	r.eventually(ref+" becomes "+string(state), func() bool { return r.worker(ref).State == state })
	return r.worker(ref)
}

// alive reports whether a process exists and is not over: a leader that is a zombie while
// its threads are still ending is alive.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from field 3 of proc_pid_stat(5)
	return f[0] != "X" && (f[0] != "Z" || f[17] != "1")
}
