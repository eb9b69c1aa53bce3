package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/lease"
	"rbeehive/hive/probe"
	"rbeehive/hive/proc"
	"rbeehive/hive/supervisor"
	"rbeehive/store"

	"golang.org/x/sync/errgroup"
)

// inspect compares records, processes and listeners, and changes nothing. It
// reads the socket table once, and /proc a few times.
func (a *Auditor) inspect(ctx context.Context) ([]Finding, error) {
	// One for all checks, so that they speak of the same moment.
	snap, err := a.sockets.Snapshot(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("read the socket table: %w", err)
	}
	processes := a.workers.Processes()
	found, err := a.inspectLeases(processes)
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	found = append(found, a.inspectListeners(ctx, snap, processes)...)
	unleased, err := a.inspectUnleased(ctx, snap, processes)
	if err != nil {
		return nil, err
	}
	orphans, err := a.orphans(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range orphans {
		unleased = append(unleased, Finding{
			Code: FindingNoRecord, WorkerID: s.WorkerID, LeaseID: s.LeaseID, PID: s.PID, Program: s.Program,
			Message: fmt.Sprintf("%s (pid %d) carries the mark of worker %s, of which no living record knows", s.Program, s.PID, s.WorkerID),
		})
	}
	// Cut short, it misses things, and those would count as new in the next audit.
	return append(found, unleased...), ctx.Err()
}

// inspectLeases looks at what the records say of themselves.
func (a *Auditor) inspectLeases(processes []supervisor.Process) (found []Finding, err error) {
	err = a.journal.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			// A lease of several ports comes once for each of them.
			if l.Port != l.All()[0] {
				continue
			}
			f, err := inspectLease(tx, l, processes)
			if err != nil {
				return err
			}
			if f.Code != "" {
				f.Port, f.LeaseID, f.WorkerID = l.Port, l.LeaseID, l.WorkerID
				found = append(found, f)
			}
		}
		return nil
	})
	for _, port := range a.alloc.Contested() {
		found = append(found, Finding{
			Code: FindingContested, Port: port,
			Message: fmt.Sprintf("another hive on this machine claims port %d, which is leased here", port),
		})
	}
	return found, err
}

// inspectLease returns a Finding without a code where all is well.
func inspectLease(tx *store.Tx, l store.Lease, processes []supervisor.Process) (f Finding, err error) {
	if l.Identity != nil {
		f.PID = l.Identity.PID
	}
	switch {
	case l.State == store.LeaseQuarantined:
		f.Code, f.Message = FindingQuarantined, fmt.Sprintf("%s quarantined: %s", lease.PortsAre(l.All()), l.Reason)
		return f, nil
	case l.State == store.LeaseUnverified:
		f.Code, f.Message = FindingUnverified, fmt.Sprintf("whether pid %d is still the holder of port %d cannot be told: %s", f.PID, l.Port, l.Reason)
		return f, nil
	case l.Kind != store.LeaseWorker:
		return f, nil
	}
	rec, err := tx.Worker(l.WorkerID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		f.Code, f.Message = FindingNoHolder, fmt.Sprintf("port %d is leased to worker %s, which has no record", l.Port, l.WorkerID)
	case err != nil:
		return f, err
	case rec.State.Ended():
		f.Code, f.Message = FindingNoHolder, fmt.Sprintf("port %d is leased to worker %s, which has ended", l.Port, l.WorkerID)
	default:
		// Its supervisor may be handling the exit; then the next audit does not see this.
		for _, p := range processes {
			if p.Worker.WorkerID == l.WorkerID && p.Tree.Main.Ended() {
				f.Code, f.Message = FindingNoHolder, fmt.Sprintf("port %d is leased to worker %s, whose process has ended", l.Port, l.WorkerID)
			}
		}
	}
	return f, nil
}

