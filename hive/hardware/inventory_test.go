package hardware_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/hardware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smi stands in for nvidia-smi: by the first argument, it returns what was recorded in
// a file, or an error.
type smi struct {
	mu      sync.Mutex
	outputs map[string]string // argument up to '=' -> file of testdata/smi; "": exit status 9
	hang    bool
	calls   []string
	running sync.WaitGroup
}

var errStatus = errors.New("exit status 9")

func (s *smi) run(ctx context.Context, argv []string) ([]byte, error) {
	s.mu.Lock()
	s.calls = append(s.calls, argv[1])
	hang := s.hang
	file, ok := s.outputs[argv[1]]
	if !ok {
		name, _, _ := strings.Cut(argv[1], "=")
		file = s.outputs[name]
	}
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if file == "" {
		return nil, errStatus
	}
	return os.ReadFile(filepath.Join("testdata", "smi", file))
}

func (s *smi) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *smi) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *smi) inventory(t *testing.T, root string) *hardware.Inventory {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	t.Cleanup(s.running.Wait)
	return hardware.New(hardware.Options{
		Run: s.run, Root: root, Timeout: 2 * time.Second, Log: log,
		Go: func(f func()) bool { s.running.Go(f); return true },
		LookPath: func(name string) (string, error) {
			if s.outputs == nil {
				return "", os.ErrNotExist
			}
			return "/usr/bin/" + name, nil
		},
	})
}

// tree writes files below a directory that stands for the root of a machine.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

func gpus(t *testing.T, inv *hardware.Inventory) (list []hardware.Device) {
	t.Helper()
	all, err := inv.Devices(t.Context())
	require.NoError(t, err)
	require.Equal(t, hardware.CPU, all[len(all)-1].Kind)
	return all[:len(all)-1]
}

func TestNVIDIA(t *testing.T) {
	const query = "--query-gpu"
	full := query + "=index,uuid,name,memory.total,compute_cap"
	gpu := func(id, name string, mib uint64, capability string) hardware.Device {
		return hardware.Device{ID: id, Name: name, Kind: hardware.GPU, MemoryMiB: mib, ComputeCapability: capability}
	}
	for name, tt := range map[string]struct {
		outputs map[string]string
		want    []hardware.Device
	}{
		"two": {map[string]string{query: "two.txt"}, []hardware.Device{
			gpu("GPU-0", "NVIDIA GeForce RTX 3090", 24576, "8.6"), gpu("GPU-1", "NVIDIA A100-SXM4-40GB", 40960, "8.0"),
		}},
		"a driver without compute_cap":   {map[string]string{full: "", query: "driver470.txt"}, []hardware.Device{gpu("GPU-0", "Tesla T4", 15109, "")}},
		"one that says so and exits 0":   {map[string]string{full: "driver470-refuses.txt", query: "driver470.txt"}, []hardware.Device{}},
		"what cannot be told":            {map[string]string{query: "unknown.txt"}, []hardware.Device{gpu("GPU-0", "NVIDIA GB10", 0, "12.1"), gpu("GPU-1", "GeForce GTX 780", 0, ""), gpu("GPU-2", "NVIDIA GPU", 0, "")}},
		"a name with commas":             {map[string]string{query: "commas.txt"}, []hardware.Device{gpu("GPU-0", "Board, with commas, Rev. 2", 49140, "8.9")}},
		"warnings and instances (MIG)":   {map[string]string{query: "mig.txt"}, []hardware.Device{gpu("GPU-0", "NVIDIA A100-SXM4-40GB", 40960, "8.0")}},
		"a driver that does not answer":  {map[string]string{query: ""}, []hardware.Device{}},
		"words instead of a table":       {map[string]string{query: "no-driver.txt"}, []hardware.Device{}},
		"a driver without GPUs":          {map[string]string{query: "none.txt"}, []hardware.Device{}},
		"a table of something else":      {map[string]string{query: "pmon550.txt"}, []hardware.Device{}},
		"no nvidia-smi on this machine ": {nil, []hardware.Device{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &smi{outputs: tt.outputs}
			require.Equal(t, tt.want, gpus(t, s.inventory(t, t.TempDir())))
		})
	}
}

