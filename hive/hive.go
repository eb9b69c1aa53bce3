package hive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/doctor"
	"rbeehive/hive/machine"
	"rbeehive/hive/models"
	"rbeehive/hive/proc"
	"rbeehive/hive/queen"
	"rbeehive/store"
)

// Bounds of what goes on at once. They are about two cores: more at once would
// only make each take longer.
const (
	checksAtOnce = 4
	spawnsAtOnce = 8
	looksAtOnce  = 16
)

// Hive is the daemon: Open, Recover, Run, Close, in this order. Its other
// methods are safe for concurrent use between Open and Close. The program that
// holds it makes a proc.Reaper, which a process has only once.
type Hive struct {
	cfg      Config
	store    *store.Store
	alloc    *alloc.Allocator
	sockets  *sockets.Table
	catalog  atomic.Pointer[catalog.Catalog]
	tuning   atomic.Pointer[Settings]
	reloads  *semaphore.Weighted // one Reload at a time
	renewals *semaphore.Weighted // see restartStale
	cgroups  bool                // each worker gets a cgroup of its own
	started  time.Time
	spawns   *semaphore.Weighted
	looks    *semaphore.Weighted
	checks   *semaphore.Weighted // hive_check jobs under way
	doctors  *semaphore.Weighted // one Doctor at a time
	versions *versions
	sums     sums
	installs sync.Mutex // one installation or removal at a time
	models   *models.Library
	tokens   tokens
	callers  callers
	feed     feed
	lines    lines
	volatile volatile
	logs     *logs
	metrics  *metrics
	devices  *machine.Inventory
	beats    *telemetry
	queens   *queen.Announcer

	serving  atomic.Bool
	draining atomic.Bool   // no new jobs: all workers are being stopped
	broken   chan struct{} // closed when the hive must end
	breaking sync.Once
	fault    error        // why; set before broken is closed
	done     atomic.Int64 // records judged by recovery
	total    atomic.Int64
	recovery atomic.Pointer[Recovery]
	active   atomic.Int64                       // unfinished jobs
	kept     atomic.Int64                       // jobs that have a record
	examined atomic.Pointer[doctor.Examination] // the last full check of the file
	copies   *semaphore.Weighted                // one copy of the file for a caller at a time

	backupFault atomic.Pointer[error] // why the last automatic backup could not be made; nil, or of nil: it could

	ctx   context.Context // ends at Close; supervisors and jobs live in it
	close context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	jobs    map[string]*job
	workers map[string]*worker
	names   map[string]*worker // the live workers that have one
	dead    []store.Worker     // workers that have ended, oldest first
	shares  shares             // how many ports each caller has leased; it has a mutex of its own
	lessees map[string]*lessee // leases that are not workers', by lease id
	claimed map[string]string  // worker names of spawns under way -> job id
	opening map[string]opening // workers between their record and their program, by lease id
	begun   map[string]bool    // types whose autostart is under way
	running bool               // recovery is over and what it left has been begun
	resume  []func()           // what recovery leaves to be begun once the hive serves

	pruning sync.Mutex    // one prune at a time
	prunes  chan struct{} // holds one token when there are too many ended jobs

	auditor auditor
	quiet   map[string]int // reviews in a row in which nobody was found on a quarantined lease; auditor.turn guards it
}

