package hardware

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Use is what processes use of the GPUs.
type Use struct {
	Percent   float64 // of the GPU that they use most
	MemoryMiB uint64  // on all of them
	TotalMiB  uint64  // what those have on which they have memory
}

// Account is what each process uses of the GPUs. It does not change. The nil Account
// is that of a machine without them.
type Account struct {
	busy   map[int]map[string]float64 // percent by PID and number of the GPU
	memory map[int]uint64             // MiB by PID
	on     map[int]map[string]uint64  // by PID and UUID: the memory that the GPU has, MiB
}

// Of is the use by several processes together, those of one worker.
func (a *Account) Of(pids []int) (u Use) {
	if a == nil {
		return u
	}
	busy, on := map[string]float64{}, map[string]uint64{}
	for _, pid := range pids {
		u.MemoryMiB += a.memory[pid]
		for gpu, percent := range a.busy[pid] {
			busy[gpu] += percent
			u.Percent = max(u.Percent, min(100, busy[gpu]))
		}
		maps.Copy(on, a.on[pid])
	}
	for _, size := range on {
		u.TotalMiB += size
	}
	return u
}

// Uses returns what processes use of NVIDIA's GPUs; nil where there is no nvidia-smi.
// It blocks for the two programs that it runs, of which one watches for a second, at
// most Options.Limit each. An error says that even memory is not known. That a driver
// cannot tell the utilisation by process is none: it is 0 then.
func (inv *Inventory) Uses(ctx context.Context) (*Account, error) {
	smi, err := inv.opts.Find("nvidia-smi")
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // no driver is no mistake, and nil an account
	}
	if _, err := inv.Devices(ctx); err != nil { // how much memory each has
		return nil, err
	}
	apps, err := inv.ask(ctx, smi, "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits")
	if err != nil {
		return nil, fmt.Errorf("query GPU memory by process: %w", err)
	}
	inv.mu.Lock()
	cards := inv.cards
	inv.mu.Unlock()
	a := &Account{busy: map[int]map[string]float64{}, memory: map[int]uint64{}, on: map[int]map[string]uint64{}}
	a.readApps(apps, cards)
	watched, err := inv.ask(ctx, smi, "pmon", "-c", "1", "-s", "u")
	if err != nil {
		return a, ctx.Err() // not on every GPU
	}
	a.readWatch(watched)
	return a, nil
}

func (inv *Inventory) ask(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, inv.opts.Limit)
	defer cancel()
	out, err := inv.opts.Ask(ctx, argv)
	return string(out), err
}

// readApps reads lines such as "GPU-5f..., 4711, 1024". A process is there once for
// each GPU, or instance of one, that it uses.
func (a *Account) readApps(text string, cards map[string]card) {
	for line := range strings.Lines(text) {
		f := splitTrimmed(line)
		if len(f) != 3 {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil || pid <= 0 {
			continue
		}
		a.memory[pid] += numberOr0(f[2])
		if a.on[pid] == nil {
			a.on[pid] = map[string]uint64{}
		}
		a.on[pid][f[0]] = cards[f[0]].memoryMiB
	}
}

// readWatch reads the table of nvidia-smi pmon. Which columns there are depends on
// the driver: the first line names them. A GPU without processes has a line of
// dashes, and what is not known is one.
func (a *Account) readWatch(text string) {
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
		if a.busy[pid] == nil {
			a.busy[pid] = map[string]float64{}
		}
		a.busy[pid][f[gpuAt]] = min(100, percent)
	}
}
