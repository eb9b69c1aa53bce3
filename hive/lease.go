package hive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"rbeehive/alloc"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// Holder says what keeps a lease alive: the process PID, or renewals within TTL.
// One of the two is set, except in a renewal that changes nothing.
type Holder struct {
	PID       int
	StartTime uint64 // clock ticks since boot (proc_pid_stat(5), field 22) that PID must have; 0: whatever it has
	TTL       time.Duration
}

// LeaseRequest asks for a lease for a program that hive does not start.
type LeaseRequest struct {
	Holder
	Port  uint16 // this port and no other; 0: any of the range
	Ports int    // how many in a row; 0 is 1
	Owner string // for people; may be empty
}

// LeaseRenewal renews a lease, or binds it to another holder.
type LeaseRenewal struct {
	Holder
	LeaseID string
}

// Bounds of a ttl: below, a busy machine could not renew in time; above, a port
// would be lost for days with its holder.
const (
	leastTTL = time.Second
	mostTTL  = 24 * time.Hour
)

// DecodeLease reads the body of an acquisition. Errors are *InputError.
func DecodeLease(body []byte) (LeaseRequest, error) {
	var r LeaseRequest
	f, err := decodeObject(body, `{"ttl": "30s"}`)
	if err != nil {
		return r, err
	}
	if err := f.only("a lease", []string{"pid", "start_time", "ttl", "port", "ports", "owner"}); err != nil {
		return r, err
	}
	if r.Holder, err = f.holder(); err != nil {
		return r, err
	}
	if r.PID == 0 && r.TTL == 0 {
		return r, badField("pid", `is required, or ttl: what keeps the lease alive, as in {"pid": 4711} or {"ttl": "30s"}`)
	}
	if r.Port, err = f.port(); err != nil {
		return r, err
	}
	if r.Port != 0 && r.Port < leastPort {
		return r, badField("port", fmt.Sprintf("is %d; below %d only a worker gets a port, if its entry has it (port in hive.yaml)", r.Port, leastPort))
	}
	ports, err := f.number("ports", 1, catalog.MostPorts)
	if err != nil {
		return r, err
	}
	r.Ports = int(ports) //nolint:gosec // bounded by number
	if r.Owner, err = f.text("owner"); err == nil {
		err = checkOwner(r.Owner)
	}
	return r, err
}

// DecodeRenewal reads the body of a renewal. Errors are *InputError.
func DecodeRenewal(body []byte) (LeaseRenewal, error) {
	var r LeaseRenewal
	f, err := decodeObject(body, `{"lease_id": "..."}`)
	if err != nil {
		return r, err
	}
	if err := f.only("a renewal", []string{"lease_id", "pid", "start_time", "ttl"}); err != nil {
		return r, err
	}
	if r.LeaseID, err = f.text("lease_id"); err != nil {
		return r, err
	}
	if r.LeaseID == "" {
		return r, badField("lease_id", "is required: the proof of holding that the acquisition gave")
	}
	r.Holder, err = f.holder()
	return r, err
}

// holder reads pid with start_time, or ttl; neither is no error here.
func (f fields) holder() (Holder, error) {
	var h Holder
	pid, err := f.number("pid", 1, maxPID)
	if err != nil {
		return h, err
	}
	if h.StartTime, err = f.number("start_time", 1, 1<<63); err != nil {
		return h, err
	}
	text, err := f.text("ttl")
	if err != nil {
		return h, err
	}
	h.PID = int(pid) //nolint:gosec // bounded by number
	switch {
	case h.PID != 0 && text != "":
		return h, badField("ttl", "cannot be given with pid: the lease lives as long as the process, or as it is renewed")
	case h.PID == 0 && h.StartTime != 0:
		return h, badField("start_time", "is nothing without pid")
	case text == "":
		return h, nil
	}
	h.TTL, err = time.ParseDuration(text)
	if err != nil || h.TTL < leastTTL || h.TTL > mostTTL {
		return h, badField("ttl", fmt.Sprintf("is %q; expected a duration with a unit from %s to %s, such as 30s", clip(text), leastTTL, "24h"))
	}
	return h, nil
}

func checkOwner(owner string) error {
	if len(owner) > 128 {
		return badField("owner", "is longer than 128 bytes")
	}
	if flaw := plain.Flaw(owner); flaw != "" {
		return badField("owner", flaw)
	}
	return nil
}

