package hive

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"rbeehive/store"
)

// AuditReport is what an audit has found.
type AuditReport struct {
	At       time.Time // zero: none has run yet
	Took     time.Duration
	Findings []Finding // by code and port
	Runs     int       // audits since the start of hive
}

// auditor keeps what the last audit has seen.
type auditor struct {
	turn sync.Mutex // held by the audit that runs

	mu   sync.Mutex
	last AuditReport
}

// audit audits and prunes until the hive closes.
func (h *Hive) audit() {
	ticker := time.NewTicker(h.cfg.AuditInterval)
	defer ticker.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
			if _, err := h.Audit(h.ctx); err != nil {
				h.logUnlessClosing(err, "audit", "")
			}
			h.prune(h.ctx)
			h.pruneLogs()
		}
	}
}

// Audit compares records, processes and listeners now, and acts on what was seen
// the second time in a row: it judges again what could not be judged, frees ports
// on which nobody is any more, has workers looked at that do not listen or share
// their port, and, with audit.orphans kill, ends what ended leases have left
// behind. It blocks for reads of the socket table and of /proc, and for the end of
// what it ends; one audit runs at a time. Errors: the store's, the system's, ctx's.
func (h *Hive) Audit(ctx context.Context) (AuditReport, error) {
	h.auditor.turn.Lock()
	defer h.auditor.turn.Unlock()
	begun := time.Now()
	h.reviewLeases(ctx)
	found, err := h.inspect(ctx)
	if err != nil {
		return AuditReport{}, err
	}
	before := h.LastAudit()
	report := AuditReport{At: begun.UTC(), Findings: recognise(found, before.Findings, begun.UTC()), Runs: before.Runs + 1}
	h.tellNew(report.Findings)
	h.act(ctx, report.Findings)
	report.Took = time.Since(begun)
	h.auditor.mu.Lock()
	h.auditor.last = report
	h.auditor.mu.Unlock()
	return report, ctx.Err()
}

// Repair audits twice in a row, so that all that the second sighting allows is
// done, and then once more to see what is left. Blocks as Audit does.
func (h *Hive) Repair(ctx context.Context) (AuditReport, error) {
	for range 2 {
		if _, err := h.Audit(ctx); err != nil {
			return AuditReport{}, err
		}
	}
	return h.Audit(ctx)
}

// LastAudit returns what the last audit has found. It does not block.
func (h *Hive) LastAudit() AuditReport {
	h.auditor.mu.Lock()
	defer h.auditor.mu.Unlock()
	return h.auditor.last
}

// recognise gives findings their age: those of the audit before go on.
func recognise(found, before []Finding, now time.Time) []Finding {
	known := map[sameThing]Finding{}
	for _, f := range before {
		known[f.thing()] = f
	}
	for i := range found {
		f := &found[i]
		f.Since, f.Sightings = now, 1
		if old, ok := known[f.thing()]; ok {
			f.Since, f.Sightings = old.Since, old.Sightings+1
		}
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Port, b.Port), cmp.Compare(a.PID, b.PID))
	})
	return found
}

// tellNew writes an event for what was seen the second time; it is then no mere
// moment between two states. What has an event of its own already is left out.
func (h *Hive) tellNew(found []Finding) {
	for _, f := range found {
		if f.Sightings != 2 || f.Code == FindingQuarantined || f.Code == FindingUnverified {
			continue
		}
		h.cfg.Log.WithField("code", f.Code).WithField("port", f.Port).WithField("worker", f.WorkerID).WithField("pid", f.PID).Warn("audit: " + f.Message)
		err := h.tidy(func(b *batch) error {
			return b.event(store.EventAudit, "", f.WorkerID, f.Message, map[string]any{
				"code": f.Code, "port": f.Port, "lease_id": f.LeaseID, "pid": f.PID, "program": f.Program,
			})
		})
		if err != nil {
			h.logUnlessClosing(err, "record a finding", f.WorkerID)
		}
	}
}

// act does what the second sighting of a finding asks for. Leases are acted on by
// the review, which has its own second look.
func (h *Hive) act(ctx context.Context, found []Finding) {
	sure := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Sightings < 2 })
	for _, f := range sure {
		switch f.Code {
		case FindingNotListening, FindingForeign, FindingShared:
			if w := h.liveWorker(f.WorkerID); w != nil {
				w.doubt()
			}
		}
	}
	if h.settings().Orphans == OrphansKill {
		h.endStrays(ctx, sure)
	}
}
