// Package lock has mutexes with a rank. The order in which hive's mutexes may be taken
// is the order of the ranks below (docs/locks.md says why each stands where it does): who
// holds one may take only those behind it. Built with the tag lockrank, which chaos and
// the tests under the race detector use, every Lock checks that and panics on an
// inversion; without it a Mutex is a sync.Mutex.
package lock

import "sync"

// Ranked is a mutex of rank R, held by at most one goroutine. Its zero value is unlocked.
// Two of the same rank may not be held at once.
type Ranked[R Rank] struct {
	mu sync.Mutex
}

// Lock blocks until the mutex is free, and takes it.
func (m *Ranked[R]) Lock() {
	acquire[R]()
	m.mu.Lock()
}

// Unlock frees the mutex.
func (m *Ranked[R]) Unlock() {
	m.mu.Unlock()
	release[R]()
}

// Rank is the place of a kind of mutex in the order.
type Rank interface{ rank() rank }

// rank orders by at; name is for a panic.
type rank struct {
	at   int
	name string
}

// The ranks, in order. What a comment names is what the mutex guards.
type (
	// Installs: one installation or removal of a worker type at a time, with its reload.
	Installs struct{}
	// AuditTurn: one audit at a time, and what reviews remember from one to the next.
	AuditTurn struct{}
	// Prune: one pruning at a time.
	Prune struct{}
	// Tokens: one change of the tokens at a time, its commit included.
	Tokens struct{}
	// ExternalLease: one operation on a lease at a time, its commit included.
	ExternalLease struct{}
	// Leases: the table of external leases.
	Leases struct{}
	// Worker: whether a worker has a supervisor, and what that one is asked.
	Worker struct{}
	// Registry: the tables of workers: living, ended, by name, names that are claimed.
	Registry struct{}
	// Jobs: the table of unfinished jobs.
	Jobs struct{}
	// Order: the order of jobs on one worker.
	Order struct{}
	// Job: one job's record in memory.
	Job struct{}
	// Run: whether hive closes, and what waits until it serves.
	Run struct{}
	// Feed: who waits for events.
	Feed struct{}
)

func (Installs) rank() rank      { return rank{5, "workertype.installs"} }
func (AuditTurn) rank() rank     { return rank{10, "audit.turn"} }
func (Prune) rank() rank         { return rank{20, "prune"} }
func (Tokens) rank() rank        { return rank{30, "tokens"} }
func (ExternalLease) rank() rank { return rank{40, "lease.external"} }
func (Leases) rank() rank        { return rank{50, "lease.table"} }
func (Worker) rank() rank        { return rank{60, "supervisor.worker"} }
func (Registry) rank() rank      { return rank{70, "supervisor.registry"} }
func (Jobs) rank() rank          { return rank{80, "jobs.table"} }
func (Order) rank() rank         { return rank{90, "jobs.order"} }
func (Job) rank() rank           { return rank{100, "jobs.job"} }
func (Run) rank() rank           { return rank{110, "run"} }
func (Feed) rank() rank          { return rank{120, "journal.feed"} }
