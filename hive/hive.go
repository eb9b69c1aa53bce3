package hive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/audit"
	"rbeehive/hive/catalog"
	"rbeehive/hive/hardware"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lease"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/proc"
	"rbeehive/hive/routes"
	"rbeehive/hive/run"
	"rbeehive/hive/services"
	"rbeehive/hive/supervisor"
	"rbeehive/hive/telemetry"
	"rbeehive/hive/tokens"
	"rbeehive/hive/workertype"
	"rbeehive/store"
)

// Hive is the daemon: Open, Recover, Run, Close, in this order. Its other
// methods are safe for concurrent use between Open and Close. The program that
// holds it makes a proc.Reaper, which a process has only once.
type Hive struct {
	cfg     Config
	store   *store.Store
	run     *run.State
	journal *journal.Journal
	alloc   *alloc.Allocator
	current *current

	launcher   *launch.Launcher
	supervisor *supervisor.Supervisor
	executor   *executor
	jobs       *jobs.Queue
	leases     *lease.Manager
	auditor    *audit.Auditor
	types      *workertype.Types
	tokens     *tokens.Set
	telemetry  *telemetry.Telemetry
	queens     *queens
	metrics    *metrics
	upkeep     *upkeep
	routes     *routes.Table
	progress   progress
}

// current is what a reload can change, as it is now.
type current struct {
	catalog  atomic.Pointer[catalog.Catalog]
	settings atomic.Pointer[Settings]
}

// types is the catalog as it is now. What must not mix two of them asks once.
func (c *current) types() *catalog.Catalog { return c.catalog.Load() }

// Open opens the state in cfg.DataDir and migrates it. It does not look at
// processes yet: that is Recover. It blocks for up to 5 s if another process
// has the state file open. Errors: those of store.Open, and of a bad cfg.
func Open(ctx context.Context, cfg Config) (*Hive, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	// Before the file is opened: a mistake in the configuration must not come after a migration.
	library, err := models.New(models.Options{
		Dir: cfg.Models.Dir, Endpoint: cfg.Models.Endpoint, Token: cfg.Models.Token, Free: cfg.Models.Free, UserAgent: "hive/" + cmp.Or(cfg.Version, "dev"),
	})
	if err != nil {
		return nil, fmt.Errorf("models.endpoint: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	if err := checkLost(ctx, cfg.DataDir); err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Options{
		Path: filepath.Join(cfg.DataDir, "hive.db"), MachineID: machineID(), TakeOver: cfg.TakeOver,
		BackupDir: filepath.Join(cfg.DataDir, "backups"),
	})
	if err != nil {
		return nil, withRemedy(err, cfg.DataDir)
	}
	if st.Meta().MetaPageLost {
		cfg.Log.WithField("file", filepath.Join(cfg.DataDir, "hive.db")).Warn("one of the two meta pages of the state file is lost: what hive recorded last before this start may be missing, unless the power failed in that moment; hive goes on with the transaction before, and compares it with the processes")
	}
	h := &Hive{cfg: cfg, store: st, run: run.New(), current: &current{}, metrics: newMetrics()}
	// Tells workers of an earlier run from those of this one (logSources).
	h.progress.started = time.Now().UTC()
	h.current.catalog.Store(cfg.Catalog)
	settings := cfg.Settings
	h.current.settings.Store(&settings)
	// Close copes with a hive that is only half made.
	if err := h.assemble(library); err != nil {
		return nil, errors.Join(withRemedy(err, cfg.DataDir), h.Close())
	}
	return h, nil
}

// assemble makes the parts of a hive from its configuration and its state file. Each
// part is given what it needs of the ones before it, and none knows Hive.
func (h *Hive) assemble(library *models.Library) (err error) {
	meta, log := h.store.Meta(), h.cfg.Log
	h.journal = journal.New(h.run.Context(), h.store, h.cfg.DataDir, log)
	logDir := logs.New(h.cfg.Logs, filepath.Join(h.cfg.DataDir, "logs"), log)
	h.launcher = &launch.Launcher{
		StateID: meta.StateID, Secret: h.store.Secret(), HiveURL: h.cfg.URL, QueenURL: func() string { return h.settings().QueenURL },
		Cgroups: findCgroups(meta.StateID, log), Models: library, Logs: logDir, Closing: h.run.Closing, Log: log,
	}
	table := sockets.NewTable()
	h.alloc, err = alloc.New(alloc.Options{
		Range: h.cfg.Ports.Range, Reserved: h.cfg.Ports.Reserved, Never: h.cfg.APIPorts, Policy: h.cfg.Ports.Policy,
		Fixed: h.cfg.Catalog.FixedPorts(), Quarantine: h.cfg.Ports.Quarantine, Store: h.store, Sockets: table,
	})
	if err != nil {
		return fmt.Errorf("port pool: %w", err)
	}
	h.supervisor = supervisor.New(supervisor.Options{
		Run: h.run, Journal: h.journal, Alloc: h.alloc, Sockets: table, Range: h.cfg.Ports.Range, Logs: logDir, Launcher: h.launcher,
		Catalog: h.current.types, Relocated: meta.Relocated, Metrics: h.metrics, Log: log, RestartStale: func(ctx context.Context, workerID string) { restartStale(ctx, h.run, h.jobs, log, workerID) },
	})
	h.types = workertype.New(workertype.Options{
		Run: h.run, Journal: h.journal, Launcher: h.launcher, Catalog: h.current.types, Live: h.supervisor.Live,
		DataDir: h.cfg.DataDir, Version: h.cfg.Version, FirstPort: h.cfg.Ports.Range.First, Reload: h.cfg.ReloadTypes,
	})
	h.executor = newExecutor(h) // it needs the parts that were made above
	h.jobs, err = jobs.New(jobs.Options{
		Run: h.run, Journal: h.journal, Workers: h.supervisor, Metrics: h.metrics, DataDir: h.cfg.DataDir, Log: log,
		Config: func() jobs.Config { return h.settings().Jobs }, Executor: h.executor,
	})
	if err != nil {
		return err
	}
	h.leases = lease.New(lease.Options{
		Run: h.run, Journal: h.journal, Alloc: h.alloc, Sockets: table, Workers: h.supervisor,
		PerUser: h.cfg.Ports.PerUser, Tree: h.supervisor.TreeOfLease,
	})
	h.auditor = audit.New(audit.Options{
		Journal: h.journal, Alloc: h.alloc, Sockets: table, Range: h.cfg.Ports.Range, Workers: h.supervisor,
		StateID: meta.StateID, Secret: h.store.Secret(), Relocated: meta.Relocated, Log: log,
		Review:      func(ctx context.Context) { h.supervisor.Review(ctx); h.leases.Review(ctx) },
		KillOrphans: func() bool { return h.settings().Orphans == OrphansKill },
	})
	// Not in Recover: who calls is asked even while the answer is "recovering".
	if h.tokens, err = tokens.Load(h.run, h.journal, h.current.types, log); err != nil {
		return err
	}
	if h.queens, err = findQueens(h.cfg, h.run, h.journal); err != nil {
		return err
	}
	h.telemetry = telemetry.New(telemetry.Options{
		Run: h.run, Every: h.cfg.HeartbeatEvery, Processes: h.supervisor.Processes, Devices: newInventory(h.run, log), Listeners: h.queens.SetListeners, Log: log,
	})
	h.routes = routes.New(h.supervisor, h.current.types)
	h.upkeep = newUpkeep(h)
	h.upkeep.services = services.New(services.Options{
		Run: h.run, Types: h.current.types, Parallel: func() int { return h.settings().StartParallel },
		Check: h.types.CheckSpawn, Workers: h.supervisor, Jobs: h.jobs, Log: log,
	})
	return nil
}

