package hive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/alloc"
	"rbeehive/hive/doctor"
	"rbeehive/hive/services"
	"rbeehive/store"
	"rbeehive/store/nospace"
)

const (
	// doctorLimit is how long Doctor may look. A client waits 30 s for an answer.
	doctorLimit = 15 * time.Second
	// doctorEvents is among how many of the last events the latest time is looked for:
	// the start of hive itself writes some, by the clock as it is now.
	doctorEvents = 256
)

// Doctor examines the hive and the machine it runs on (package doctor): it gathers the
// facts of hive's own tables and has them checked with those of the machine. It changes
// nothing. What cannot be read is a Checkup of its own kind, not an error. It blocks for
// reads of the socket table and of /proc, for 2 s more if it finds something that has to
// be looked at twice, and for 15 s at most; one call at a time looks, others wait.
// Errors: ctx's, and store.ErrClosed.
func (h *Hive) Doctor(ctx context.Context) ([]doctor.Checkup, error) {
	if err := h.upkeep.doctors.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer h.upkeep.doctors.Release(1)
	f := h.doctorFacts(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Any other error is a finding. This one says that hive is closing.
	if errors.Is(f.Leases.Err, store.ErrClosed) {
		return nil, f.Leases.Err
	}
	return doctor.Check(f), nil
}

// doctorFacts reads all facts, side by side. An error stands beside what it is about.
func (h *Hive) doctorFacts(ctx context.Context) *doctor.Facts {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	f := &doctor.Facts{
		DataDir: h.cfg.DataDir, AuditInterval: h.cfg.AuditInterval,
		Range: h.cfg.Ports.Range, Reserved: slices.Clone(h.cfg.Ports.Reserved),
		Reasons: map[string]string{}, Reload: h.ReloadFault(), Cgroups: h.launcher.Cgroups,
	}
	// Never leased either, so hive's own listeners on them are no squatters.
	for _, port := range h.cfg.APIPorts {
		f.Reserved = append(f.Reserved, alloc.Range{First: port, Last: port})
	}
	for _, rec := range h.supervisor.Live() {
		f.Reasons[rec.WorkerID] = rec.Reason
	}
	for _, v := range h.upkeep.services.Wanted() {
		if v.State == services.Backoff || v.State == services.Failed {
			f.Wanted = append(f.Wanted, doctor.Wanted{Name: v.Name, Reason: v.Reason, NextTry: v.NextTry})
		}
	}
	var g errgroup.Group
	for _, read := range []func(){
		func() { f.Host = doctor.ReadHost(ctx) },
		func() { f.Survey = doctor.FactOf(h.alloc.Survey(ctx)) },
		func() { f.Unleased = doctor.FactOf(h.unleased(ctx)) },
		func() { f.Orphans = doctor.FactOf(h.auditor.LastingOrphans(ctx)) },
		func() { f.File, f.Leases = h.fileFacts(ctx), doctor.FactOf(h.Leases()) },
		func() {
			snap, err := h.alloc.Sockets().Snapshot(ctx, 0)
			f.BoundListed = doctor.FactOf(err == nil && snap.BoundKnown, err)
		},
	} {
		g.Go(func() error { read(); return nil }) // each writes fields of its own
	}
	_ = g.Wait() // the functions return no errors: they are in the facts
	f.Now = time.Now()
	return f
}

// unleased are the workers that listen on ports of the range without a lease, by port.
func (h *Hive) unleased(ctx context.Context) (map[uint16]string, error) {
	found, err := h.auditor.Unleased(ctx)
	byPort := map[uint16]string{}
	for _, f := range found {
		byPort[f.Port] = f.WorkerID
	}
	return byPort, err
}

// fileFacts reads what there is to say about the state file.
func (h *Hive) fileFacts(ctx context.Context) doctor.File {
	f := doctor.File{
		Bytes: h.store.Stats().FileBytes, Examination: h.upkeep.examined.Load(), Relocated: h.store.Meta().Relocated, MetaPageLost: h.store.Meta().MetaPageLost,
		DiskFree: doctor.FactOf(h.store.DiskFree()), Records: doctor.FactOf(lastRecords(h.store)),
		Backups: doctor.FactOf(doctor.FindBackups(filepath.Join(h.cfg.DataDir, "backups"))), BackupInterval: h.settings().Backup.Interval,
	}
	left, err := nospace.In(h.cfg.DataDir)
	f.Inodes = doctor.FactOf(left.Inodes, err)
	if fault := h.upkeep.backupFault.Load(); fault != nil {
		f.BackupError = *fault
	}
	// An update that writes nothing costs no commit, and is admitted like any other.
	err = h.store.Update(ctx, func(*store.Tx) error { return nil })
	// A full disk answers the question; any other error leaves it open.
	f.Admits = doctor.FactOf(err == nil, err)
	if errors.Is(err, store.ErrDiskFull) {
		f.Admits.Err = nil
	}
	return f
}

// lastRecords returns the last events and the last job.
func lastRecords(st *store.Store) (records []doctor.Record, err error) {
	err = st.View(func(tx *store.Tx) error {
		b, err := tx.EventBounds()
		if err != nil {
			return err
		}
		// Many: if the clock was turned back, the newest event does not have the latest time.
		events, err := tx.Events(b.Newest-min(b.Newest, doctorEvents), doctorEvents)
		if err != nil {
			return err
		}
		for _, ev := range events {
			records = append(records, doctor.Record{Name: fmt.Sprintf("event %d", ev.Seq), At: ev.At})
		}
		for job, err := range tx.Jobs("", true) {
			if err == nil {
				records = append(records, doctor.Record{Name: job.JobID, At: job.CreatedAt})
			}
			return err // the first is the newest
		}
		return nil
	})
	return records, err
}
