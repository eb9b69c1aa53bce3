package hive

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// Shutdown says what happens to the workers when the daemon stops.
type Shutdown string

// What can happen to the workers when the daemon stops.
const (
	ShutdownKeep Shutdown = "keep"
	ShutdownStop Shutdown = "stop"
)

// Config is all a Hive is made from.
type Config struct {
	HiveID   string
	Version  string
	DataDir  string // absolute
	URL      string // what others reach the API by
	QueenURL string
	APIPorts []uint16 // ports the API listens on; never leased
	Ports    PortsConfig
	Jobs     JobsConfig
	Catalog  *catalog.Catalog
	Shutdown Shutdown
	// WorkersKeep is how long a dead worker's record and log stay.
	WorkersKeep time.Duration
	// AuditInterval is how often unverified and quarantined leases are judged again.
	AuditInterval time.Duration
	TakeOver      bool
	Log           *logrus.Logger
}

// PortsConfig is the port pool.
type PortsConfig struct {
	Range    alloc.Range
	Reserved []alloc.Range
	Policy   alloc.Policy
}

// JobsConfig bounds the jobs.
type JobsConfig struct {
	Retention   time.Duration // how long an ended job stays
	MaxQueued   int           // more are refused with ErrQueueFull
	MaxQueueAge time.Duration // a job queued longer is failed as expired
	StreamWait  time.Duration // longest life of an rbee stream of a running job
}

type Hive struct{}

func Open(ctx context.Context, cfg Config) (*Hive, error) { panic("stub") }
func (h *Hive) Recover(ctx context.Context) error { panic("stub") }
func (h *Hive) Run(ctx context.Context) error { panic("stub") }
func (h *Hive) StopWorkers(ctx context.Context) error { panic("stub") } // stops every worker
func (h *Hive) Close() error { panic("stub") }

func (h *Hive) Status() Status { panic("stub") }
func (h *Hive) Info() Info { panic("stub") }

type Operation interface{ Tag() string }

func (h *Hive) Decode(body []byte) (Operation, error) { panic("stub") }
func (h *Hive) Submit(ctx context.Context, op Operation, raw json.RawMessage) (store.Job, error) { panic("stub") }
func (h *Hive) Job(id string) (store.Job, error) { panic("stub") }
func (h *Hive) WaitJob(ctx context.Context, id string) (store.Job, error) { panic("stub") }
func (h *Hive) Jobs(f JobFilter) (jobs []store.Job, next string, err error) { panic("stub") }
func (h *Hive) Cancel(ctx context.Context, id string) (store.Job, error) { panic("stub") }
func (h *Hive) JobEvents(ctx context.Context, id string, after uint64) (iter.Seq2[store.Event, error], error) { panic("stub") }

func (h *Hive) Workers() []store.Worker { panic("stub") }
func (h *Hive) Worker(ref string) (store.Worker, error) { panic("stub") }
func (h *Hive) WorkerEvents(id string, after uint64, limit int) ([]store.Event, error) { panic("stub") }
func (h *Hive) Leases() ([]store.Lease, error) { panic("stub") }
func (h *Hive) Lease(port uint16) (store.Lease, error) { panic("stub") }
func (h *Hive) Ports(ctx context.Context) (PortsView, error) { panic("stub") }
