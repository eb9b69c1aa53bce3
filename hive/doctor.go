package hive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/alloc"
	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// doctorLimit is how long Doctor may look. A client waits 30 s for an answer.
const doctorLimit = 15 * time.Second

// Condition is what a Checkup has come to.
type Condition string

// The conditions.
const (
	ConditionOK      Condition = "ok"
	ConditionCare    Condition = "care"    // somebody should do something
	ConditionUnknown Condition = "unknown" // it cannot be seen from here
)

// Checkup is one thing that Doctor looked at.
type Checkup struct {
	Name      string // one word, always the same
	Condition Condition
	Found     string // what is the case, in one line
	Means     string // what follows from it; empty if Condition is ok
	Do        string // what to do about it; empty if Condition is ok
}

// Doctor looks at the hive and at the place it runs in: its ports, leases,
// processes and file, and what the system around it allows. It changes nothing
// and repairs nothing. What cannot be looked at is a Checkup of its own kind, not
// an error. It blocks for reads of the socket table and of /proc, for 2 s more if
// it finds something that has to be looked at twice, and for 15 s at most; one
// call at a time looks, others wait. Errors: ctx's, and store.ErrClosed.
func (h *Hive) Doctor(ctx context.Context) ([]Checkup, error) {
	if err := h.doctors.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer h.doctors.Release(1)
	f := h.facts(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if errors.Is(f.Leases.Err, store.ErrClosed) {
		return nil, f.Leases.Err
	}
	return f.judge(), nil
}

// judge makes every check, in the order in which a person reads them.
func (f *facts) judge() []Checkup {
	var all []Checkup
	for _, check := range []func(*facts) Checkup{
		checkRange, checkPorts, checkSquatters, checkDraining, checkQuarantined, checkUnverified, checkMembers,
		checkFile, checkDisk, checkOrigin, checkClock,
		checkKernel, checkCgroup, checkPtrace, checkHidepid, checkSystemd, checkInit, checkDescriptors, checkTasks,
	} {
		all = append(all, check(f))
	}
	return all
}

// fact is what was seen, or why it was not.
type fact[T any] struct {
	Value T
	Err   error
}

func got[T any](v T, err error) fact[T] { return fact[T]{v, err} }

// facts is all that the checks decide on.
type facts struct {
	Now     time.Time
	DataDir string
	Review  time.Duration // between two reviews of leases

	Range       alloc.Range
	Apart       []alloc.Range // ports that are never leased
	Local       fact[host.LocalPorts]
	Survey      fact[alloc.Survey]
	Leases      fact[[]store.Lease]
	Reasons     map[string]string // why a live worker is in its state, by id
	Strays      fact[[]proc.Stray]
	Examination *examination // nil: not over yet
	FileBytes   int64
	Backups     fact[backups]
	BackupFault error         // why the last automatic backup could not be made
	BackupEvery time.Duration // 0: none are made
	Relocated   bool
	Admits      fact[bool] // new work is admitted
	DiskFree    fact[int64]

	Newest       fact[dated]
	Synchronised fact[bool]
	Kernel       string
	Features     proc.Features
	BoundListed  fact[bool] // ports that are bound and not listened on can be seen
	Cgroups      bool       // each worker gets a cgroup of its own
	Trace        fact[bool]
	Hiding       fact[host.Hiding]
	Unit         fact[host.Unit]
	First        fact[host.First]
	Descriptors  fact[host.Limit]
	Tasks        fact[[]host.Limit]
}

// examination is the result of a full check of the state file.
type examination struct {
	At   time.Time
	Took time.Duration
	Err  error // all findings, joined
}

// backups is what is in the directory of backups.
type backups struct {
	Count  int
	Newest time.Time
}

// dated is the record with the latest time in it.
type dated struct {
	What string
	At   time.Time
}

func (d *dated) see(at time.Time, format string, args ...any) {
	if at.After(d.At) {
		*d = dated{fmt.Sprintf(format, args...), at}
	}
}

// facts looks at everything, side by side. An error stands beside what it is about.
func (h *Hive) facts(ctx context.Context) *facts {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	f := &facts{
		DataDir: h.cfg.DataDir, Review: h.cfg.AuditInterval, Range: h.cfg.Ports.Range, Apart: slices.Clone(h.cfg.Ports.Reserved),
		Reasons: map[string]string{}, Relocated: h.store.Meta().Relocated, Examination: h.examined.Load(),
		Kernel: host.KernelRelease(), Features: proc.FindFeatures(), Cgroups: h.cgroups,
	}
	for _, port := range h.cfg.APIPorts {
		f.Apart = append(f.Apart, alloc.Range{First: port, Last: port})
	}
	for _, rec := range h.live() {
		f.Reasons[rec.WorkerID] = rec.Reason
	}
	var g errgroup.Group
	for _, look := range []func(){
		func() { f.Survey = got(h.alloc.Survey(ctx)) },
		func() { f.Strays = got(h.lastingStrays(ctx)) },
		func() { f.Unit = got(host.FindUnit(ctx, managerEnv())) },
		func() { f.First = got(host.FindFirst(ctx)) },
		func() { h.fileFacts(ctx, f) },
		func() {
			snap, err := h.sockets.Snapshot(ctx, 0)
			f.BoundListed = got(err == nil && snap.BoundKnown, err)
		},
	} {
		g.Go(func() error { look(); return nil })
	}
	f.Local = got(host.ReadLocalPorts())
	f.Synchronised = got(host.ClockSynchronised())
	f.Trace = got(host.CanTrace())
	f.Hiding = got(host.ProcHiding())
	f.Descriptors = got(host.DescriptorLimit())
	f.Tasks = got(host.TaskLimits())
	_ = g.Wait()       // the functions return no errors: they are in the facts
	f.Now = time.Now() // only now: no record is younger, unless the clock was turned back
	return f
}

// managerEnv is the environment in which the service manager is asked: a user's may be
// found by DBUS_SESSION_BUS_ADDRESS only, which workers do not get.
func managerEnv() []string {
	return proc.Environ(os.Environ(), []string{"DBUS_SESSION_BUS_ADDRESS"})
}

// fileFacts looks at the state file and its directory.
func (h *Hive) fileFacts(ctx context.Context, f *facts) {
	f.FileBytes = h.store.Stats().FileBytes
	f.Backups = got(findBackups(filepath.Join(h.cfg.DataDir, "backups")))
	f.DiskFree = got(h.store.DiskFree())
	f.BackupEvery = h.settings().Backup.Interval
	if fault := h.backupFault.Load(); fault != nil {
		f.BackupFault = *fault
	}
	// An update that writes nothing costs no commit, and is judged like any other.
	err := h.store.Update(ctx, func(*store.Tx) error { return nil })
	f.Admits = got(err == nil, err)
	if errors.Is(err, store.ErrDiskFull) {
		f.Admits.Err = nil
	}
	f.Leases = got(h.Leases())
	f.Newest = got(h.newest(f.Leases.Value))
}

func findBackups(dir string) (b backups, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".db") {
			continue // removed meanwhile, or not finished
		}
		b.Count++
		if info.ModTime().After(b.Newest) {
			b.Newest = info.ModTime()
		}
	}
	return b, err
}

