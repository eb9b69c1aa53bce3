package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/access"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/proc"
	"rbeehive/hive/run"
	"rbeehive/store"

	"github.com/google/uuid"
)

// Workers finds the worker whose main process has a PID.
type Workers interface {
	LiveByPID(pid int) (store.Worker, bool)
}

// Options are what a Manager is made from. All are needed.
type Options struct {
	Run     *run.State
	Journal *journal.Journal
	Alloc   *alloc.Allocator
	Sockets *sockets.Table
	Workers Workers
	PerUser int // ports that one caller who is no admin may have leased at a time
	// Tree is all processes by whom the ports of a lease may still be reached.
	Tree func(store.Lease) *proc.Tree
}

// Manager is the leases of programs that hive did not start, and the quarantine of all
// ports.
type Manager struct {
	run     *run.State
	journal *journal.Journal
	alloc   *alloc.Allocator
	sockets *sockets.Table
	workers Workers
	perUser int
	tree    func(store.Lease) *proc.Tree
	shares  shares // how many ports each caller has leased

	mu     lock.Ranked[lock.Leases]
	table  map[string]*external // by lease id
	closed bool                 // nothing is tracked any more

	unheld map[string]int // reviews in a row in which nobody was found on a quarantined lease; Review is called by one goroutine at a time
}

// New returns a manager without leases.
func New(o Options) *Manager {
	return &Manager{
		run: o.Run, journal: o.Journal, alloc: o.Alloc, sockets: o.Sockets, workers: o.Workers, perUser: o.PerUser, tree: o.Tree,
		table: map[string]*external{},
	}
}

