package hardware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"rbeehive/store/plain"
)

// card is a GPU of NVIDIA.
type card struct {
	index      int
	uuid, name string
	memoryMiB  uint64
	capability string
}

// errNoTable: nvidia-smi did not write the table that it was asked for.
var errNoTable = errors.New("unexpected output of nvidia-smi")

// queryCards returns the GPUs of NVIDIA by UUID: none where there is no nvidia-smi.
func (inv *Inventory) queryCards(ctx context.Context) (map[string]card, error) {
	smi, err := inv.opts.LookPath("nvidia-smi")
	if err != nil {
		return nil, nil //nolint:nilerr // no driver is no error
	}
	// Drivers before 510 know no compute_cap, and refuse the whole query.
	out, err := inv.opts.Run(ctx, []string{smi, "--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits"})
	fields := 5
	// Not if the time is over: a driver that hangs would do so again.
	if err != nil && ctx.Err() == nil {
		fields = 4
		out, err = inv.opts.Run(ctx, []string{smi, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"})
	}
	if err != nil {
		return nil, fmt.Errorf("query GPUs: %w", err)
	}
	return parseCards(string(out), fields)
}

// parseCards reads lines such as "0, GPU-5f..., NVIDIA A100-SXM4-40GB, 40960, 8.0".
// Other lines, such as warnings and MIG instances, are skipped.
func parseCards(text string, fields int) (map[string]card, error) {
	cards := map[string]card{}
	for line := range strings.Lines(text) {
		f := splitTrimmed(line)
		if len(f) < fields {
			continue
		}
		index, err := strconv.Atoi(f[0])
		if err != nil || index < 0 {
			continue
		}
		// The name is whatever is in the middle: it may have commas.
		c := card{index: index, uuid: f[1], name: strings.Join(f[2:len(f)-fields+3], ", ")}
		c.memoryMiB = parseOrZero(f[len(f)-fields+3])
		if fields == 5 {
			c.capability = capabilityOf(f[len(f)-1])
		}
		c.name = plain.Text(c.name)
		if isUnknown(c.name) {
			c.name = "NVIDIA GPU"
		}
		cards[c.uuid] = c
	}
	// No GPU is an answer; any other text without a table is an error.
	if len(cards) == 0 && !strings.Contains(text, "No devices were found") && strings.TrimSpace(text) != "" {
		first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		return nil, fmt.Errorf("%w: %.100q", errNoTable, first)
	}
	return cards, nil
}

func splitTrimmed(line string) []string {
	f := strings.Split(line, ",")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f
}

// isUnknown reports whether nvidia-smi does not know the value. It writes then:
// [N/A], [Not Supported], [Insufficient Permissions], [Unknown Error], [GPU is lost].
func isUnknown(field string) bool {
	return field == "" || strings.HasPrefix(field, "[") || field == "N/A" || field == "-"
}

func parseOrZero(field string) uint64 {
	n, err := strconv.ParseUint(field, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// capabilityOf is empty for what is not two numbers and a point.
func capabilityOf(field string) string {
	major, minor, ok := strings.Cut(field, ".")
	_, err := strconv.ParseUint(major, 10, 16)
	_, err2 := strconv.ParseUint(minor, 10, 16)
	if !ok || err != nil || err2 != nil {
		return ""
	}
	return field
}

// assignIDs numbers the GPUs: NVIDIA's as nvidia-smi does, which are the numbers of a
// worker's device; AMD's follow.
func assignIDs(cards map[string]card, amd []Device) []Device {
	devices := make([]Device, 0, len(cards)+len(amd)+1)
	next := 0
	for _, c := range slices.SortedFunc(maps.Values(cards), func(a, b card) int { return cmp.Compare(a.index, b.index) }) {
		devices = append(devices, Device{
			ID: gpuID(c.index), Name: c.name, Kind: GPU, MemoryMiB: c.memoryMiB, ComputeCapability: c.capability,
		})
		// By number, not by place: one may be missing in the table.
		next = c.index + 1
	}
	for i, d := range amd {
		d.ID = gpuID(next + i)
		devices = append(devices, d)
	}
	return devices
}

func gpuID(n int) string { return "GPU-" + strconv.Itoa(n) }
