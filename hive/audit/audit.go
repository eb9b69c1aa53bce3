package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"rbeehive/hive/journal"
	"rbeehive/store"
)

// Report is what an audit has found.
type Report struct {
	At       time.Time // zero: none has run yet
	Took     time.Duration
	Findings []Finding // by code and port
	Runs     int       // audits since the start of hive
}

// Audit compares records, processes and listeners now. First it has the owners of the
// records review theirs (Options.Review: verify again what could not be verified, free
// ports on which nobody is any more). Then it acts on what was seen the second time in a
// row: workers that do not listen or share their port are probed, and, with audit.orphans
// kill, what ended leases have left behind is ended. It blocks for reads of the socket
// table and of /proc, and for the end of what it ends; one audit runs at a time. Errors:
// the store's, the system's, ctx's.
func (a *Auditor) Audit(ctx context.Context) (Report, error) {
	a.turn.Lock()
	defer a.turn.Unlock()
	begun := time.Now()
	// First, so that what the review can mend is no finding.
	a.review(ctx)
	found, err := a.inspect(ctx)
	if err != nil {
		return Report{}, err
	}
	before := a.Last()
	report := Report{At: begun.UTC(), Findings: recognise(found, before.Findings, begun.UTC()), Runs: before.Runs + 1}
	a.emitNewFindings(report.Findings)
	a.act(ctx, report.Findings)
	report.Took = time.Since(begun)
	a.last.Store(&report)
	return report, ctx.Err()
}

// Repair audits twice in a row, so that all that the second sighting allows is
// done, and then once more to see what is left. Blocks as Audit does.
func (a *Auditor) Repair(ctx context.Context) (Report, error) {
	for range 2 {
		if _, err := a.Audit(ctx); err != nil {
			return Report{}, err
		}
	}
	return a.Audit(ctx)
}

// Last returns what the last audit has found. It does not block.
func (a *Auditor) Last() Report {
	if r := a.last.Load(); r != nil {
		return *r
	}
	return Report{}
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
		// Only the audit just before counts: what comes and goes is not acted on.
		if old, ok := known[f.thing()]; ok {
			f.Since, f.Sightings = old.Since, old.Sightings+1
		}
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Port, b.Port), cmp.Compare(a.PID, b.PID))
	})
	return found
}

// emitNewFindings writes an event for what was seen the second time; it is then no mere
// moment between two states. What has an event of its own already is left out.
func (a *Auditor) emitNewFindings(found []Finding) {
	for _, f := range found {
		if f.Sightings != 2 || f.Code == FindingQuarantined || f.Code == FindingUnverified {
			continue
		}
		a.log.WithField("code", f.Code).WithField("port", f.Port).WithField("worker", f.WorkerID).WithField("pid", f.PID).Warn("audit: " + f.Message)
		err := a.journal.CommitBestEffort(func(b *journal.Batch) error {
			return b.Event(store.EventAudit, "", f.WorkerID, f.Message, map[string]any{
				"code": f.Code, "port": f.Port, "lease_id": f.LeaseID, "pid": f.PID, "program": f.Program,
			})
		})
		a.journal.LogUnlessClosing(err, "record a finding", f.WorkerID)
	}
}

// act does what the second sighting of a finding asks for. Leases are acted on by
// the review, which has its own second look.
func (a *Auditor) act(ctx context.Context, found []Finding) {
	sure := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Sightings < 2 })
	for _, f := range sure {
		// Nothing is ended for these: the supervisor sees for itself.
		switch f.Code {
		case FindingNotListening, FindingForeign, FindingShared:
			a.workers.Recheck(f.WorkerID)
		}
	}
	if a.killOrphans() {
		a.endOrphans(ctx, sure)
	}
}
