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

	"rbeehive/hive/doctor"
	"rbeehive/hive/lease"
	"rbeehive/hive/logs"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// upkeep is what a hive does for itself while it runs: it audits and prunes, rotates
// logs, backs up and checks the state file, and clears up after downloads.
type upkeep struct {
	store    *store.Store
	run      *run.State
	settings func() Settings
	dataDir  string
	log      *logrus.Logger

	rounds      []func()                           // each goes on until the hive closes
	reloads     *semaphore.Weighted                // one Reload at a time
	copies      *semaphore.Weighted                // one copy of the file for a caller at a time
	doctors     *semaphore.Weighted                // one Doctor at a time
	examined    atomic.Pointer[doctor.Examination] // the last full check of the file
	backupFault atomic.Pointer[error]              // why the last automatic backup could not be made; nil, or of nil: it could
}

func newUpkeep(h *Hive) *upkeep {
	u := &upkeep{
		store: h.store, run: h.run, settings: h.settings, dataDir: h.cfg.DataDir, log: h.cfg.Log,
		reloads: semaphore.NewWeighted(1), copies: semaphore.NewWeighted(1), doctors: semaphore.NewWeighted(1),
	}
	library := h.launcher.Models
	u.rounds = []func(){
		func() { u.every(h.cfg.AuditInterval, func(ctx context.Context) { h.auditAndPrune(ctx) }) },
		func() { h.logs.Run(h.run.Context(), h.logSources) },
		h.jobs.PruneSurplus,
		u.backUpOften,
		func() {
			// Not in Open: the directory may be large, and its disk slow.
			tidy := func(ctx context.Context) {
				if err := library.Tidy(ctx); err != nil && ctx.Err() == nil {
					u.log.WithError(err).Warn("leftovers of downloads could not be removed")
				}
			}
			tidy(h.run.Context()) // what a killed hive has left
			u.every(24*time.Hour, tidy)
		},
	}
	return u
}

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

// auditAndPrune is one round of the audit, and of the removal of what is old.
func (h *Hive) auditAndPrune(ctx context.Context) {
	if _, err := h.auditor.Audit(ctx); err != nil {
		h.journal.LogUnlessClosing(err, "audit", "")
	}
	h.prune(ctx)
	h.pruneLogs(ctx)
}

func (h *Hive) prune(ctx context.Context) {
	// Workers first: of events those are pruned whose job and worker are gone.
	if h.supervisor.Prune(ctx, h.settings().WorkersKeep) {
		h.jobs.Prune(ctx)
	}
}

// pruneLogs removes logs without a record, and of those of ended workers what is too
// much. The logs of quarantined ports stay: by them what is left of a worker is known.
func (h *Hive) pruneLogs(ctx context.Context) {
	// Asked once: a reload in between must not mix old and new.
	settings := h.settings()
	err := h.logs.Prune(ctx, h.logSources, logs.Retention{
		MaxTotal: settings.LogsMaxTotal, OrphanAge: settings.WorkersKeep,
		KeepOrphans: h.store.Meta().Relocated, // an older file that was restored does not know all workers
		Evidence:    func() (map[string]bool, error) { return logsOfEvidence(h.leases) },
	})
	h.journal.LogUnlessClosing(err, "remove old logs", "")
}

func (h *Hive) logSources() []logs.Source { return h.supervisor.LogSources(h.progress.started) }

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