// Open opens the state in cfg.DataDir and migrates it. It does not look at
// processes yet: that is Recover. It blocks for up to 5 s if another process
// has the state file open. Errors: those of store.Open, and of a bad cfg.
func Open(ctx context.Context, cfg Config) (*Hive, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	library, err := models.New(models.Options{
		Dir: cfg.Models.Dir, Endpoint: cfg.Models.Endpoint, Token: cfg.Models.Token, Free: cfg.Models.Free, UserAgent: "hive/" + cmp.Or(cfg.Version, "dev"),
	})
	if err != nil {
		return nil, fmt.Errorf("models.endpoint: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	st, err := store.Open(ctx, store.Options{
		Path: filepath.Join(cfg.DataDir, "hive.db"), MachineID: machineID(), TakeOver: cfg.TakeOver,
		BackupDir: filepath.Join(cfg.DataDir, "backups"),
	})
	if errors.As(err, new(*store.CorruptError)) {
		return nil, fmt.Errorf("%w; `hivectl db check --data-dir %s` says all that is wrong, `hivectl db salvage --data-dir %[2]s` makes the file anew and takes back every living worker", err, cfg.DataDir)
	}
	if err != nil {
		return nil, err
	}
	h := &Hive{
		cfg: cfg, store: st, models: library, sockets: sockets.NewTable(), started: time.Now().UTC(),
		spawns: semaphore.NewWeighted(spawnsAtOnce), looks: semaphore.NewWeighted(looksAtOnce), checks: semaphore.NewWeighted(checksAtOnce), versions: newVersions(),
		doctors: semaphore.NewWeighted(1), copies: semaphore.NewWeighted(1), reloads: semaphore.NewWeighted(1), renewals: semaphore.NewWeighted(renewalsAtOnce),
		jobs: map[string]*job{}, workers: map[string]*worker{}, names: map[string]*worker{}, lessees: map[string]*lessee{}, claimed: map[string]string{}, opening: map[string]opening{}, begun: map[string]bool{},
		feed: feed{topics: map[string]*topic{}}, lines: lines{jobs: map[string][]*job{}}, broken: make(chan struct{}), prunes: make(chan struct{}, 1),
		logs: newLogs(cfg.Logs, filepath.Join(cfg.DataDir, "logs"), cfg.Log), metrics: newMetrics(),
	}
	if err := h.countJobs(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := h.loadTokens(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	h.catalog.Store(cfg.Catalog)
	settings := cfg.settings()
	settings.complete()
	h.tuning.Store(&settings)
	h.ctx, h.close = context.WithCancel(context.Background())
	h.alloc, err = alloc.New(alloc.Options{
		Range: cfg.Ports.Range, Reserved: cfg.Ports.Reserved, Never: cfg.APIPorts, Policy: cfg.Ports.Policy,
		Fixed: cfg.Catalog.FixedPorts(), Quarantine: cfg.Ports.Quarantine, Store: st, Sockets: h.sockets,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port pool: %w", err), h.Close())
	}
	if err := h.findQueens(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.devices, h.beats = h.newInventory(), newTelemetry(h)
	h.findCgroups()
	return h, nil
}

func (h *Hive) findCgroups() {
	root, err := proc.CgroupRoot(h.store.Meta().StateID)
	h.cgroups = err == nil
	if err != nil {
		h.cfg.Log.WithError(err).Info("workers get no cgroup of their own: stopping one that forks is best effort")
		return
	}
	h.cfg.Log.WithField("cgroup", root).Debug("workers get a cgroup of their own")
}

// machineID is empty where the machine has none (a container from scratch).
func machineID() string {
	raw, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(raw) < 32 {
		return ""
	}
	return string(raw[:32])
}

// Run serves until ctx ends or the state file can no longer be trusted: it
// judges again what could not be judged, rotates logs that have become too
// large, backs up the state file, prunes what is old, and tells the queen that the
// hive is there. It returns nil when ctx ended. Workers and jobs
// go on until Close.
func (h *Hive) Run(ctx context.Context) error {
	h.spawnGoroutine(h.audit)
	h.spawnGoroutine(h.keepLogs)
	h.spawnGoroutine(h.pruneOften)
	h.spawnGoroutine(h.backUpOften)
	h.spawnGoroutine(h.tidyModels)
	h.spawnGoroutine(h.announce)
	select {
	case <-ctx.Done():
		return nil
	case <-h.store.Failed():
		return fmt.Errorf("the state file can no longer be trusted, starting again finds out what it holds: %w", h.store.Err())
	case <-h.broken:
		return fmt.Errorf("what has happened cannot be recorded, starting again finds out what is true: %w", h.fault)
	}
}

// begin starts what recovery has left for later. Nobody is served before it: a
// client that waits for a job of the last run must find it under way.
func (h *Hive) begin() {
	h.mu.Lock()
	todo := h.resume
	h.resume, h.running = nil, true
	h.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// StopWorkers refuses new jobs from now on, cancels the spawns under way, stops
// every live worker and waits for them. It blocks for as long as the slowest
// takes, or until ctx ends. The errors of those that could not be stopped are
// joined; workers that cannot be verified are left alone.
func (h *Hive) StopWorkers(ctx context.Context) error {
	h.draining.Store(true)
	if err := h.cancelSpawns(ctx); err != nil {
		return err
	}
	var g errgroup.Group
	var mu sync.Mutex
	var errs []error
	for _, w := range h.stoppable() {
		g.Go(func() error {
			err := w.requestStop(ctx, stopRequest{reason: "hive was asked to stop all workers", all: true})
			if err == nil && w.failure != nil && w.failure.Code == CodeStopIncomplete {
				err = w.failure
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", w.id(), err))
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: all workers are tried
	return errors.Join(errs...)
}

// types is the catalog as it is now. What must not mix two of them asks once.
func (h *Hive) types() *catalog.Catalog { return h.catalog.Load() }

// settings is what can be changed while the hive runs, as it is now.
func (h *Hive) settings() Settings { return *h.tuning.Load() }

// spawnable reports whether workers may be started.
func (h *Hive) spawnable() bool { return h.ctx.Err() == nil && !h.draining.Load() }

// stoppable returns the live workers that can be stopped: those whose process is
// verified, and those that wait for their next start.
func (h *Hive) stoppable() (list []*worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.workers {
		if w.process() != nil || w.record().State == store.WorkerBackoff {
			list = append(list, w)
		}
	}
	return list
}

// signallable returns the live workers whose process is verified.
func (h *Hive) signallable() (list []*worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.workers {
		if w.process() != nil {
			list = append(list, w)
		}
	}
	return list
}

// cancelSpawns cancels the jobs that start workers and waits until they have
// ended what they had begun.
func (h *Hive) cancelSpawns(ctx context.Context) error {
	h.mu.Lock()
	var list []*job
	for _, j := range h.jobs {
		switch j.op.(type) {
		case Spawn, Check, RestartWorker:
			list = append(list, j)
		}
	}
	h.mu.Unlock()
	for _, j := range list {
		j.cancel(errCancelled)
	}
	for _, j := range list {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close lets go of the workers, which keep running, and closes the state file.
// Unfinished jobs are settled by the next recovery.
func (h *Hive) Close() error {
	h.serving.Store(false)
	h.mu.Lock()
	h.close()
	h.mu.Unlock()
	h.wg.Wait()
	h.models.Close()
	h.letGoOfLessees()
	procs := h.signallable()
	for _, w := range procs {
		w.process().Close() // only now: a stop under way needed it
	}
	if len(procs) == 0 {
		_, _ = proc.PruneCgroups(h.store.Meta().StateID) // tidiness: the next recovery manages with what is left
	}
	var errs []error
	if h.alloc != nil {
		errs = append(errs, h.alloc.Close())
	}
	return errors.Join(append(errs, h.store.Close())...)
}

// spawnGoroutine runs f in a goroutine that Close waits for; it does nothing
// and returns false once the hive closes. Lock order: worker.mu and lessee.mu
// before Hive.mu.
func (h *Hive) spawnGoroutine(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return false
	}
	h.wg.Go(f)
	return true
}

// Status tells how far the daemon is. It does not block.
func (h *Hive) Status() Status {
	return Status{Serving: h.serving.Load(), Done: int(h.done.Load()), Total: int(h.total.Load())}
}

// Info describes the hive. It does not block.
func (h *Hive) Info() Info {
	i := Info{HiveID: h.cfg.HiveID, Version: h.cfg.Version, StateID: h.store.Meta().StateID, StartedAt: h.started}
	if len(h.cfg.APIPorts) > 0 {
		i.APIPort = h.cfg.APIPorts[0]
	}
	if r := h.recovery.Load(); r != nil {
		i.Recovery = *r
	}
	return i
}

// Leases returns all leases by port.
func (h *Hive) Leases() (leases []store.Lease, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// Lease returns the lease of a port, or ErrNotFound.
func (h *Hive) Lease(port uint16) (l store.Lease, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		l, err = tx.Lease(port)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return l, fmt.Errorf("lease of port %d: %w", port, ErrNotFound)
	}
	return l, err
}

// Ports looks at the whole port range. It blocks for the read of the socket table.
func (h *Hive) Ports(ctx context.Context) (PortsView, error) { return h.alloc.Survey(ctx) }

// logUnlessClosing reports an error of the state file, except those that only
// say that the hive is closing or has failed already.
func (h *Hive) logUnlessClosing(err error, doing, id string) {
	if h.ctx.Err() != nil || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		return
	}
	h.cfg.Log.WithError(err).WithField("id", id).Error("could not " + doing)
}
