package hive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/hardware"
	testprogram "rbeehive/test/program"
)

// An nvidia-smi in hive's PATH tells of the GPUs and, while somebody listens, of who
// uses them. This one is a script with the answers of a real one.
func TestGPUsByTheirTool(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
[ "$LC_ALL" = C ] || exit 9
case "$1" in
--query-gpu=*) echo '0, GPU-5f1c, NVIDIA GeForce RTX 3090, 24576, 8.6' ;;
--query-compute-apps=*) cat ` + dir + `/apps 2>/dev/null ;;
pmon) echo '# gpu pid type sm mem enc dec command'; cat ` + dir + `/pmon 2>/dev/null ;;
esac
exit 0
`
	require.NoError(t, testprogram.Write(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	r := newRig(t, 2)
	r.open()
	devices, err := r.h.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, 2)
	require.Equal(t, hardware.Device{ID: "GPU-0", Name: "NVIDIA GeForce RTX 3090", Kind: hardware.GPU, MemoryMiB: 24576, ComputeCapability: "8.6"}, devices[0])

	w, idle := r.spawn("cpu", map[string]any{"model": "m"}), r.spawn("cpu", map[string]any{"model": "m"})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "apps"), fmt.Appendf(nil, "GPU-5f1c, %d, 9216\nGPU-5f1c, 1, 5\n", w.PID), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pmon"), fmt.Appendf(nil, "    0 %d C 41 3 - - worker\n", w.PID), 0o600))
	next := r.beats()
	b := next()
	for of(b, w.WorkerID).GPUPercent == 0 { // the GPUs are looked at beside the heartbeats
		b = next()
	}
	use := of(b, w.WorkerID)
	require.InDelta(t, 41, use.GPUPercent, 0)
	require.Equal(t, uint64(9216), use.GPUMemoryMiB)
	require.Equal(t, uint64(24576), use.GPUMemoryAllMiB)
	require.Zero(t, of(b, idle.WorkerID).GPUPercent)
	require.Zero(t, of(b, idle.WorkerID).GPUMemoryAllMiB)
}
