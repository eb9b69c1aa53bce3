package services

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// State is how far a service is that is wanted and has no worker yet.
type State string

// The states of a service that is wanted.
const (
	Queued   State = "queued"   // it waits for its turn, or for what it starts after
	Starting State = "starting" // its job goes on; the worker may be there already
	Backoff  State = "backoff"  // the last start has failed, and the next is at NextTry; or it waits for a port that somebody else has
	Failed   State = "failed"   // the last start has failed, and there is no other one
)

// States returns all of them.
func States() []State { return []State{Queued, Starting, Backoff, Failed} }

// Wanted is a service that should run and has no worker, or none yet that is ready.
type Wanted struct {
	Name    string // of the entry
	State   State
	Reason  string // for a person: what it waits for, or why the last start failed
	Failed  int    // how many starts have failed
	NextTry time.Time
	JobID   string // of the start that goes on, or of the last; empty: none
	Since   time.Time
}

// Workers is what is known of the workers.
type Workers interface {
	// Missing reports whether no worker of a type lives, and the last was not stopped on
	// request.
	Missing(workerType string) bool
	// Live returns the records of the living workers.
	Live() []store.Worker
	// Waiting says what the start that a job makes waits for, because somebody else has it;
	// empty: nothing.
	Waiting(jobID string) string
	// Preflight says what a start would fail for at once. It may read files.
	Preflight(ctx context.Context, op operation.Spawn) error
}

// Jobs is the queue of jobs.
type Jobs interface {
	Submit(ctx context.Context, by access.Caller, key string, op operation.Operation, raw json.RawMessage) (store.Job, error)
	// Wait blocks until the job has ended or ctx ends.
	Wait(ctx context.Context, id string) (store.Job, error)
}

// Options is what services are made from.
type Options struct {
	Run      *run.State
	Types    func() *catalog.Catalog
	Parallel func() int                                     // how many are started at once
	Check    func(operation.Spawn) (operation.Spawn, error) // a spawn as it is carried out; the error is what its type does not take
	Workers  Workers
	Jobs     Jobs
	Log      *logrus.Logger
}

// Services starts what is wanted. Its methods are safe for concurrent use and do not block.
type Services struct {
	o    Options
	wake chan struct{} // holds one token when there may be something to do

	mu     sync.Mutex // nothing else is locked while it is held
	wanted map[string]*service
	turn   chan struct{} // closed when the start that was begun last has submitted its job
}

// service is a service that is wanted. Services.mu protects it.
type service struct {
	Wanted
	busy bool // its start goes on
}

// New returns services that do nothing until Begin and Run.
func New(o Options) *Services {
	begun := make(chan struct{})
	close(begun) // nobody is before the first
	return &Services{o: o, wake: make(chan struct{}, 1), wanted: map[string]*service{}, turn: begun}
}

// Begin makes every service wanted that has no worker. Those that wait for their next try,
// or had none left, are tried at once: who calls it may have mended them.
func (s *Services) Begin() {
	var missing []string
	for _, typ := range s.entries() {
		if s.o.Workers.Missing(typ.Name) {
			missing = append(missing, typ.Name)
		}
	}
	s.mu.Lock()
	for _, name := range missing {
		v := s.wanted[name]
		if v == nil {
			v = &service{Wanted: Wanted{Name: name, State: Queued, Since: time.Now()}}
			s.wanted[name] = v
		}
		if !v.busy {
			v.State, v.NextTry = Queued, time.Time{}
		}
	}
	s.mu.Unlock()
	s.signal()
}

// Wanted returns the services that should run and have no worker yet, in the order of the
// configuration.
func (s *Services) Wanted() []Wanted {
	s.mu.Lock()
	list := make([]Wanted, 0, len(s.wanted))
	for _, v := range s.wanted {
		list = append(list, v.Wanted)
	}
	s.mu.Unlock()
	for i, v := range list {
		// Its job goes on, and it is no nearer to running than one whose start has failed.
		if why := s.o.Workers.Waiting(v.JobID); v.State == Starting && why != "" {
			list[i].State, list[i].Reason = Backoff, why
		}
	}
	types := s.o.Types()
	order := func(w Wanted) int {
		typ, ok := types.Type(w.Name)
		if !ok {
			return 0
		}
		return typ.Order
	}
	slices.SortFunc(list, func(a, b Wanted) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// entries are the autostart entries, in the order of the configuration.
func (s *Services) entries() []*catalog.Type {
	types := slices.DeleteFunc(s.o.Types().Types(), func(t *catalog.Type) bool { return !t.Autostart })
	slices.SortFunc(types, func(a, b *catalog.Type) int { return cmp.Compare(a.Order, b.Order) })
	return types
}

func (s *Services) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
