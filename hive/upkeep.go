package hive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"rbeehive/hive/audit"
	"rbeehive/hive/doctor"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lease"
	"rbeehive/hive/lock"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/run"
	"rbeehive/hive/services"
	"rbeehive/hive/supervisor"
	"rbeehive/hive/workertype"
	"rbeehive/store"
)

// upkeep is what a hive does for itself while it runs: it audits and prunes, rotates
// logs, backs up and checks the state file, clears up after downloads, and starts what
// should run.
type upkeep struct {
	store    *store.Store
	run      *run.State
	journal  *journal.Journal
	settings func() Settings
	dataDir  string
	started  time.Time

	supervisor *supervisor.Supervisor
	jobs       *jobs.Queue
	leases     *lease.Manager
	auditor    *audit.Auditor
	logs       *logs.Dir
	library    *models.Library
	services   *services.Services
	types      *workertype.Types

	log *logrus.Logger

	pruning     lock.Ranked[lock.Prune]
	rounds      []func()                           // each goes on until the hive closes
	reloads     *semaphore.Weighted                // one Reload at a time
	copies      *semaphore.Weighted                // one copy of the file for a caller at a time
	doctors     *semaphore.Weighted                // one Doctor at a time
	examined    atomic.Pointer[doctor.Examination] // the last full check of the file
	reloadFault atomic.Pointer[string]             // why the last reload failed; nil: it did not
	health      health
	backupFault atomic.Pointer[error] // why the last automatic backup could not be made; nil, or of nil: it could
}

func newUpkeep(h *Hive) *upkeep {
	u := &upkeep{
		store: h.store, run: h.run, journal: h.journal, settings: h.settings, dataDir: h.cfg.DataDir, started: h.progress.started, log: h.cfg.Log,
		supervisor: h.supervisor, jobs: h.jobs, leases: h.leases, auditor: h.auditor, logs: h.launcher.Logs, library: h.launcher.Models, types: h.types,
		reloads: semaphore.NewWeighted(1), copies: semaphore.NewWeighted(1), doctors: semaphore.NewWeighted(1),
	}
	interval := h.cfg.AuditInterval
	u.rounds = []func(){
		func() { u.every(interval, u.auditAndPrune) },
		func() { u.every(healthInterval, u.check) },
		func() { u.logs.Run(u.run.Context(), u.logSources) },
		func() { u.jobs.PruneSurplus(u.prune) },
		u.backUpOften,
		func() {
			u.tidyModels(u.run.Context()) // what a killed hive has left
			u.every(24*time.Hour, u.tidyModels)
		},
		func() {
			u.types.LearnPackages(u.run.Context())
			u.every(learnInterval, u.types.LearnPackages)
		},
	}
	return u
}

// learnInterval is how often interpreters are asked for packages that may have been installed
// or removed.
const learnInterval = 10 * time.Minute

func (u *upkeep) start() {
	for _, round := range u.rounds {
		u.run.Go(round)
	}
}

// every calls do again and again until the hive closes.
func (u *upkeep) every(interval time.Duration, do func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-u.run.Context().Done():
			return
		case <-ticker.C:
			do(u.run.Context())
		}
	}
}

// tidyModels removes what downloads and deletions have left behind.
func (u *upkeep) tidyModels(ctx context.Context) {
	if err := u.library.Cleanup(ctx); err != nil && ctx.Err() == nil {
		u.log.WithError(err).Warn("leftovers of downloads could not be removed")
	}
}

// auditAndPrune is one round of the audit, and of the removal of what is old.
func (u *upkeep) auditAndPrune(ctx context.Context) {
	// Nothing is written, but the store finds out whether its file is still there: else an idle
	// hive would learn of that by the first request.
	_ = u.store.Update(ctx, func(*store.Tx) error { return nil })
	if u.store.Err() != nil {
		return // Run ends the hive
	}
	begun := time.Now()
	u.health.auditBegun.Store(&begun)
	if _, err := u.auditor.Audit(ctx); err != nil {
		u.journal.LogUnlessClosing(err, "audit", "")
	}
	u.health.auditBegun.Store(nil)
	u.prune(ctx)
	u.pruneLogs(ctx)
}

// prune removes the records of ended workers and jobs that need not be kept. One runs at
// a time: a round's, or that of many jobs.
func (u *upkeep) prune(ctx context.Context) {
	u.pruning.Lock()
	defer u.pruning.Unlock()
	if u.supervisor.Prune(ctx, u.settings().WorkersKeep) {
		u.jobs.Prune(ctx)
	}
}

// pruneLogs removes logs without a record, and of those of ended workers what is too
// much. The logs of quarantined ports stay: by them what is left of a worker is known.
func (u *upkeep) pruneLogs(ctx context.Context) {
	settings := u.settings()
	err := u.logs.Prune(ctx, u.logSources, logs.Retention{
		MaxTotal: settings.LogsMaxTotal, OrphanAge: settings.WorkersKeep,
		KeepOrphans: u.store.Meta().Relocated, // an older file that was restored does not know all workers
		Evidence:    func() (map[string]bool, error) { return logsOfEvidence(u.leases) },
	})
	u.journal.LogUnlessClosing(err, "remove old logs", "")
}

func (u *upkeep) logSources() []logs.Source { return u.supervisor.LogSources(u.started) }

// logsOfEvidence returns the ids of the workers that may have left something behind.
func logsOfEvidence(leases *lease.Manager) (map[string]bool, error) {
	held, err := leases.Unheld()
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	ids := map[string]bool{}
	for _, l := range held {
		ids[l.WorkerID] = true
	}
	return ids, nil
}

// Backup writes a consistent copy of the state file to w, and returns its length.
// One at a time is made; others wait. It needs the file's length of space on the
// disk for as long as it takes. Errors: store.ErrDiskFull, ctx's, w's, and those of
// store.Backup.
func (h *Hive) Backup(ctx context.Context, w io.Writer) (int64, error) {
	if err := h.upkeep.copies.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer h.upkeep.copies.Release(1)
	if err := h.upkeep.roomForCopy(); err != nil {
		return 0, err
	}
	return h.store.Backup(w)
}

// examine makes the full check of the file, and keeps what it found for Doctor.
// It blocks for as long as the file is large, and writers wait for part of it.
func (u *upkeep) examine() {
	begun := time.Now()
	err := u.store.Check(u.run.Context())
	if u.run.Closing() || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		return // it was not finished
	}
	u.examined.Store(&doctor.Examination{At: begun, Err: err})
	if err != nil {
		u.log.WithError(err).Error("the state file is damaged: stop hive and look at it before it is relied on")
	}
}
