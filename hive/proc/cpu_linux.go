package proc

import (
	"context"
	"fmt"
	"time"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
)

// CPUTime is the CPU time that the tree has used. With a cgroup it is read from
// there (cpu.stat is there without the cpu controller too, kernel >= 4.15) and
// counts members that have ended; without one it is summed over the members,
// which reads all of /proc. Safe for concurrent use.
func (t *Tree) CPUTime(ctx context.Context) (time.Duration, error) {
	if dir, ok := cgroupDir(t.Cgroup); ok {
		used, err := cgroup.CPUTime(dir)
		if err != nil {
			return 0, fmt.Errorf("CPU time: %w", err)
		}
		return used, nil
	}
	members, err := t.memberPIDs(ctx)
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	// What members used that have ended meanwhile is not counted.
	var ticks uint64
	for pid := range members {
		if st, err := procfs.ReadStat(pid); err == nil {
			ticks += st.OwnTicks
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// memberPIDs returns the processes of the tree with the main process.
func (t *Tree) memberPIDs(ctx context.Context) (map[int]bool, error) {
	members, err := t.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[int]bool, len(members)+1)
	if t.Main != nil && t.Main.alive() {
		out[t.Main.PID()] = true
	}
	for _, m := range members {
		out[m.PID] = true
	}
	return out, nil
}
