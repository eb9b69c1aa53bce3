package hive

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
	"rbeehive/store"
)

const (
	// unsent is how many heartbeats are kept for a listener that takes none.
	unsent = 8
	// gpuPause is between looks at the use of the GPUs, each of which takes about a
	// second of nvidia-smi.
	gpuPause = time.Second
	// longestGPUPause is that after looks that failed.
	longestGPUPause = 5 * time.Minute
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

// telemetry takes samples while somebody listens, one for all listeners.
type telemetry struct {
	h     *Hive
	every time.Duration
	gpus  atomic.Pointer[hardware.Usages]

	mu        sync.Mutex
	listeners map[chan *Heartbeat]bool
	stop      context.CancelFunc // of the sampling under way; nil: there is none
}

func newTelemetry(h *Hive) *telemetry {
	return &telemetry{h: h, every: h.cfg.HeartbeatEvery, listeners: map[chan *Heartbeat]bool{}}
}

// Heartbeats are sent about every second from the first second on, until ctx ends or
// the hive closes. One who is slow to take them loses the oldest. While nobody
// listens, nothing is looked at. The sequence can be used once.
func (h *Hive) Heartbeats(ctx context.Context) iter.Seq[*Heartbeat] {
	return func(yield func(*Heartbeat) bool) {
		beats := make(chan *Heartbeat, unsent)
		if !h.beats.join(beats) {
			return
		}
		defer h.beats.leave(beats)
		for {
			select {
			case b := <-beats:
				if !yield(b) {
					return
				}
			case <-ctx.Done():
				return
			case <-h.ctx.Done():
				return
			}
		}
	}
}

// join returns false if the hive closes.
func (t *telemetry) join(beats chan *Heartbeat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop == nil {
		ctx, cancel := context.WithCancel(t.h.ctx)
		if !t.h.spawnGoroutine(func() { t.sample(ctx) }) {
			cancel()
			return false
		}
		t.stop = cancel
	}
	t.listeners[beats] = true
	t.h.queens.SetListeners(len(t.listeners))
	return true
}

func (t *telemetry) leave(beats chan *Heartbeat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, beats)
	t.h.queens.SetListeners(len(t.listeners))
	if len(t.listeners) == 0 {
		t.stop()
		t.stop = nil
	}
}

// sample takes samples and hands them out until ctx ends.
func (t *telemetry) sample(ctx context.Context) {
	var gpus sync.WaitGroup
	defer gpus.Wait()
	gpus.Go(func() { t.watchGPUs(ctx) })
	meter := proc.NewMeter()
	if _, err := t.take(ctx, meter); err != nil && ctx.Err() == nil {
		t.h.cfg.Log.WithError(err).Warn("what workers use cannot be measured")
	}
	tick := time.NewTicker(t.every)
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
func (t *telemetry) publish(ctx context.Context, b *Heartbeat) {
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
func (t *telemetry) take(ctx context.Context, meter *proc.Meter) (*Heartbeat, error) {
	recs, trees := t.h.measurable()
	usages, err := meter.Measure(ctx, trees)
	if err != nil {
		return nil, err
	}
	gpus := t.gpus.Load()
	b := &Heartbeat{At: time.Now().UTC(), Workers: make([]WorkerUse, 0, len(recs))}
	for i, rec := range recs {
		if trees[i].Main.Ended() {
			continue // meanwhile
		}
		b.Workers = append(b.Workers, useOf(rec, usages[i], gpus, b.At))
	}
	return b, nil
}

// measurable returns the workers that have a process, by port.
func (h *Hive) measurable() (recs []store.Worker, trees []*proc.Tree) {
	list := slices.DeleteFunc(h.signallable(), func(w *worker) bool {
		rec, tree := w.record(), w.tree()
		return rec.State.Ended() || tree.Main == nil || tree.Main.Ended()
	})
	slices.SortFunc(list, func(a, b *worker) int { return byPort(a.record(), b.record()) })
	for _, w := range list {
		if tree := w.tree(); tree.Main != nil {
			recs, trees = append(recs, w.record()), append(trees, tree)
		}
	}
	return recs, trees
}

func useOf(rec store.Worker, u proc.Usage, gpus *hardware.Usages, now time.Time) WorkerUse {
	w := WorkerUse{
		WorkerID: rec.WorkerID, Type: rec.Type, Port: rec.Port, Model: cmp.Or(rec.Asked.Model, rec.Spec.Model),
		Ready: rec.State == store.WorkerReady, Uptime: max(0, now.Sub(rec.StartedAt)), RSS: u.RSS,
	}
	if rec.Identity != nil {
		w.PID = rec.Identity.PID
	}
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
func (t *telemetry) watchGPUs(ctx context.Context) {
	defer t.gpus.Store(nil)
	pause := gpuPause
	for {
		account, err := t.h.devices.Usages(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			pause = min(2*pause, longestGPUPause)
			t.h.cfg.Log.WithError(err).Debug("the use of the GPUs is not known")
		case account == nil: // no driver; one may be installed
			pause = longestGPUPause
		default:
			pause = gpuPause
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
