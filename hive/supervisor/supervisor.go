package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/operation"
	"rbeehive/hive/ports"
	"rbeehive/hive/probe"
	"rbeehive/hive/proc"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// Bounds of what goes on at once. They are about two cores: more at once would
// only make each take longer.
const (
	maxChecks = 4 // self-tests
	maxStarts = 8
	maxProbes = 16
	maxStale  = 2 // restarts of stale workers: the others serve meanwhile
)

// Metrics is told what is counted.
type Metrics interface {
	// Spawned: a start of a worker, begun then, got so far.
	Spawned(until operation.WaitFor, begun time.Time)
	// Restarted: a program of a worker was started again.
	Restarted(workerType string, reason Reason)
}

// Options are what a Supervisor is made from. All are needed.
type Options struct {
	Run       *run.State
	Journal   *journal.Journal
	Alloc     *alloc.Allocator
	Sockets   *sockets.Table
	Range     alloc.Range // the ports that are leased
	Logs      *logs.Dir
	Launcher  *launch.Launcher
	Catalog   func() *catalog.Catalog // the worker types as they are now
	Relocated bool                    // the first start with a state file that was copied or restored
	Metrics   Metrics
	Log       *logrus.Logger
	// RestartStale restarts a stale worker by a job that anybody can see, and waits for
	// it. It logs what goes wrong.
	RestartStale func(ctx context.Context, workerID string)
}

// Supervisor is all workers of a hive. Its methods are safe for concurrent use between
// recovery and the end of Options.Run.
type Supervisor struct {
	run       *run.State
	journal   *journal.Journal
	alloc     *alloc.Allocator
	sockets   *sockets.Table
	ports     *ports.Ports
	anyPort   uint16 // a command is rendered with it before it has a port
	logs      *logs.Dir
	launcher  *launch.Launcher
	prober    *probe.Prober
	catalog   func() *catalog.Catalog
	relocated bool
	metrics   Metrics
	log       *logrus.Logger
	registry  *registry
	limits    limits
	cgroups   *proc.WorkersCgroups

	restartStaleJob func(ctx context.Context, workerID string)
}

// limits bound what goes on at once.
type limits struct {
	starts, probes, checks, stale *semaphore.Weighted

	startsMoved atomic.Pointer[time.Time] // when a slot for a start was last taken or given back
}

// longestStart is longer than a start has its slot: before_start may take five minutes.
const longestStart = 10 * time.Minute

// New returns a supervisor without workers.
func New(o Options) *Supervisor {
	s := &Supervisor{
		run: o.Run, journal: o.Journal, alloc: o.Alloc, sockets: o.Sockets, ports: &ports.Ports{Alloc: o.Alloc, Sockets: o.Sockets}, anyPort: o.Range.First, logs: o.Logs, launcher: o.Launcher,
		prober:  &probe.Prober{Sockets: o.Sockets, Range: o.Range, Log: o.Log},
		catalog: o.Catalog, relocated: o.Relocated, metrics: o.Metrics, log: o.Log, registry: newRegistry(),
		limits: limits{
			starts: semaphore.NewWeighted(maxStarts), probes: semaphore.NewWeighted(maxProbes),
			checks: semaphore.NewWeighted(maxChecks), stale: semaphore.NewWeighted(maxStale),
		},
		restartStaleJob: o.RestartStale,
	}
	s.cgroups = proc.NewWorkersCgroups(o.Launcher.StateID, s.Live)
	return s
}

// IsWorkersCgroup reports whether a cgroup, by its id, is one of a worker. See proc.WorkersCgroups.Has.
func (s *Supervisor) IsWorkersCgroup(id uint64) bool { return s.cgroups.Has(id) }

// StopAll stops every live worker and waits for them. It blocks for as long as the
// slowest takes, or until ctx ends. The errors of those that could not be stopped are
// joined; workers that cannot be verified are left alone.
func (s *Supervisor) StopAll(ctx context.Context) error {
	var g errgroup.Group
	var mu sync.Mutex
	var errs []error
	for _, w := range s.registry.stoppable() {
		g.Go(func() error {
			// all: nobody wants this one to stay stopped, so autostart starts it again with hive.
			err := w.requestStop(ctx, stopRequest{reason: "hive was asked to stop all workers", all: true})
			// w.failure may be read: requestStop has seen that ended is closed.
			if err == nil && w.failure != nil && w.failure.Code == errdefs.CodeStopIncomplete {
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

// Close lets go of the workers, which keep running. It is called when nothing of
// Options.Run runs any more, because a stop under way needs what it closes. It reports
// whether any worker is left.
func (s *Supervisor) Close() (left bool) {
	procs := s.registry.withProcess()
	for _, w := range procs {
		w.process().Close()
	}
	return len(procs) > 0
}

// Live returns the records of all live workers, by port.
func (s *Supervisor) Live() []store.Worker { return s.registry.live() }

// Workers returns all live workers and the ended ones that are still kept, by port, then by
// start, then by id. Nobody may change the list: it is the same one for all callers until a
// worker changes, and another one then.
func (s *Supervisor) Workers() []store.Worker { return s.registry.all() }

// Worker returns a worker by id or name: the live one of that name, else the last that
// had it. The error is errdefs.ErrNotFound if there is none.
func (s *Supervisor) Worker(ref string) (store.Worker, error) { return s.registry.worker(ref) }

// LiveByPID returns the live worker whose main process has a PID.
func (s *Supervisor) LiveByPID(pid int) (store.Worker, bool) {
	if w := s.registry.byPID(pid); w != nil {
		return w.record(), true
	}
	return store.Worker{}, false
}

// Alive returns nil when the tables of workers can be locked, and a start has a slot, or some
// start has got one lately.
func (s *Supervisor) Alive() error {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if s.limits.starts.TryAcquire(1) {
		s.limits.starts.Release(1)
		return nil
	}
	moved := s.limits.startsMoved.Load() // nil: the first are being taken just now
	if moved == nil || time.Since(*moved) < longestStart {
		return nil
	}
	still := time.Since(*moved)
	return fmt.Errorf("all %d places for starts are taken, and none has moved for %s", maxStarts, still.Round(time.Second))
}
