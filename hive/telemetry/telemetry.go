package telemetry

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/hive/hardware"
	"rbeehive/hive/proc"
	"rbeehive/hive/run"
	"rbeehive/hive/supervisor"
	"rbeehive/store"

	"github.com/sirupsen/logrus"
)

const (
	// MaxUnsent is how many heartbeats are kept for a listener that takes none.
	MaxUnsent = 8
	// gpuInterval is between looks at the use of the GPUs, each of which takes about a
	// second of nvidia-smi.
	gpuInterval = time.Second
	// maxGPUInterval is that after looks that failed.
	maxGPUInterval = 5 * time.Minute
)

// Heartbeat is what all workers with a process use. It does not change.
type Heartbeat struct {
	At      time.Time
	Workers []WorkerUse // by port
}

// WorkerUse is what one worker with all of its processes uses. Rates are those since
// the heartbeat before, 0 in the first of a process.
type WorkerUse struct {
	WorkerID        string
	Type            string
	Port            uint16
	PID             int    // of its main process
	Model           string // as it was asked for; empty: none
	Ready           bool   // it serves
	Uptime          time.Duration
	CPUPercent      float64 // of one core: 200 are two
	RSS             uint64  // bytes; what processes share counts for each of them
	ReadPerSecond   float64 // bytes from storage
	WritePerSecond  float64 // bytes to storage
	GPUPercent      float64 // of the GPU that it uses most; 0: none, or not known
	GPUMemoryMiB    uint64  // that it uses
	GPUMemoryAllMiB uint64  // that the GPUs have on which it does
}

// Options are what Telemetry is made from. All are needed.
type Options struct {
	Run       *run.State
	Every     time.Duration               // between two heartbeats
	Processes func() []supervisor.Process // of the live workers
	Devices   *hardware.Inventory
	Listeners func(n int) // is told how many listen, when that changes
	Log       *logrus.Logger
}

// Telemetry takes samples while somebody listens, one for all listeners. Its methods are
// safe for concurrent use.
type Telemetry struct {
	o    Options
	gpus atomic.Pointer[hardware.Usages]

	mu        sync.Mutex // nothing of another package but run's is locked while it is held
	listeners map[chan *Heartbeat]bool
	stop      context.CancelFunc // of the sampling under way; nil: there is none
}

// New returns a Telemetry to which nobody listens.
func New(o Options) *Telemetry { return &Telemetry{o: o, listeners: map[chan *Heartbeat]bool{}} }

// Heartbeats are sent about every second from the first second on, until ctx ends or
// the hive closes. One who is slow to take them loses the oldest. While nobody
// listens, nothing is looked at. The sequence can be used once.
func (t *Telemetry) Heartbeats(ctx context.Context) iter.Seq[*Heartbeat] {
	return func(yield func(*Heartbeat) bool) {
		// Buffered, so that publish never waits for a slow connection.
		beats := make(chan *Heartbeat, MaxUnsent)
		if !t.join(beats) {
			return
		}
		defer t.leave(beats)
		for {
			select {
			case b := <-beats:
				if !yield(b) {
					return
				}
			case <-ctx.Done():
				return
			case <-t.o.Run.Context().Done():
				return
			}
		}
	}
}

// join returns false if the hive closes.
func (t *Telemetry) join(beats chan *Heartbeat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop == nil {
		ctx, cancel := context.WithCancel(t.o.Run.Context())
		// Under the lock: two who join at once share one sampling.
		if !t.o.Run.Go(func() { t.sample(ctx) }) {
			cancel()
			return false
		}
		t.stop = cancel
	}
	t.listeners[beats] = true
	t.o.Listeners(len(t.listeners))
	return true
}

func (t *Telemetry) leave(beats chan *Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, beats)
	t.o.Listeners(len(t.listeners))
	if len(t.listeners) == 0 {
		// A sample walks /proc: none is taken when nobody listens.
		t.stop()
		t.stop = nil
	}
}