// inspectListeners looks whose the listeners on the ports of ready workers are.
func (a *Auditor) inspectListeners(ctx context.Context, snap *sockets.Snapshot, processes []supervisor.Process) (found []Finding) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(maxProcReaders)
	for _, p := range processes {
		rec := p.Worker
		// Those that load or stop may listen or not.
		if rec.Spec.Ready.AnyListener || (rec.State != store.WorkerReady && rec.State != store.WorkerUnhealthy) {
			continue
		}
		g.Go(func() error {
			for i, port := range rec.Ports {
				for _, f := range inspectPort(ctx, snap, p, port, i == 0) {
					f.Port, f.WorkerID, f.LeaseID = port, rec.WorkerID, rec.LeaseID
					mu.Lock()
					found = append(found, f)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	return found
}

// inspectPort looks at one port of a ready worker. On the first it must listen
// itself, at its own address, on the others nobody else may. What cannot be seen is no
// finding.
func inspectPort(ctx context.Context, snap *sockets.Snapshot, p supervisor.Process, port uint16, first bool) (found []Finding) {
	// A socket that is only bound gets no connections.
	listening := slices.DeleteFunc(snap.Listeners(port), func(s sockets.Socket) bool { return s.State != sockets.Listen })
	rec := p.Worker
	own, beside := endpoint.Split(listening, rec.Spec.Host)
	if len(own) == 0 && first {
		f := Finding{Code: FindingNotListening, Message: fmt.Sprintf("nothing listens on port %d of worker %s", port, rec.WorkerID)}
		if r := (probe.Result{Astray: probe.Astray(ctx, p.Tree, beside)}); r.Astray != "" {
			f.Message = fmt.Sprintf("worker %s: %s", rec.WorkerID, r.Why(rec))
		}
		found = append(found, f)
	}
	code, text := FindingForeign, "%s listens on port %d of worker %s"
	strange := probe.Strangers(ctx, p.Tree, own)
	if len(strange) < len(own) {
		code, text = FindingShared, "%s listens on port %d beside worker %s: each connection reaches one of the two at random"
	}
	if len(strange) > 0 {
		found = append(found, theyHave(ctx, strange, code, func(who string) string { return fmt.Sprintf(text, who, port, rec.WorkerID) }))
	}
	if strange = probe.Strangers(ctx, p.Tree, beside); len(strange) > 0 {
		found = append(found, theyHave(ctx, strange, FindingBeside, func(who string) string {
			return fmt.Sprintf("%s listens on %s, beside worker %s on %s", who, strange[0].Local, rec.WorkerID, net.JoinHostPort(rec.Spec.Host, strconv.Itoa(int(port))))
		}))
	}
	return found
}

// theyHave is a finding about who has sockets; message makes a line of who that is.
func theyHave(ctx context.Context, socks []sockets.Socket, code string, message func(who string) string) Finding {
	f := Finding{Code: code, Message: message(endpoint.Describe(ctx, socks))}
	if holders, err := sockets.Holders(ctx, socks); err == nil && len(holders) > 0 {
		f.PID, f.Program = holders[0].PID, holders[0].Program
	}
	return f
}

// Unleased are the ports of the range on which workers listen and which nobody has a lease
// for, as an audit would find them now. It reads the socket table, and /proc if there may be
// some. Errors: the system's, ctx's.
func (a *Auditor) Unleased(ctx context.Context) ([]Finding, error) {
	snap, err := a.sockets.Snapshot(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("read the socket table: %w", err)
	}
	return a.inspectUnleased(ctx, snap, a.workers.Processes())
}

// inspectUnleased looks for workers that listen on ports of the range which
// nobody has a lease for.
func (a *Auditor) inspectUnleased(ctx context.Context, snap *sockets.Snapshot, processes []supervisor.Process) (found []Finding, err error) {
	var free []sockets.Socket
	for _, s := range snap.All() {
		port := s.Local.Port()
		// Without an inode it is residue of the kernel's, and nobody's.
		if s.State == sockets.Listen && s.Inode != 0 && a.ports.Contains(port) && !a.alloc.Leased(port) {
			free = append(free, s)
		}
	}
	// Usually so, which saves a walk of /proc.
	if len(free) == 0 || len(processes) == 0 {
		return nil, nil
	}
	holders, err := sockets.Holders(ctx, free)
	if err != nil {
		return nil, fmt.Errorf("look who listens: %w", err)
	}
	var trees []*proc.Tree
	owner := map[int]store.Worker{}
	for _, p := range processes {
		trees = append(trees, p.Tree)
		owner[p.Tree.Main.PID()] = p.Worker
	}
	members, err := proc.SurveyMembers(ctx, trees)
	if err != nil {
		return nil, err
	}
	for i, list := range members {
		for _, m := range list {
			owner[m.PID] = processes[i].Worker
		}
	}
	for _, who := range holders {
		if w, ours := owner[who.PID]; ours && who.PID != 0 {
			found = append(found, Finding{
				Code: FindingUnleased, Port: who.Port, WorkerID: w.WorkerID, LeaseID: w.LeaseID, PID: who.PID, Program: who.Program,
				Message: fmt.Sprintf("worker %s listens on port %d, which it has no lease for", w.WorkerID, who.Port),
			})
		}
	}
	return found, nil
}
