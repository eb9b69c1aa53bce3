package hardware

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxAge is how old the devices may be before a call refreshes them.
	maxAge = 30 * time.Second
	// maxBackoff is the longest pause between refreshes that fail.
	maxBackoff = 10 * time.Minute
)

// Kind is what a device is.
type Kind string

// The kinds.
const (
	GPU Kind = "gpu"
	CPU Kind = "cpu"
)

// Device is something that a model runs on.
type Device struct {
	ID                string // GPU-0, GPU-1, ..., CPU-0
	Name              string
	Kind              Kind
	MemoryMiB         uint64 // of a CPU that of the system; 0: not known
	ComputeCapability string // of NVIDIA, as in 8.6; empty: none, or not known
}

// Runner runs a program and returns its output; argv[0] is a path. It blocks until the
// program has ended, or ctx has.
type Runner func(ctx context.Context, argv []string) ([]byte, error)

// Options is what an Inventory is made from.
type Options struct {
	// Run runs nvidia-smi; required.
	Run Runner
	// LookPath returns the path of a program; required.
	LookPath func(name string) (string, error)
	// Go runs f beside the caller, and returns false if that is no longer possible.
	// Required: the owner of an Inventory waits for what it has started.
	Go func(f func()) bool
	// Root is where proc and sys are; empty: /.
	Root string
	// Timeout is how long a refresh may take; 0: 5 s.
	Timeout time.Duration
	Log     *logrus.Logger
}

// Inventory knows the devices. It is safe for concurrent use.
type Inventory struct {
	opts Options

	mu          sync.Mutex
	devices     []Device
	cards       map[string]card // NVIDIA's, by UUID
	refreshedAt time.Time       // zero: never
	refreshing  chan struct{}   // closed at the end of the refresh under way; nil: there is none
	backoff     time.Duration   // until the next refresh after one that failed; 0: it did not
	lastProblem string          // of the last refresh, so that it is logged once
}

// New makes an Inventory that has read nothing yet.
func New(opts Options) *Inventory {
	if opts.Timeout == 0 {
		opts.Timeout = 5 * time.Second
	}
	if opts.Root == "" {
		opts.Root = "/"
	}
	return &Inventory{opts: opts}
}

// Devices returns the GPUs, then the CPU. The first call blocks for the first refresh,
// Options.Timeout at most; later ones do not block. Errors: ctx's, and context.Canceled
// if nothing can be started any more.
func (inv *Inventory) Devices(ctx context.Context) ([]Device, error) {
	inv.mu.Lock()
	known := inv.devices
	// One at a time, and in the background: nvidia-smi takes a second, or hangs with its driver.
	if inv.refreshing == nil && time.Since(inv.refreshedAt) >= max(maxAge, inv.backoff) {
		done := make(chan struct{})
		if inv.opts.Go(func() { inv.refresh(done) }) {
			inv.refreshing = done
		}
	}
	refreshing := inv.refreshing
	inv.mu.Unlock()
	// Rather old than late: devices hardly ever change.
	if known != nil {
		return known, nil
	}
	if refreshing == nil {
		return nil, context.Canceled
	}
	select {
	case <-refreshing:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.devices, nil
}

// refresh reads everything once.
func (inv *Inventory) refresh(done chan struct{}) {
	// Not the caller's context: others wait for it, too.
	ctx, cancel := context.WithTimeout(context.Background(), inv.opts.Timeout)
	defer cancel()
	cards, err := inv.queryCards(ctx)
	amd := amdDevices(inv.opts.Root)
	cpu := cpuDevice(inv.opts.Root)

	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.logProblem(err)
	switch {
	case err == nil:
		inv.cards, inv.backoff = cards, 0
	case errors.Is(err, context.DeadlineExceeded): // busy, or stuck: the GPUs are what they were
		inv.backoff = min(max(maxAge, 2*inv.backoff), maxBackoff)
	default: // the driver says that it has none
		inv.cards, inv.backoff = nil, min(max(maxAge, 2*inv.backoff), maxBackoff)
	}
	inv.devices = append(assignIDs(inv.cards, amd), cpu)
	inv.refreshedAt, inv.refreshing = time.Now(), nil
	close(done)
}

// logProblem logs a problem when it is a new one. inv.mu is held.
func (inv *Inventory) logProblem(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != inv.lastProblem && inv.opts.Log != nil {
		inv.opts.Log.WithError(err).Warn("reading the GPUs by nvidia-smi failed")
	}
	inv.lastProblem = problem
}