// Lease returns the lease of a port, or errdefs.ErrNotFound.
func (m *Manager) Lease(port uint16) (l store.Lease, err error) {
	err = m.journal.View(func(tx *store.Tx) error {
		l, err = tx.Lease(port)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return l, fmt.Errorf("lease of port %d: %w", port, errdefs.ErrNotFound)
	}
	return l, err
}

// HeldBy returns the leases that a process holds, by port, those of workers among them;
// none is no error. It reads nothing but these.
func (m *Manager) HeldBy(pid int) (leases []store.Lease, err error) {
	err = m.journal.View(func(tx *store.Tx) error {
		ports, err := tx.PortsOfPID(pid)
		if err != nil {
			return err
		}
		for _, port := range ports {
			l, err := tx.Lease(port)
			if err != nil {
				return err
			}
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// List returns all leases by port, those of workers among them.
func (m *Manager) List() (leases []store.Lease, err error) {
	err = m.journal.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// Acquire leases a port, or several in a row, to a program that hive does
// not start. The lease is durable when it returns. It blocks for the probes of
// the port and for the commit.
//
// Errors: *errdefs.InputError for a process that cannot hold a lease, or that the caller
// may not name, and for a caller who has as many ports as they may (errdefs.ErrForbidden); alloc.ErrExhausted,
// alloc.ErrUnavailable; errdefs.ErrRecovering, errdefs.ErrClosed; store.ErrDiskFull; ctx's.
func (m *Manager) Acquire(ctx context.Context, by access.Caller, req Request) (store.Lease, error) {
	if err := m.run.Admit(); err != nil {
		return store.Lease{}, err
	}
	// Counted before the search: requests at the same time must not pass the limit together.
	if err := m.shares.take(by, max(1, req.Ports), m.perUser); err != nil {
		return store.Lease{}, err
	}
	l, err := m.acquireFor(ctx, by, req)
	if err != nil {
		m.shares.give(by.Record(), max(1, req.Ports))
	}
	return l, err
}

func (m *Manager) acquireFor(ctx context.Context, by access.Caller, req Request) (store.Lease, error) {
	p, err := m.openHolder(by, req.Holder)
	if err != nil {
		return store.Lease{}, err
	}
	l, err := m.acquire(ctx, by, req, p)
	if err != nil && p != nil {
		p.Close()
	}
	return l, err
}

func (m *Manager) acquire(ctx context.Context, by access.Caller, req Request, p *proc.Process) (store.Lease, error) {
	res, err := m.alloc.Acquire(ctx, alloc.Request{Port: req.Port, Ports: req.Ports})
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
	err = m.journal.Commit(ctx, func(b *journal.Batch) error {
		if err := res.Record(b.Tx, l); err != nil {
			return err
		}
		return Event(b, store.EventPort, l, acquiredMessage(l))
	})
	if err != nil {
		res.Abandon()
		return store.Lease{}, err
	}
	// A holder that has ended meanwhile is noticed here: p has followed it since openHolder.
	m.track(l, p)
	return l, nil
}

func acquiredMessage(l store.Lease) string {
	who := l.Owner
	if who == "" {
		who = "a program"
	}
	if l.Kind == store.LeaseTTL {
		return fmt.Sprintf("%s leased to %s for %s", PortsAre(l.All()), who, l.TTL)
	}
	return fmt.Sprintf("%s leased to %s (pid %d)", PortsAre(l.All()), who, l.Identity.PID)
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
// *errdefs.InputError.
func (m *Manager) openHolder(by access.Caller, o Holder) (*proc.Process, error) {
	if o.PID == 0 {
		return nil, nil
	}
	switch w, isWorker := m.workers.LiveByPID(o.PID); {
	case o.PID == 1:
		return nil, errdefs.BadField("pid", "is 1; init cannot hold a lease")
	case o.PID == os.Getpid():
		return nil, errdefs.BadField("pid", fmt.Sprintf("is %d, which is hive itself", o.PID))
	case isWorker:
		return nil, errdefs.BadField("pid", fmt.Sprintf("is %d, which is worker %s: hive leases its ports itself (ports in its entry)", o.PID, w.WorkerID))
	case proc.KernelThread(o.PID):
		return nil, errdefs.BadField("pid", fmt.Sprintf("is %d, which is a thread of the kernel", o.PID))
	}
	id, err := proc.Identify(o.PID)
	if errors.Is(err, proc.ErrGone) {
		return nil, errdefs.BadField("pid", fmt.Sprintf("is %d; no such process runs where hive can see it", o.PID))
	}
	if err != nil {
		return nil, fmt.Errorf("look at the holder: %w", err)
	}
	if o.StartTime != 0 && o.StartTime != id.StartTicks {
		return nil, errdefs.BadField("start_time", fmt.Sprintf("is %d, but process %d was started at %d: the PID means another process here", o.StartTime, o.PID, id.StartTicks))
	}
	// From here on by pidfd: a later process with this PID is another one.
	p, _, err := proc.Adopt(id)
	if err != nil {
		return nil, errdefs.BadField("pid", fmt.Sprintf("is %d; it cannot be followed: %v", o.PID, err))
	}
	// Only now: the user of the adopted process, not of whoever has the number next.
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
		return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: "pid", Detail: by.String() + " is not known to be a user of this machine, and may name no process; take ttl instead"}
	}
	uid, err := p.UID()
	if err != nil {
		return errdefs.BadField("pid", fmt.Sprintf("is %d; it cannot be seen whose process that is: %v", p.PID(), err))
	}
	if uid != by.UID {
		return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: "pid", Detail: fmt.Sprintf(
			"is %d, a process of the user with uid %d; the caller has uid %d and may name processes of their own (root may name any)", p.PID(), uid, by.UID)}
	}
	return nil
}

// Renew renews a ttl lease, or gives a lease another holder: a process, or
// renewals within a ttl. A renewal counts from now and is not written to the file,
// because a start gives every ttl lease its whole time again; anything else is
// durable when it returns. It blocks for the commit.
//
// Errors: *errdefs.InputError, of kind errdefs.ErrForbidden for a lease that somebody else has
// acquired; errdefs.ErrNotFound if the port has no lease; errdefs.ErrConflict if it has
// another, or a worker's, or it has ended and the port is quarantined;
// store.ErrDiskFull; ctx's.
func (m *Manager) Renew(ctx context.Context, by access.Caller, port uint16, r Renewal) (store.Lease, error) {
	if !m.run.Serving() {
		return store.Lease{}, errdefs.ErrRecovering
	}
	p, err := m.openHolder(by, r.Holder)
	if err != nil {
		return store.Lease{}, err
	}
	l, err := m.renew(ctx, by, port, r, p)
	if err != nil && p != nil {
		p.Close()
	}
	return l, err
}

func (m *Manager) renew(ctx context.Context, by access.Caller, port uint16, r Renewal, p *proc.Process) (store.Lease, error) {
	ls, err := m.find(port, r.LeaseID)
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
			return store.Lease{}, errdefs.BadField("pid", "is required, or ttl: a lease that lives as long as a process needs no renewal, only another holder")
		}
		r.TTL = l.TTL
	}
	// However late it is: as long as the lease has not been ended nobody else has the port, and
	// a renewal may have waited in a socket while hive was frozen.
	before := l
	// Whoever renews it shows that it is held, even if its holder could not be verified.
	l.State, l.Reason = store.LeaseHeld, ""
	l = heldBy(l, r.Holder, p)
	// A mere renewal costs no commit: holders renew every few seconds.
	if l.Kind != before.Kind || l.TTL != before.TTL || l.Kind == store.LeaseProcess {
		err := m.journal.Commit(ctx, func(b *journal.Batch) error {
			if err := b.PutLease(l); err != nil {
				return err
			}
			return Event(b, store.EventPort, l, acquiredMessage(l))
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

// Release ends a lease, with all of its ports. They are free when it returns
// true; where somebody still listens they are quarantined, and asking again, when
// nobody does any more, frees them. It blocks for a read of the socket table and
// the commit. Errors: those of Renew.
func (m *Manager) Release(by access.Caller, port uint16, leaseID string) (freed bool, err error) {
	if !m.run.Serving() {
		return false, errdefs.ErrRecovering
	}
	ls, err := m.find(port, leaseID)
	var held *quarantinedError
	if errors.As(err, &held) {
		if err := ownLease(by, held.lease); err != nil {
			return false, err
		}
		// Its holder asks, so one look is enough.
		if endpoint.WhyHeld(m.sockets, held.lease.All()) != "" {
			return false, nil
		}
		return true, m.freeQuarantined(held.lease, "released by its holder")
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

// ownLease refuses a lease that somebody else has acquired. Its id is no secret.
func ownLease(by access.Caller, l store.Lease) error {
	if by.Rights.May(access.Admin) || by.Same(l.Requester) {
		return nil
	}
	return &errdefs.InputError{Kind: errdefs.ErrForbidden, Detail: fmt.Sprintf(
		"the lease of port %d was acquired by %s, and only they and admins may renew or release it; the caller is %s", l.Port, access.Name(l.Requester), by)}
}