// AcquireLease leases a port, or several in a row, to a program that hive does
// not start. The lease is durable when it returns. It blocks for the probes of
// the port and for the commit.
//
// Errors: *InputError for a process that cannot hold a lease, or that the caller
// may not name, and for a caller who has as many ports as they may (ErrForbidden); alloc.ErrExhausted,
// alloc.ErrUnavailable; ErrRecovering, ErrClosed; store.ErrDiskFull; ctx's.
func (h *Hive) AcquireLease(ctx context.Context, by access.Caller, req LeaseRequest) (store.Lease, error) {
	if !h.serving.Load() {
		return store.Lease{}, ErrRecovering
	}
	if h.ctx.Err() != nil || h.draining.Load() {
		return store.Lease{}, ErrClosed
	}
	if err := h.shares.take(by, max(1, req.Ports), h.cfg.Ports.PerUser); err != nil {
		return store.Lease{}, err
	}
	l, err := h.acquireFor(ctx, by, req)
	if err != nil {
		h.shares.give(by.Record(), max(1, req.Ports))
	}
	return l, err
}

func (h *Hive) acquireFor(ctx context.Context, by access.Caller, req LeaseRequest) (store.Lease, error) {
	p, err := h.openHolder(by, req.Holder)
	if err != nil {
		return store.Lease{}, err
	}
	l, err := h.acquire(ctx, by, req, p)
	if err != nil && p != nil {
		p.Close()
	}
	return l, err
}

func (h *Hive) acquire(ctx context.Context, by access.Caller, req LeaseRequest, p *proc.Process) (store.Lease, error) {
	res, err := h.alloc.Acquire(ctx, alloc.Request{Port: req.Port, Ports: req.Ports})
	if err != nil {
		return store.Lease{}, err
	}
	l := store.Lease{
		Port: res.Port, LeaseID: uuid.Must(uuid.NewV7()).String(), Owner: req.Owner,
		Requester: by.Record(), State: store.LeaseHeld, AcquiredAt: time.Now().UTC(),
	}
	if len(res.Ports) > 1 {
		l.Ports = res.Ports
	}
	l = heldBy(l, req.Holder, p)
	err = h.write(ctx, nil, func(b *batch) error {
		if err := res.Record(b.Tx, l); err != nil {
			return err
		}
		return b.leaseEvent(store.EventPort, l, acquiredMessage(l))
	})
	if err != nil {
		res.Abandon()
		return store.Lease{}, err
	}
	h.settleIn(l, p)
	return l, nil
}

func acquiredMessage(l store.Lease) string {
	who := l.Owner
	if who == "" {
		who = "a program"
	}
	if l.Kind == store.LeaseTTL {
		return fmt.Sprintf("%s leased to %s for %s", portsAre(l.All()), who, l.TTL)
	}
	return fmt.Sprintf("%s leased to %s (pid %d)", portsAre(l.All()), who, l.Identity.PID)
}

// heldBy returns l with what keeps it alive; p is the holder's process, nil for a ttl.
func heldBy(l store.Lease, h Holder, p *proc.Process) store.Lease {
	l.Kind, l.TTL, l.Identity = store.LeaseTTL, h.TTL, nil
	if p != nil {
		id := p.Identity()
		l.Kind, l.TTL, l.Identity = store.LeaseProcess, 0, &id
	}
	return l
}