// newInventory is what the machine has to run models on, which its own programs are asked
// for.
func newInventory(r *run.State, log *logrus.Logger) *hardware.Inventory {
	return hardware.New(hardware.Options{
		Run: func(ctx context.Context, argv []string) ([]byte, error) {
			return proc.Ask(ctx, argv, proc.Environ(os.Environ(), []string{"LC_ALL=C"}))
		},
		LookPath: func(name string) (string, error) { return proc.FindProgram(r.Context(), name, "") },
		Go:       r.Go, Log: log,
	})
}

// findCgroups reports whether each worker gets a cgroup of its own.
func findCgroups(stateID string, log *logrus.Logger) bool {
	root, err := proc.CgroupRoot(stateID)
	if err != nil {
		log.WithError(err).Info("workers get no cgroup of their own: stopping one that forks is best effort")
		return false
	}
	log.WithField("cgroup", root).Debug("workers get a cgroup of their own")
	return true
}

// machineID is empty where the machine has none (a container from scratch).
func machineID() string {
	raw, err := os.ReadFile("/etc/machine-id")
	// Container images often have an empty one, which tells no machines apart.
	if err != nil || len(raw) < 32 {
		return ""
	}
	return string(raw[:32])
}

// Run serves until ctx ends or the state file can no longer be trusted: it
// verifies again what could not be verified, rotates logs that have become too
// large, backs up the state file, prunes what is old, and tells the queen that the
// hive is there. It returns nil when ctx ended. Workers and jobs
// go on until Close.
func (h *Hive) Run(ctx context.Context) error {
	h.upkeep.start()
	h.run.Go(h.queens.announce)
	select {
	case <-ctx.Done():
		return nil
	case <-h.store.Failed():
		return fmt.Errorf("the state file can no longer be trusted, starting again finds out what it holds: %w", h.store.Err())
	case <-h.journal.Broken():
		return fmt.Errorf("what has happened cannot be recorded, starting again finds out what is true: %w", h.journal.Err())
	}
}

// StopWorkers refuses new jobs from now on, cancels the spawns under way, stops
// every live worker and waits for them. It blocks for as long as the slowest
// takes, or until ctx ends. The errors of those that could not be stopped are
// joined; workers that cannot be verified are left alone.
func (h *Hive) StopWorkers(ctx context.Context) error {
	// Else a job that begins now could start a worker that StopAll does not see.
	h.run.Drain()
	// A cancelled spawn undoes what it has begun, and until then StopAll may not see its worker.
	if err := h.jobs.CancelStarts(ctx); err != nil {
		return err
	}
	return h.supervisor.StopAll(ctx)
}

// settings is what can be changed while the hive runs, as it is now.
func (h *Hive) settings() Settings { return *h.current.settings.Load() }

// Close lets go of the workers, which keep running, and closes the state file.
// What becomes of unfinished jobs is decided by the next recovery.
func (h *Hive) Close() error {
	// First all goroutines end: a stop under way still uses what is closed below.
	h.run.Close()
	h.run.Wait()
	// The parts are nil if Open failed half-way.
	if h.launcher != nil {
		h.launcher.Models.Close()
	}
	if h.leases != nil {
		h.leases.Close()
	}
	if h.supervisor != nil && !h.supervisor.Close() {
		_, _ = proc.PruneCgroups(h.store.Meta().StateID) // tidiness: the next recovery manages with what is left
	}
	var errs []error
	if h.alloc != nil {
		// The claims before the file: who opens that next must not find the ports claimed.
		errs = append(errs, h.alloc.Close())
	}
	if h.progress.recovery.Load() != nil {
		endRun(h.store)
	}
	return errors.Join(append(errs, h.store.Close())...)
}
