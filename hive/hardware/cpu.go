package hardware

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// cpuDevice describes the processors and the memory that hive and its workers may use.
func cpuDevice(root string) Device {
	limits := ownCgroups(root)
	cores := limits.cores(runtime.NumCPU()) // those of our affinity, and so of the cpuset
	name := fmt.Sprintf("CPU (%d cores)", cores)
	if cores == 1 {
		name = "CPU (1 core)"
	}
	return Device{ID: "CPU-0", Name: name, Kind: CPU, MemoryMiB: limits.memory(totalMemory(root)) >> 20}
}

// totalMemory is that of the machine in bytes; 0: not known.
func totalMemory(root string) uint64 {
	raw, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			// Its kB are KiB.
			return parseOrZero(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB"))) << 10
		}
	}
	return 0
}

// cgroups are the directories that limit us, each list from our own to the topmost
// that can be seen: a limit of any of them counts.
type cgroups struct{ unified, cpu, memoryV1 []string }

// ownCgroups finds them in /proc/self/cgroup and /proc/self/mountinfo.
func ownCgroups(root string) (c cgroups) {
	mounts := readMounts(root)
	raw, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		// A hybrid layout has both v2 and v1.
		if f[0] == "0" && f[1] == "" {
			c.unified = mounts["cgroup2"].ancestors(root, f[2])
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			switch controller {
			case "cpu":
				c.cpu = mounts["cpu"].ancestors(root, f[2])
			case "memory":
				c.memoryV1 = mounts["memory"].ancestors(root, f[2])
			}
		}
	}
	return c
}

// mount is where a hierarchy is mounted, and which of its cgroups is visible there.
type mount struct{ point, subtree string }

// readMounts returns that of cgroup v2, and those of v1 by controller.
func readMounts(root string) map[string]mount {
	mounts := map[string]mount{}
	raw, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return mounts
	}
	for line := range strings.Lines(string(raw)) {
		// Before the dash the number of fields varies (proc_pid_mountinfo(5)).
		left, right, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		m := mount{point: f[4], subtree: f[3]}
		switch kind[0] {
		case "cgroup2":
			mounts["cgroup2"] = m
		case "cgroup":
			for option := range strings.SplitSeq(kind[2], ",") {
				if option == "cpu" || option == "memory" {
					mounts[option] = m
				}
			}
		}
	}
	return mounts
}

// ancestors returns the directories from that of a cgroup up to the mount. A path that the
// mount does not show is one as seen from outside of the container: then the mounted
// directory is our cgroup.
func (m mount) ancestors(root, cgroup string) (dirs []string) {
	if m.point == "" {
		return nil
	}
	below, ok := cgroup, true
	// In a container the mount may show only a part of the hierarchy.
	if m.subtree != "/" {
		below, ok = strings.CutPrefix(cgroup+"/", m.subtree+"/")
	}
	top := filepath.Join(root, m.point)
	if !ok || strings.HasPrefix(below, "/..") {
		return []string{top}
	}
	for dir := filepath.Join(top, below); len(dir) >= len(top); dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

// cores is how many the quotas allow of those there are; part of one counts as one.
func (c cgroups) cores(all int) int {
	allowed := float64(all)
	for _, dir := range c.unified {
		quota, period, _ := strings.Cut(readAttr(dir, "cpu.max"), " ") // "max 100000"
		allowed = min(allowed, quotaRatio(quota, period))
	}
	for _, dir := range c.cpu {
		allowed = min(allowed, quotaRatio(readAttr(dir, "cpu.cfs_quota_us"), readAttr(dir, "cpu.cfs_period_us"))) // -1: no limit
	}
	return max(1, int(math.Ceil(allowed)))
}

func quotaRatio(quota, period string) float64 {
	q, err := strconv.ParseUint(quota, 10, 64)
	p, err2 := strconv.ParseUint(period, 10, 64)
	if err != nil || err2 != nil || p == 0 {
		return math.Inf(1)
	}
	return float64(q) / float64(p)
}

// memory is how many bytes the limits allow of those there are.
func (c cgroups) memory(all uint64) uint64 {
	for _, dir := range c.unified {
		all = minLimit(all, readAttr(dir, "memory.max")) // "max": no limit
	}
	for _, dir := range c.memoryV1 {
		all = minLimit(all, readAttr(dir, "memory.limit_in_bytes")) // a number beyond all memory: no limit
	}
	return all
}

func minLimit(all uint64, limit string) uint64 {
	n, err := strconv.ParseUint(limit, 10, 64)
	// all is 0 where it is not known.
	if err != nil || n == 0 || all != 0 && n > all {
		return all
	}
	return n
}
