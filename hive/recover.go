package hive

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

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
	workers *supervisor.Recovery
	leases  *lease.Recovery
	jobs    *jobs.Recovery
}

// Recover compares the state file with the processes: it adopts the living,
// ends what the dead left behind and frees their ports, keeps what it cannot
// verify, and decides about the jobs that ran. Nothing is freed because time ran out.
// It blocks for 15 s at most, besides the reads of the file and of the socket
// table; the hive serves when it returns nil.
func (h *Hive) Recover(ctx context.Context) error {
	begun := time.Now()
	// First, since commands of this run would be ended, too.
	if err := h.endCommands(ctx); err != nil {
		return err
	}
	r := &recovery{}
	var g errgroup.Group
	g.Go(func() error { return h.store.View(func(tx *store.Tx) error { return h.load(tx, r) }) })
	g.Go(func() error { return h.alloc.Rebuild(ctx) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if err := h.decide(ctx, r); err != nil {
		// The processes go on; only their pidfds are given back.
		r.workers.Abort()
		r.leases.Abort()
		return err
	}
	// From here on everything is in the file: a hive that is killed now finds the same.
	r.workers.Adopt()
	r.leases.Adopt()
	c := r.workers.Counts()
	result := Recovery{Took: time.Since(begun), Adopted: c.Adopted, Freed: c.Freed, Restarted: c.Restarted, Unverified: c.Unverified}
	h.metrics.recovery.Observe(result.Took.Seconds())
	h.progress.recovery.Store(&result)
	// Put aside until Serve: jobs need all workers in the tables.
	r.jobs.Resume()
	h.run.WhenServing(func() { h.run.Go(h.postStartChecks) })
	h.run.WhenServing(func() { h.run.Go(h.autostart.start) })
	// Begins what was put aside, then lets callers in.
	h.run.Serve()
	return nil
}

func (h *Hive) load(tx *store.Tx, r *recovery) (err error) {
	if r.workers, err = h.supervisor.Load(tx); err != nil {
		return err
	}
	h.progress.total.Store(int64(r.workers.Len()))
	if r.jobs, err = h.jobs.Load(tx, h.store.Meta().Relocated); err != nil {
		return err
	}
	r.leases, err = h.leases.Load(tx)
	return err
}

// decide finds out what is true, and records it.
func (h *Hive) decide(ctx context.Context, r *recovery) error {
	limited, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	// While another hive claims its port, whose worker it is cannot be told.
	contested := h.contested(limited)
	r.workers.Verify(limited, contested, func() { h.progress.done.Add(1) })
	r.leases.Verify(limited, contested)
	if err := h.store.View(r.workers.FindLeases); err != nil {
		return fmt.Errorf("read the leases: %w", err)
	}
	r.workers.EndTrees(limited)
	r.workers.DecideRestarts()
	// Only ctx: when limited is over, workers are unverified; when the caller gives up, nothing is recorded.
	if err := ctx.Err(); err != nil {
		return err
	}
	// Before the transaction, which is to hold both the end of the job and the stop of its worker.
	for _, id := range r.jobs.Abandoned() {
		r.workers.StopWorker(id, "the hive_check that started it was interrupted")
	}
	if err := h.recordRecovery(r); err != nil {
		return fmt.Errorf("record the recovery: %w", err)
	}
	return nil
}

// recordRecovery writes everything that recovery decided in one transaction.
func (h *Hive) recordRecovery(r *recovery) error {
	// By the allocator: the ports become free with this commit.
	free := slices.Concat(r.workers.Freed(), r.leases.Freed())
	return h.journal.With(func(closure func(*store.Tx) error) error {
		return h.alloc.ReleaseAll(context.Background(), free, closure)
	}, func(b *journal.Batch) error {
		if err := r.leases.Record(b); err != nil {
			return err
		}
		if err := r.workers.Record(b); err != nil {
			return err
		}
		// Behind the workers: how a job has ended depends on what became of its worker.
		if err := r.jobs.Record(b, r.workers); err != nil {
			return err
		}
		return startEvent(b, h.cfg.Version, r.workers.Counts())
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
func (h *Hive) contested(ctx context.Context) []uint16 {
	for deadline := time.Now().Add(claimTimeout); ; {
		ports := h.alloc.Contested()
		if len(ports) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return ports
		}
		// There is nothing to wait on: the kernel does not tell when a socket goes.
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
	// No reason to refuse the start: commands have no lease.
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
