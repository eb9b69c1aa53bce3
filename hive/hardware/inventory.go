package hardware

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// fresh is how old an answer may be without a new look.
	fresh = 30 * time.Second
	// longestPause is between looks that fail.
	longestPause = 10 * time.Minute
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

// Program runs a program that only says something and returns what it wrote; argv[0]
// is a path. It blocks until the program has ended, or ctx has.
type Program func(ctx context.Context, argv []string) ([]byte, error)

// Options is what an Inventory is made from.
type Options struct {
	// Ask runs nvidia-smi; required.
	Ask Program
	// Find returns the path of a program; required.
	Find func(name string) (string, error)
	// Go runs f beside the caller, and returns false if that is no longer possible.
	// Required: whoever makes an Inventory waits for what it has begun.
	Go func(f func()) bool
	// Root is where proc and sys are; empty: /.
	Root string
	// Limit is how long a look may take; 0: 5 s.
	Limit time.Duration
	Log   *logrus.Logger
}

// Inventory knows the devices. It is safe for concurrent use.
type Inventory struct {
	opts Options

	mu      sync.Mutex
	devices []Device
	cards   map[string]card // NVIDIA's, by UUID
	looked  time.Time       // when it was last looked; zero: never
	looking chan struct{}   // closed at the end of the look under way; nil: there is none
	pause   time.Duration   // until the next look after one that failed; 0: it did not
	problem string          // of the last look, so that it is logged once
}

// New makes an Inventory that has not looked yet.
func New(opts Options) *Inventory {
	if opts.Limit == 0 {
		opts.Limit = 5 * time.Second
	}
	if opts.Root == "" {
		opts.Root = "/"
	}
	return &Inventory{opts: opts}
}

// Devices returns the GPUs, then the CPU. The first call blocks for the first look, at
// most as long as that may take; later ones do not block. Errors: ctx's, and
// context.Canceled if nothing can be begun any more.
func (inv *Inventory) Devices(ctx context.Context) ([]Device, error) {
	inv.mu.Lock()
	known := inv.devices
	if inv.looking == nil && time.Since(inv.looked) >= max(fresh, inv.pause) {
		done := make(chan struct{})
		if inv.opts.Go(func() { inv.look(done) }) {
			inv.looking = done
		}
	}
	looking := inv.looking
	inv.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if looking == nil {
		return nil, context.Canceled
	}
	select {
	case <-looking:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.devices, nil
}

// look looks once at everything.
func (inv *Inventory) look(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), inv.opts.Limit)
	defer cancel()
	cards, err := inv.queryCards(ctx)
	amd := amdDevices(inv.opts.Root)
	cpu := cpuDevice(inv.opts.Root)

	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.tell(err)
	switch {
	case err == nil:
		inv.cards, inv.pause = cards, 0
	case errors.Is(err, context.DeadlineExceeded): // busy, or stuck: the GPUs are what they were
		inv.pause = min(max(fresh, 2*inv.pause), longestPause)
	default: // the driver says that it has none
		inv.cards, inv.pause = nil, min(max(fresh, 2*inv.pause), longestPause)
	}
	inv.devices = append(number(inv.cards, amd), cpu)
	inv.looked, inv.looking = time.Now(), nil
	close(done)
}

// tell logs a problem when it is a new one. inv.mu is held.
func (inv *Inventory) tell(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != inv.problem && inv.opts.Log != nil {
		inv.opts.Log.WithError(err).Warn("nvidia-smi gives no account of the GPUs")
	}
	inv.problem = problem
}
