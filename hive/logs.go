package hive

import (
	"context"
	"errors"
	"fmt"

	"rbeehive/hive/logs"
	"rbeehive/store"
)

// OpenLog opens the log of a worker, given by id or name, where its last lines
// begin; with lines below 0 at the beginning of all that is kept (logs.Dir.Open).
// Errors: ErrNotFound if there is no such worker, or its log has been removed; ctx's.
// The caller closes it. Safe for concurrent use.
func (h *Hive) OpenLog(ctx context.Context, ref string, lines int) (*logs.Reader, error) {
	rec, err := h.Worker(ref)
	if err != nil {
		return nil, err
	}
	r, err := h.logs.Open(ctx, rec.WorkerID, rec.Log, lines)
	if errors.Is(err, logs.ErrGone) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", rec.WorkerID, err)
	}
	return r, nil
}

// rotateLogs rotates the logs of live workers until the hive closes.
func (h *Hive) rotateLogs() { h.logs.Run(h.ctx, h.logSources) }

// logSources returns the workers that have a log; the dead ones oldest first. In the
// first start with a copied or restored file those that were taken back may be
// somebody else's.
func (h *Hive) logSources() []logs.Source {
	relocated := h.store.Meta().Relocated
	source := func(rec *store.Worker, ended bool) logs.Source {
		return logs.Source{ID: rec.WorkerID, Path: rec.Log, Ended: ended, Foreign: relocated && rec.StartedAt.Before(h.started)}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]logs.Source, 0, len(h.workers)+len(h.dead))
	for _, w := range h.workers {
		list = append(list, source(w.snap.Load(), false))
	}
	for i := range h.dead {
		list = append(list, source(&h.dead[i], true))
	}
	return list
}

// pruneLogs removes logs without a record, and of those of dead workers what is too
// much. The logs of quarantined ports stay: by them what is left of a worker is known.
func (h *Hive) pruneLogs() {
	settings := h.settings()
	err := h.logs.Prune(h.ctx, h.logSources, logs.Retention{
		MaxTotal: settings.LogsMaxTotal, OrphanAge: settings.WorkersKeep,
		KeepOrphans: h.store.Meta().Relocated, // an older file that was restored does not know all workers
		Evidence:    h.logsOfEvidence,
	})
	if err != nil {
		h.logUnlessClosing(err, "remove old logs", "")
	}
}

// logsOfEvidence returns the ids of the workers that may have left something behind.
func (h *Hive) logsOfEvidence() (map[string]bool, error) {
	held, err := h.holderless()
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	ids := map[string]bool{}
	for _, l := range held {
		ids[l.WorkerID] = true
	}
	return ids, nil
}