// openHolder verifies that a process can hold a lease, and follows it; nil for a
// ttl. A PID means one of this machine and of hive's PID namespace. Errors are
// *InputError.
func (h *Hive) openHolder(by access.Caller, o Holder) (*proc.Process, error) {
	if o.PID == 0 {
		return nil, nil
	}
	switch w := h.workerByPID(o.PID); {
	case o.PID == 1:
		return nil, badField("pid", "is 1; init cannot hold a lease")
	case o.PID == os.Getpid():
		return nil, badField("pid", fmt.Sprintf("is %d, which is hive itself", o.PID))
	case w != nil:
		return nil, badField("pid", fmt.Sprintf("is %d, which is worker %s: hive leases its ports itself (ports in its entry)", o.PID, w.id()))
	case proc.KernelThread(o.PID):
		return nil, badField("pid", fmt.Sprintf("is %d, which is a thread of the kernel", o.PID))
	}
	id, err := proc.Identify(o.PID)
	if errors.Is(err, proc.ErrGone) {
		return nil, badField("pid", fmt.Sprintf("is %d; no such process runs where hive can see it", o.PID))
	}
	if err != nil {
		return nil, fmt.Errorf("look at the holder: %w", err)
	}
	if o.StartTime != 0 && o.StartTime != id.StartTicks {
		return nil, badField("start_time", fmt.Sprintf("is %d, but process %d was started at %d: the PID means another process here", o.StartTime, o.PID, id.StartTicks))
	}
	p, _, err := proc.Adopt(id)
	if err != nil {
		return nil, badField("pid", fmt.Sprintf("is %d; it cannot be followed: %v", o.PID, err))
	}
	if err := mayName(by, p); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// mayName refuses a process of somebody else: a lease would be tied to its life
// without its owner's knowing.
func mayName(by access.Caller, p *proc.Process) error {
	if by.Own || by.Known && by.UID == 0 || !by.Known && by.Rights.May(access.Admin) {
		return nil
	}
	if !by.Known {
		return &InputError{Kind: ErrForbidden, Field: "pid", Detail: by.String() + " is not known to be a user of this machine, and may name no process; take ttl instead"}
	}
	uid, err := p.UID()
	if err != nil {
		return badField("pid", fmt.Sprintf("is %d; it cannot be seen whose process that is: %v", p.PID(), err))
	}
	if uid != by.UID {
		return &InputError{Kind: ErrForbidden, Field: "pid", Detail: fmt.Sprintf(
			"is %d, a process of the user with uid %d; the caller has uid %d and may name processes of their own (root may name any)", p.PID(), uid, by.UID)}
	}
	return nil
}

// RenewLease renews a ttl lease, or gives a lease another holder: a process, or
// renewals within a ttl. A renewal counts from now and is not written to the file,
// because a start gives every ttl lease its whole time again; anything else is
// durable when it returns. It blocks for the commit.
//
// Errors: *InputError, of kind ErrForbidden for a lease that somebody else has
// acquired; ErrNotFound if the port has no lease; ErrConflict if it has
// another, or a worker's, or it has ended and the port is quarantined;
// store.ErrDiskFull; ctx's.
func (h *Hive) RenewLease(ctx context.Context, by access.Caller, port uint16, r LeaseRenewal) (store.Lease, error) {
	if !h.serving.Load() {
		return store.Lease{}, ErrRecovering
	}
	p, err := h.openHolder(by, r.Holder)
	if err != nil {
		return store.Lease{}, err
	}
	l, err := h.renew(ctx, by, port, r, p)
	if err != nil && p != nil {
		p.Close()
	}
	return l, err
}

func (h *Hive) renew(ctx context.Context, by access.Caller, port uint16, r LeaseRenewal, p *proc.Process) (store.Lease, error) {
	ls, err := h.lesseeOf(port, r.LeaseID)
	if err != nil {
		return store.Lease{}, err
	}
	defer ls.mu.Unlock()
	l := ls.lease
	if err := ownLease(by, l); err != nil {
		return store.Lease{}, err
	}
	if r.PID == 0 && r.TTL == 0 {
		if l.Kind != store.LeaseTTL {
			return store.Lease{}, badField("pid", "is required, or ttl: a lease that lives as long as a process needs no renewal, only another holder")
		}
		r.TTL = l.TTL
	}
	if r.TTL != 0 && l.Kind == store.LeaseTTL && proc.BootTime() >= ls.deadline {
		return store.Lease{}, fmt.Errorf("%w: the lease of port %d was not renewed in time", ErrConflict, port)
	}
	before := l
	l.State, l.Reason = store.LeaseHeld, ""
	l = heldBy(l, r.Holder, p)
	if l.Kind != before.Kind || l.TTL != before.TTL || l.Kind == store.LeaseProcess {
		err := h.write(ctx, nil, func(b *batch) error {
			if err := b.PutLease(l); err != nil {
				return err
			}
			return b.leaseEvent(store.EventPort, l, acquiredMessage(l))
		})
		if err != nil {
			return store.Lease{}, err
		}
	}
	ls.lease = l
	ls.watch(p)
	l.Port = port
	return l, nil
}

// ReleaseLease ends a lease, with all of its ports. They are free when it returns
// true; where somebody still listens they are quarantined, and asking again, when
// nobody does any more, frees them. It blocks for a read of the socket table and
// the commit. Errors: those of RenewLease.
func (h *Hive) ReleaseLease(by access.Caller, port uint16, leaseID string) (freed bool, err error) {
	if !h.serving.Load() {
		return false, ErrRecovering
	}
	ls, err := h.lesseeOf(port, leaseID)
	var held *quarantinedError
	if errors.As(err, &held) {
		if err := ownLease(by, held.lease); err != nil {
			return false, err
		}
		if h.whyQuarantine(held.lease.All(), remains{}) != "" {
			return false, nil
		}
		return true, h.freeQuarantined(held.lease, "released by its holder")
	}
	if err != nil {
		return false, err
	}
	defer ls.mu.Unlock()
	if err := ownLease(by, ls.lease); err != nil {
		return false, err
	}
	return ls.end("released by its holder")
}