// newestEvents is among how many of the last events the latest time is looked for:
// the start of hive itself writes some, by the clock as it is now.
const newestEvents = 256

// newest finds the latest time among the last events, the last job and the leases.
func (h *Hive) newest(leases []store.Lease) (d dated, err error) {
	for _, l := range leases {
		d.see(l.AcquiredAt, "the lease of port %d", l.Port)
	}
	err = h.store.View(func(tx *store.Tx) error {
		b, err := tx.EventBounds()
		if err != nil {
			return err
		}
		events, err := tx.Events(b.Newest-min(b.Newest, newestEvents), newestEvents)
		if err != nil {
			return err
		}
		for _, ev := range events {
			d.see(ev.At, "event %d", ev.Seq)
		}
		for job, err := range tx.Jobs("", true) {
			if err != nil {
				return err
			}
			d.see(job.CreatedAt, "%s", job.JobID)
			return nil
		}
		return nil
	})
	return d, err
}

// lastingStrays are the processes without a record that are still so after a
// while: one that is being spawned is recorded a moment after it is made.
func (h *Hive) lastingStrays(ctx context.Context) ([]proc.Stray, error) {
	first, err := h.strays(ctx)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-time.After(gatePatience):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	second, err := h.strays(ctx)
	return slices.DeleteFunc(second, func(s proc.Stray) bool {
		return !slices.ContainsFunc(first, func(f proc.Stray) bool { return f.PID == s.PID && f.Start == s.Start })
	}), err
}

// examine makes the full check of the file, and keeps what it found for Doctor.
// It blocks for as long as the file is large, and writers wait for part of it.
func (h *Hive) examine() {
	begun := time.Now()
	err := h.store.Check(h.ctx)
	if h.ctx.Err() != nil || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		return // it was not finished
	}
	h.examined.Store(&examination{At: begun, Took: time.Since(begun), Err: err})
	if err != nil {
		h.cfg.Log.WithError(err).Error("the state file is damaged: stop hive and look at it before it is relied on")
	}
}
