package proc

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// CPUTime is the CPU time that the tree has used. With a cgroup it is read from
// there (cpu.stat is there without the cpu controller too, kernel >= 4.15) and
// counts members that have ended; without one it is summed over the members,
// which reads all of /proc. Safe for concurrent use.
func (t *Tree) CPUTime(ctx context.Context) (time.Duration, error) {
	if dir, ok := cgroupDir(t.Cgroup); ok {
		return cgroupCPU(dir)
	}
	members, err := t.memberPIDs(ctx)
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	var seconds float64
	for pid := range members {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		if stat, err := p.Stat(); err == nil {
			seconds += stat.CPUTime()
		}
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

func cgroupCPU(dir string) (time.Duration, error) {
	var buf [smallFile]byte // usage_usec is the first line
	raw, err := readSmall(filepath.Join(dir, "cpu.stat"), buf[:])
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			usec, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("CPU time: %w", err)
			}
			return time.Duration(usec) * time.Microsecond, nil
		}
	}
	return 0, fmt.Errorf("CPU time: no usage_usec in %s", dir)
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
