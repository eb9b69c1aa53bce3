package audit

import (
	"context"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/proc"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// Workers are the workers of the hive.
type Workers interface {
	Processes() []supervisor.Process
	Recheck(workerID string)
	TreeOfLease(l store.Lease) *proc.Tree
}

// Options are what an Auditor is made from. All are needed.
type Options struct {
	Journal   *journal.Journal
	Alloc     *alloc.Allocator
	Sockets   *sockets.Table
	Range     alloc.Range
	Workers   Workers
	StateID   string
	Secret    []byte
	Relocated bool // the first start with a state file that was copied or restored
	// Review lets the owners of records act on what they could not before; it is called
	// at the beginning of each audit, by one goroutine at a time.
	Review      func(ctx context.Context)
	KillOrphans func() bool // what ended leases have left behind is ended
	Log         *logrus.Logger
}

// Auditor compares records, processes and listeners.
type Auditor struct {
	journal     *journal.Journal
	alloc       *alloc.Allocator
	sockets     *sockets.Table
	ports       alloc.Range
	workers     Workers
	stateID     string
	secret      []byte
	relocated   bool
	review      func(ctx context.Context)
	killOrphans func() bool
	log         *logrus.Logger

	turn lock.Ranked[lock.AuditTurn] // held by the audit that runs
	last atomic.Pointer[Report]
}

// New returns an auditor that has not seen anything yet.
func New(o Options) *Auditor {
	return &Auditor{
		journal: o.Journal, alloc: o.Alloc, sockets: o.Sockets, ports: o.Range, workers: o.Workers, stateID: o.StateID, secret: o.Secret,
		relocated: o.Relocated, review: o.Review, killOrphans: o.KillOrphans, log: o.Log,
	}
}

// maxProcReaders is how many read /proc at once: more only make threads.
const maxProcReaders = 4
