package hive

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// Bounds of recovery.
const (
	recoveryTimeout = 15 * time.Second // for verifying all records and ending ended workers' trees
	claimTimeout    = time.Second      // for a claim that a killed hive's child still holds
)

// progress tells how far the daemon is.
type progress struct {
	started  time.Time
	done     atomic.Int64 // records that recovery has verified
	total    atomic.Int64
	recovery atomic.Pointer[Recovery]
}

// recovery is one recovery: what each owner of records has found out about its own. A
// decision is taken only when all of them have looked, and all of it is recorded in one
// transaction.
type recovery struct {
	*Hive
	workers *supervisor.Recovery
	leases  *lease.Recovery
	pending *jobs.Recovery
	last    lastRun
}

// Recover compares the state file with the processes: it adopts the living,
// ends what the dead left behind and frees their ports, keeps what it cannot
// verify, and decides about the jobs that ran. Nothing is freed because time ran out.
// It blocks for 15 s at most, besides the reads of the file and of the socket
// table; the hive serves when it returns nil.
func (h *Hive) Recover(ctx context.Context) (err error) {
	// Records that the opening has not looked at are read here.
	defer func() { err = withRemedy(err, h.cfg.DataDir) }()
	begun := time.Now()
	if err := h.endCommands(ctx); err != nil {
		return err
	}
	r := &recovery{Hive: h}
	var g errgroup.Group
	g.Go(func() error { return h.store.View(r.load) })
	g.Go(func() error { return h.alloc.Rebuild(ctx) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if err := r.decide(ctx); err != nil {
		r.workers.Abort()
		r.leases.Abort()
		return err
	}
	// From here on everything is in the file: a hive that is killed now finds the same.
	if said := r.last.message(); said != "" {
		h.cfg.Log.Warn(said)
	}
	r.workers.Adopt()
	r.leases.Adopt()
	c := r.workers.Counts()
	result := Recovery{Took: time.Since(begun), Adopted: c.Adopted, Freed: c.Freed, Restarted: c.Restarted, Unverified: c.Unverified}
	h.metrics.recovery.Observe(result.Took.Seconds())
	h.progress.recovery.Store(&result)
	r.pending.Resume()
	h.run.WhenServing(func() { h.run.Go(h.postStartChecks) })
	h.run.WhenServing(func() { h.upkeep.services.Begin(); h.run.Go(h.upkeep.services.Run) })
	h.run.Serve()
	return nil
}

func (r *recovery) load(tx *store.Tx) (err error) {
	if r.workers, err = r.supervisor.Load(tx); err != nil {
		return err
	}
	r.progress.total.Store(int64(r.workers.Len()))
	if r.pending, err = r.jobs.Load(tx, r.store.Meta().Relocated); err != nil {
		return err
	}
	if r.leases, err = r.Hive.leases.Load(tx); err != nil {
		return err
	}
	r.last, err = loadLastRun(tx, r.store.Meta().Relocated)
	return err
}

// decide finds out what is true, and records it.
func (r *recovery) decide(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	contested := contested(limited, r.alloc)
	r.workers.Verify(limited, contested, func() { r.progress.done.Add(1) })
	r.leases.Verify(limited, contested)
	if err := r.store.View(r.workers.FindLeases); err != nil {
		return fmt.Errorf("read the leases: %w", err)
	}
	r.workers.EndTrees(limited)
	for job, worker := range r.pending.Restarts() {
		r.workers.FinishRestart(worker, job)
	}
	r.workers.DecideRestarts()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, id := range r.pending.Abandoned() {
		r.workers.StopWorker(id, "the hive_check that started it was interrupted")
	}
	if err := r.record(); err != nil {
		return fmt.Errorf("record the recovery: %w", err)
	}
	return nil
}

// record writes everything that recovery decided in one transaction.
func (r *recovery) record() error {
	free := slices.Concat(r.workers.Freed(), r.leases.Freed())
	return r.journal.With(func(closure func(*store.Tx) error) error {
		return r.alloc.ReleaseAll(context.Background(), free, closure)
	}, func(b *journal.Batch) error {
		if err := r.leases.Record(b); err != nil {
			return err
		}
		if err := r.workers.Record(b); err != nil {
			return err
		}
		// Behind the workers: how a job has ended depends on what became of its worker.
		if err := r.pending.Record(b, r.workers); err != nil {
			return err
		}
		if err := r.last.record(b, r.cfg.Version); err != nil {
			return err
		}
		return startEvent(b, r.cfg.Version, r.workers.Counts())
	})
}

// startEvent tells that the hive was started, behind all that recovery has found:
// who follows everything knows then that what was before is accounted for.
func startEvent(b *journal.Batch, version string, c supervisor.Counts) error {
	message := fmt.Sprintf("hive started: %d adopted, %d freed", c.Adopted, c.Freed)
	if c.Restarted > 0 {
		message += fmt.Sprintf(", %d started again", c.Restarted)
	}
	if c.Unverified > 0 {
		message += fmt.Sprintf(", %d unverified", c.Unverified)
	}
	return b.Event(store.EventState, "", "", message, map[string]any{
		"hive": "started", "version": version,
		"adopted": c.Adopted, "freed": c.Freed, "restarted": c.Restarted, "unverified": c.Unverified,
	})
}

// contested returns the leased ports that another hive claims. A claim can be
// held for a moment by a child of a killed hive that has not become the gate
// yet, so they are asked for again for a while.
func contested(ctx context.Context, a *alloc.Allocator) []uint16 {
	for deadline := time.Now().Add(claimTimeout); ; {
		ports := a.Contested()
		if len(ports) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return ports
		}
		time.Sleep(time.Millisecond)
	}
}

// endCommands ends what a killed hive's commands have left behind, before any of
// ours run.
func (h *Hive) endCommands(ctx context.Context) error {
	// A program that was asked for its version, which any can have been, has a cgroup if
	// any has; for what has none all of /proc is read.
	marks := !h.launcher.Cgroups || slices.ContainsFunc(h.current.types().Types(), (*catalog.Type).HasCommands)
	ended, err := proc.EndCommands(ctx, h.launcher.StateID, h.launcher.Secret, marks)
	for _, m := range ended {
		h.cfg.Log.WithField("pid", m.PID).WithField("program", m.Program).Warn("ended a command of a worker type that a killed hive had left behind")
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		h.cfg.Log.WithError(err).Warn("what a killed hive's commands have left behind could not be ended wholly")
	}
	return nil
}

// postStartChecks does what need not be done before serving: the sweep, the full
// check of the file, and giving back the memory that all this took.
func (h *Hive) postStartChecks() {
	ctx := h.run.Context()
	if n, ok := h.auditor.Sweep(ctx); ok {
		r := *h.progress.recovery.Load()
		r.Orphans = &n
		h.progress.recovery.Store(&r)
	}
	h.upkeep.examine()
	limited, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	h.supervisor.AwaitFirstProbes(limited)
	debug.FreeOSMemory() // a start needs several times the memory of the time after it
}