func TestAMD(t *testing.T) {
	card := func(n, vendor, vram string) map[string]string {
		dir := "sys/class/drm/card" + n + "/device/"
		return map[string]string{dir + "vendor": vendor + "\n", dir + "device": "0x744c\n", dir + "mem_info_vram_total": vram + "\n"}
	}
	files := map[string]string{
		"sys/class/drm/card1/device/product_name": "AMD Instinct MI210\n",
		"sys/class/drm/card1-DP-1/status":         "connected\n",
		"sys/class/drm/version":                   "drm 1.1.0\n",
		"sys/class/drm/card3/device/vendor":       "0x1002\n", // its driver has no memory to show
	}
	for _, c := range []map[string]string{card("1", "0x1002", "68702699520"), card("10", "0x1002", "25753026560"), card("0", "0x8086", "1")} {
		for name, text := range c {
			files[name] = text
		}
	}
	s := &smi{outputs: map[string]string{"--query-gpu": "two.txt"}}
	list := gpus(t, s.inventory(t, tree(t, files)))
	require.Equal(t, []hardware.Device{
		{ID: "GPU-2", Name: "AMD Instinct MI210", Kind: hardware.GPU, MemoryMiB: 65520},
		{ID: "GPU-3", Name: "AMD GPU 0x744c", Kind: hardware.GPU, MemoryMiB: 24560},
	}, list[2:], "they follow those of NVIDIA")
}

func TestMemoryAndItsLimits(t *testing.T) {
	const meminfo = "MemTotal:       65573812 kB\nMemFree:  1 kB\n"
	const unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1 = "36 32 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n37 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  uint64
		cores string
	}{
		"no limit": {map[string]string{
			"proc/self/mountinfo": unified, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n",
		}, 65573812 >> 10, ""},
		"a limit further up": {map[string]string{
			"proc/self/mountinfo": unified, "proc/self/cgroup": "0::/system.slice/hive.service/own\n",
			"sys/fs/cgroup/system.slice/hive.service/memory.max": "8589934592\n", "sys/fs/cgroup/system.slice/hive.service/cpu.max": "50000 100000\n",
			"sys/fs/cgroup/system.slice/memory.max": "max\n", "sys/fs/cgroup/system.slice/hive.service/own/memory.max": "max\n",
		}, 8192, "CPU (1 core)"},
		"a limit above what there is": {map[string]string{
			"proc/self/mountinfo": unified, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1099511627776\n",
		}, 65573812 >> 10, ""},
		"a container with its own namespace": {map[string]string{
			"proc/self/mountinfo": unified, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n",
		}, 1024, ""},
		"a container without": {map[string]string{
			"proc/self/mountinfo": strings.Replace(unified, "/ /sys", "/docker/5f /sys", 1), "proc/self/cgroup": "0::/docker/5f/x\n",
			"sys/fs/cgroup/memory.max": "1073741824\n", "sys/fs/cgroup/x/memory.max": "536870912\n",
		}, 512, ""},
		"version 1": {map[string]string{
			"proc/self/mountinfo": v1, "proc/self/cgroup": "5:memory:/u/h\n4:cpu,cpuacct:/q\n0::/\n",
			"sys/fs/cgroup/memory/u/h/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/u/memory.limit_in_bytes": "2147483648\n",
			"sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, 2048, "CPU (1 core)"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.files["proc/meminfo"] = meminfo
			all, err := (&smi{}).inventory(t, tree(t, tt.files)).Devices(t.Context())
			require.NoError(t, err)
			require.Len(t, all, 1)
			require.Equal(t, "CPU-0", all[0].ID)
			require.Equal(t, tt.want, all[0].MemoryMiB)
			require.Regexp(t, `^CPU \(\d+ cores?\)$`, all[0].Name)
			if tt.cores != "" {
				require.Equal(t, tt.cores, all[0].Name)
			}
		})
	}
}

// This machine has memory.
func TestHere(t *testing.T) {
	all, err := (&smi{}).inventory(t, "").Devices(t.Context())
	require.NoError(t, err)
	require.Positive(t, all[len(all)-1].MemoryMiB)
}

// The first call waits for a driver that hangs, up to the timeout; no later one does, and
// a GPU that was known is not lost by it.
func TestASlowDriverHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &smi{outputs: map[string]string{"--query-gpu": "two.txt"}, hang: true}
		inv := s.inventory(t, t.TempDir())
		start := time.Now()
		require.Empty(t, gpus(t, inv))
		require.Equal(t, 2*time.Second, time.Since(start))

		s.set(func() { s.hang = false })
		time.Sleep(31 * time.Second)
		gpus(t, inv) // starts a refresh
		synctest.Wait()
		require.Len(t, gpus(t, inv), 2)

		s.set(func() { s.hang = true })
		time.Sleep(31 * time.Second)
		start = time.Now()
		require.Len(t, gpus(t, inv), 2)
		require.Zero(t, time.Since(start))
		time.Sleep(3 * time.Second)
		require.Len(t, gpus(t, inv), 2, "busy is not gone")

		s.set(func() { s.hang, s.outputs = false, map[string]string{"--query-gpu": ""} })
		time.Sleep(2 * time.Minute)
		gpus(t, inv)
		synctest.Wait()
		require.Empty(t, gpus(t, inv), "the driver says that it has none")
	})
}

func TestNoRefreshWithoutACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &smi{outputs: map[string]string{"--query-gpu": "two.txt"}}
		inv := s.inventory(t, t.TempDir())
		require.Zero(t, s.times())
		for range 10 {
			gpus(t, inv)
		}
		require.Equal(t, 1, s.times())
		time.Sleep(time.Hour)
		require.Equal(t, 1, s.times())
		gpus(t, inv)
		synctest.Wait()
		require.Equal(t, 2, s.times())
	})
}

func TestDevicesEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &smi{outputs: map[string]string{}, hang: true}
		inv := s.inventory(t, t.TempDir())
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := inv.Devices(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestUses(t *testing.T) {
	s := &smi{outputs: map[string]string{"--query-gpu": "two.txt", "--query-compute-apps": "apps.txt", "pmon": "pmon550.txt"}}
	data, err := os.ReadFile("testdata/smi/two.txt")
	require.NoError(t, err)
	require.Contains(t, string(data), "GPU-0bd3a9c7")
	inv := s.inventory(t, t.TempDir())
	uses, err := inv.Usages(t.Context())
	require.NoError(t, err)
	of := func(pids ...int) hardware.Usage { return uses.Of(pids) }
	require.Equal(t, hardware.Usage{Percent: 86}, of(7175), "of the GPU that it uses most")
	require.Zero(t, of(2988))
	require.Equal(t, hardware.Usage{MemoryMiB: 3172}, of(4711), "GPUs that are not known have no size")
	require.Zero(t, of(4712))

	s.set(func() { s.outputs["--query-compute-apps"] = "apps-two.txt"; s.outputs["pmon"] = "pmon418.txt" })
	uses, err = inv.Usages(t.Context())
	require.NoError(t, err)
	require.Equal(t, hardware.Usage{MemoryMiB: 3172, TotalMiB: 24576 + 40960}, of(4711), "two instances of one GPU count its memory once")
	require.Equal(t, hardware.Usage{MemoryMiB: 3172, TotalMiB: 24576 + 40960}, of(4711, 4712), "so do two processes")
	require.InDelta(t, 99, of(13532).Percent, 0)
	require.Equal(t, hardware.Usage{Percent: 99, MemoryMiB: 3172, TotalMiB: 65536}, of(4711, 13532, 1))

	s.set(func() { s.outputs["pmon"] = "" })
	uses, err = inv.Usages(t.Context())
	require.NoError(t, err, "memory is known")
	require.Equal(t, uint64(3172), of(4711).MemoryMiB)
	s.set(func() { s.outputs["--query-compute-apps"] = "" })
	_, err = inv.Usages(t.Context())
	require.ErrorIs(t, err, errStatus)
}

func TestUsesWithoutDriver(t *testing.T) {
	uses, err := (&smi{}).inventory(t, t.TempDir()).Usages(t.Context())
	require.NoError(t, err)
	require.Nil(t, uses)
	require.Zero(t, uses.Of([]int{1}))
}

func FuzzTables(f *testing.F) {
	for _, seed := range []string{"0, GPU-1, x, 1, 8.6\n", "# gpu pid sm\n0 1 5\n", "GPU-1, 2, 3\n", ",,,,,,,\n", "# pid sm\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		run := func(context.Context, []string) ([]byte, error) { return []byte(text), nil }
		var start sync.WaitGroup
		defer start.Wait()
		inv := hardware.New(hardware.Options{
			Run: run, Root: "/nonexistent", LookPath: func(string) (string, error) { return "/x", nil },
			Go: func(f func()) bool { start.Go(f); return true },
		})
		uses, err := inv.Usages(t.Context())
		require.NoError(t, err)
		for pid := range 10 {
			u := uses.Of([]int{pid, 2 * pid})
			require.True(t, u.Percent >= 0 && u.Percent <= 100, "%v", u)
		}
	})
}
