package hive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// The codes of findings.
const (
	// FindingUnverified: it cannot be told whether the recorded process is still the holder.
	FindingUnverified = "unverified"
	// FindingQuarantined: the holder is gone, and somebody may still be reached on the port.
	FindingQuarantined = "quarantined"
	// FindingNoHolder: the lease is a worker's that has ended or has no process any more.
	FindingNoHolder = "lease_without_holder"
	// FindingNoRecord: a process carries this hive's mark, and no record knows it.
	FindingNoRecord = "member_without_record"
	// FindingNotListening: nothing listens on the port and address of a worker that was ready.
	FindingNotListening = "not_listening"
	// FindingForeign: somebody else listens on a worker's port and address.
	FindingForeign = "foreign_listener"
	// FindingBeside: somebody else listens on a worker's port, on another address than
	// the worker's. The worker is none the worse for it.
	FindingBeside = "other_address"
	// FindingShared: a worker and somebody else listen on its port (SO_REUSEPORT), and
	// the kernel gives each connection to one of them at random.
	FindingShared = "shared_port"
	// FindingUnleased: a worker listens on a port of the range that it has no lease for.
	FindingUnleased = "unleased_port"
	// FindingContested: another hive on this machine claims a port that is leased here.
	FindingContested = "contested_port"
)

// FindingCodes returns all codes.
func FindingCodes() []string {
	return []string{
		FindingUnverified, FindingQuarantined, FindingNoHolder, FindingNoRecord, FindingNotListening,
		FindingForeign, FindingShared, FindingBeside, FindingUnleased, FindingContested,
	}
}

// Finding is something that records, processes and listeners disagree about.
type Finding struct {
	Code     string
	Port     uint16 // 0: it is about no port
	WorkerID string
	LeaseID  string
	PID      int
	Program  string
	Message  string // one line for a person
	// Since is when it was seen first, Sightings how many audits in a row have seen
	// it. hive acts on the second.
	Since     time.Time
	Sightings int
}

// sameThing is what tells findings apart over several audits.
type sameThing struct {
	code     string
	port     uint16
	workerID string
	leaseID  string
	pid      int
}

func (f *Finding) thing() sameThing {
	return sameThing{f.Code, f.Port, f.WorkerID, f.LeaseID, f.PID}
}