// sample takes samples and hands them out until ctx ends.
func (t *Telemetry) sample(ctx context.Context) {
	var gpus sync.WaitGroup
	defer gpus.Wait()
	gpus.Go(func() { t.watchGPUs(ctx) })
	meter := proc.NewMeter()
	// Rates need two samples, so this one is not sent.
	if _, err := t.take(ctx, meter); err != nil && ctx.Err() == nil {
		t.o.Log.WithError(err).Warn("what workers use cannot be measured")
	}
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if b, err := t.take(ctx, meter); err == nil {
			t.publish(ctx, b)
		}
	}
}

// publish gives a heartbeat to every listener. It never blocks: nobody else sends, so
// when the oldest was taken out there is room. One that has been stopped publishes
// nothing more; the sampling after it does.
func (t *Telemetry) publish(ctx context.Context, b *Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	for beats := range t.listeners {
		select {
		case beats <- b:
			continue
		default:
		}
		select {
		case <-beats:
		default: // the listener has just taken it
		}
		beats <- b
	}
}

// take measures all workers that have a process.
func (t *Telemetry) take(ctx context.Context, meter *proc.Meter) (*Heartbeat, error) {
	processes := slices.DeleteFunc(t.o.Processes(), func(p supervisor.Process) bool { return p.Worker.State.Ended() || p.Tree.Main.Ended() })
	trees := make([]*proc.Tree, 0, len(processes))
	for _, p := range processes {
		trees = append(trees, p.Tree)
	}
	usages, err := meter.Measure(ctx, trees)
	if err != nil {
		return nil, err
	}
	gpus := t.gpus.Load()
	b := &Heartbeat{At: time.Now().UTC(), Workers: make([]WorkerUse, 0, len(processes))}
	for i, p := range processes {
		if p.Tree.Main.Ended() {
			continue // meanwhile
		}
		b.Workers = append(b.Workers, useOf(p.Worker, usages[i], gpus, b.At))
	}
	return b, nil
}

func useOf(rec store.Worker, u proc.Usage, gpus *hardware.Usages, now time.Time) WorkerUse {
	w := WorkerUse{
		WorkerID: rec.WorkerID, Type: rec.Type, Port: rec.Port, Model: cmp.Or(rec.Asked.Model, rec.Spec.Model),
		Ready: rec.State == store.WorkerReady, Uptime: max(0, now.Sub(rec.StartedAt)), RSS: u.RSS,
	}
	if rec.Identity != nil {
		w.PID = rec.Identity.PID
	}
	// 0 in the first sample of a process.
	if seconds := u.Over.Seconds(); seconds > 0 {
		w.CPUPercent = 100 * u.CPU.Seconds() / seconds
		w.ReadPerSecond = float64(u.Read) / seconds
		w.WritePerSecond = float64(u.Written) / seconds
	}
	use := gpus.Of(u.PIDs)
	w.GPUPercent, w.GPUMemoryMiB, w.GPUMemoryAllMiB = use.Percent, use.MemoryMiB, use.TotalMiB
	return w
}

// watchGPUs looks at the use of the GPUs again and again. It is apart from the
// heartbeats, which a slow nvidia-smi must not hold up.
func (t *Telemetry) watchGPUs(ctx context.Context) {
	// Too old for whoever listens next.
	defer t.gpus.Store(nil)
	pause := gpuInterval
	for {
		account, err := t.o.Devices.Usages(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			// A driver that hangs or fails is asked more and more rarely.
			pause = min(2*pause, maxGPUInterval)
			t.o.Log.WithError(err).Debug("the use of the GPUs is not known")
		case account == nil: // no driver; one may be installed
			pause = maxGPUInterval
		default:
			pause = gpuInterval
		}
		t.gpus.Store(account)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Devices returns what this machine has to run models on: GPUs, then the CPU. The first
// call waits for a look at them, a few seconds at most; later ones answer with what is
// known. Errors: ctx's, and that the hive closes.
func (t *Telemetry) Devices(ctx context.Context) ([]hardware.Device, error) {
	return t.o.Devices.Devices(ctx)
}
