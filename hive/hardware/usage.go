package hardware

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Usage is the GPU usage of processes.
type Usage struct {
	Percent   float64 // utilization of the GPU that they use most
	MemoryMiB uint64  // on all of them
	TotalMiB  uint64  // what those have on which they have memory
}

// Usages is the GPU usage of each process. It does not change. The nil Usages is that of
// a machine without GPUs.
type Usages struct {
	percent    map[int]map[string]float64 // utilization by PID and number of the GPU
	memory     map[int]uint64             // MiB by PID
	cardMemory map[int]map[string]uint64  // by PID and UUID: the memory that the GPU has, MiB
}

// Of is the usage of several processes together, those of one worker.
func (a *Usages) Of(pids []int) (u Usage) {
	if a == nil {
		return u
	}
	percent, cardMemory := map[string]float64{}, map[string]uint64{}
	for _, pid := range pids {
		u.MemoryMiB += a.memory[pid]
		for gpu, p := range a.percent[pid] {
			percent[gpu] += p
			// Rounded numbers may add up to more than 100.
			u.Percent = max(u.Percent, min(100, percent[gpu]))
		}
		maps.Copy(cardMemory, a.cardMemory[pid])
	}
	for _, size := range cardMemory {
		u.TotalMiB += size
	}
	return u
}

// Usages returns what processes use of NVIDIA's GPUs; nil where there is no nvidia-smi.
// It blocks for the two programs that it runs, of which one samples for a second, at
// most Options.Timeout each. An error says that even memory is not known. A driver that
// does not report the utilization by process is no error: it is 0 then.
func (inv *Inventory) Usages(ctx context.Context) (*Usages, error) {
	smi, err := inv.opts.LookPath("nvidia-smi")
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // no driver is no error, and nil a valid Usages
	}
	if _, err := inv.Devices(ctx); err != nil { // how much memory each has
		return nil, err
	}
	apps, err := inv.run(ctx, smi, "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits")
	if err != nil {
		return nil, fmt.Errorf("query GPU memory by process: %w", err)
	}
	inv.mu.Lock()
	cards := inv.cards
	inv.mu.Unlock()
	a := &Usages{percent: map[int]map[string]float64{}, memory: map[int]uint64{}, cardMemory: map[int]map[string]uint64{}}
	a.readApps(apps, cards)
	pmon, err := inv.run(ctx, smi, "pmon", "-c", "1", "-s", "u")
	if err != nil {
		return a, ctx.Err() // not on every GPU
	}
	a.readPmon(pmon)
	return a, nil
}

func (inv *Inventory) run(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, inv.opts.Timeout)
	defer cancel()
	out, err := inv.opts.Run(ctx, argv)
	return string(out), err
}

// readApps reads lines such as "GPU-5f..., 4711, 1024". A process is there once for
// each GPU, or instance of one, that it uses.
func (a *Usages) readApps(text string, cards map[string]card) {
	for line := range strings.Lines(text) {
		f := splitTrimmed(line)
		if len(f) != 3 {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil || pid <= 0 {
			continue
		}
		a.memory[pid] += parseOrZero(f[2])
		if a.cardMemory[pid] == nil {
			a.cardMemory[pid] = map[string]uint64{}
		}
		// By GPU: one that is used by several instances counts once.
		a.cardMemory[pid][f[0]] = cards[f[0]].memoryMiB
	}
}

// readPmon reads the table of nvidia-smi pmon. Which columns there are depends on the
// driver: the first line names them. A GPU without processes has a line of dashes, and a
// value that is not known is a dash.
func (a *Usages) readPmon(text string) {
	columns := map[string]int{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "#" {
			for i, name := range f[1:] {
				columns[name] = i
			}
			continue
		}
		gpuAt, ok := columns["gpu"]
		pidAt, ok2 := columns["pid"]
		smAt, ok3 := columns["sm"]
		if !ok || !ok2 || !ok3 || len(f) <= max(gpuAt, pidAt, smAt) {
			continue
		}
		pid, err := strconv.Atoi(f[pidAt])
		percent, err2 := strconv.ParseFloat(f[smAt], 64)
		if err != nil || err2 != nil || pid <= 0 || !(percent >= 0) { // NaN is a number to ParseFloat
			continue
		}
		if a.percent[pid] == nil {
			a.percent[pid] = map[string]float64{}
		}
		a.percent[pid][f[gpuAt]] = min(100, percent)
	}
}