// inspect compares records, processes and listeners, and changes nothing. It
// reads the socket table once, and /proc a few times.
func (h *Hive) inspect(ctx context.Context) ([]Finding, error) {
	snap, err := h.sockets.Snapshot(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("read the socket table: %w", err)
	}
	found, err := h.inspectLeases()
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	found = append(found, h.inspectListeners(ctx, snap)...)
	unleased, err := h.inspectUnleased(ctx, snap)
	if err != nil {
		return nil, err
	}
	strays, err := h.strays(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range strays {
		unleased = append(unleased, Finding{
			Code: FindingNoRecord, WorkerID: s.WorkerID, LeaseID: s.LeaseID, PID: s.PID, Program: s.Program,
			Message: fmt.Sprintf("%s (pid %d) carries the mark of worker %s, of which no living record knows", s.Program, s.PID, s.WorkerID),
		})
	}
	return append(found, unleased...), ctx.Err()
}

// inspectLeases looks at what the records say of themselves.
func (h *Hive) inspectLeases() (found []Finding, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			if l.Port != l.All()[0] {
				continue
			}
			f, err := h.inspectLease(tx, l)
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
	for _, port := range h.alloc.Contested() {
		found = append(found, Finding{
			Code: FindingContested, Port: port,
			Message: fmt.Sprintf("another hive on this machine claims port %d, which is leased here", port),
		})
	}
	return found, err
}

// inspectLease returns a Finding without a code where all is well.
func (h *Hive) inspectLease(tx *store.Tx, l store.Lease) (f Finding, err error) {
	if l.Identity != nil {
		f.PID = l.Identity.PID
	}
	switch {
	case l.State == store.LeaseQuarantined:
		f.Code, f.Message = FindingQuarantined, fmt.Sprintf("%s quarantined: %s", portsAre(l.All()), l.Reason)
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
		w := h.liveWorker(l.WorkerID)
		if w == nil {
			break
		}
		if p := w.process(); p != nil && p.Ended() {
			f.Code, f.Message = FindingNoHolder, fmt.Sprintf("port %d is leased to worker %s, whose process has ended", l.Port, l.WorkerID)
		}
	}
	return f, nil
}

// inspectListeners looks whose the listeners on the ports of ready workers are.
func (h *Hive) inspectListeners(ctx context.Context, snap *sockets.Snapshot) (found []Finding) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(procReaders)
	for _, w := range h.signallable() {
		rec := w.record()
		if rec.Spec.Ready.AnyListener || (rec.State != store.WorkerReady && rec.State != store.WorkerUnhealthy) {
			continue
		}
		g.Go(func() error {
			for i, port := range rec.Ports {
				for _, f := range w.inspectPort(ctx, snap, port, i == 0) {
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
func (w *worker) inspectPort(ctx context.Context, snap *sockets.Snapshot, port uint16, first bool) (found []Finding) {
	listening := slices.DeleteFunc(snap.Listeners(port), func(s sockets.Socket) bool { return s.State != sockets.Listen })
	rec := w.record()
	own, beside := atOwn(listening, rec.Spec.Host)
	if len(own) == 0 && first {
		f := Finding{Code: FindingNotListening, Message: fmt.Sprintf("nothing listens on port %d of worker %s", port, rec.WorkerID)}
		if s := (sighting{astray: w.astray(ctx, beside)}); s.astray != "" {
			f.Message = fmt.Sprintf("worker %s: %s", rec.WorkerID, notReadyBecause(s, rec))
		}
		found = append(found, f)
	}
	code, text := FindingForeign, "%s listens on port %d of worker %s"
	strange := w.foreigners(ctx, own)
	if len(strange) < len(own) {
		code, text = FindingShared, "%s listens on port %d beside worker %s: each connection reaches one of the two at random"
	}
	if len(strange) > 0 {
		found = append(found, theyHave(ctx, strange, code, func(who string) string { return fmt.Sprintf(text, who, port, rec.WorkerID) }))
	}
	if strange = w.foreigners(ctx, beside); len(strange) > 0 {
		found = append(found, theyHave(ctx, strange, FindingBeside, func(who string) string {
			return fmt.Sprintf("%s listens on %s, beside worker %s on %s", who, strange[0].Local, rec.WorkerID, net.JoinHostPort(rec.Spec.Host, strconv.Itoa(int(port))))
		}))
	}
	return found
}

// theyHave is a finding about who has sockets; message makes a line of who that is.
func theyHave(ctx context.Context, socks []sockets.Socket, code string, message func(who string) string) Finding {
	f := Finding{Code: code, Message: message(describeHolders(ctx, socks))}
	if holders, err := sockets.Holders(ctx, socks); err == nil && len(holders) > 0 {
		f.PID, f.Program = holders[0].PID, holders[0].Program
	}
	return f
}

// inspectUnleased looks for workers that listen on ports of the range which
// nobody has a lease for.
func (h *Hive) inspectUnleased(ctx context.Context, snap *sockets.Snapshot) (found []Finding, err error) {
	var free []sockets.Socket
	for _, s := range snap.All() {
		port := s.Local.Port()
		if s.State == sockets.Listen && s.Inode != 0 && h.cfg.Ports.Range.Contains(port) && !h.alloc.Leased(port) {
			free = append(free, s)
		}
	}
	workers := h.signallable()
	if len(free) == 0 || len(workers) == 0 {
		return nil, nil
	}
	holders, err := sockets.Holders(ctx, free)
	if err != nil {
		return nil, fmt.Errorf("look who listens: %w", err)
	}
	var trees []*proc.Tree
	owner := map[int]*worker{}
	for _, w := range workers {
		b := w.body.Load() // its process may end, and another start, meanwhile
		trees = append(trees, b.tree)
		if b.proc != nil {
			owner[b.proc.PID()] = w
		}
	}
	members, err := proc.SurveyMembers(ctx, trees)
	if err != nil {
		return nil, err
	}
	for i, list := range members {
		for _, m := range list {
			owner[m.PID] = workers[i]
		}
	}
	for _, who := range holders {
		if w := owner[who.PID]; w != nil && who.PID != 0 {
			found = append(found, Finding{
				Code: FindingUnleased, Port: who.Port, WorkerID: w.id(), LeaseID: w.record().LeaseID, PID: who.PID, Program: who.Program,
				Message: fmt.Sprintf("worker %s listens on port %d, which it has no lease for", w.id(), who.Port),
			})
		}
	}
	return found, nil
}
