package proc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/test/skip"
)

func TestUsedBetween(t *testing.T) {
	const main, child, grandchild = 10, 20, 30
	type readings = []proc.Reading
	for name, tt := range map[string]struct {
		was, is            readings
		cpu, read, written uint64
	}{
		"its own": {readings{{PID: main, Own: 5, Waited: 2, Read: 1, Written: 2}}, readings{{PID: main, Own: 9, Waited: 2, Read: 4, Written: 7}}, 4, 3, 5},
		"a child that runs": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 5}},
			readings{{PID: main, Own: 2}, {PID: child, Parent: main, Own: 9}},
			5, 0, 0,
		},
		"a child that has begun": {
			readings{{PID: main, Own: 1}},
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Start: 100, Own: 7, Waited: 1, Read: 3, Written: 4}},
			8, 3, 4,
		},
		"one that was there before it was found": {
			readings{{PID: main, Own: 1}},
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Start: 99, Own: 700, Read: 300}},
			0, 0, 0,
		},
		"a child that has begun and ended": {
			readings{{PID: main, Own: 1}},
			readings{{PID: main, Own: 1, Waited: 6, Written: 9}},
			6, 0, 9,
		},
		"a child that was waited for, with what was counted before": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 50, Waited: 5, Read: 100, Written: 10}},
			readings{{PID: main, Own: 2, Waited: 58, Read: 130, Written: 10}},
			4, 30, 0,
		},
		"a child that is a zombie": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 50, Read: 100}},
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 53, Read: 100}},
			3, 0, 0,
		},
		"a child that nobody waited for": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 50, Read: 100}},
			readings{{PID: main, Own: 4}},
			3, 0, 0,
		},
		"child and grandchild, both waited for": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Own: 5}, {PID: grandchild, Parent: child, Own: 40}},
			readings{{PID: main, Own: 1, Waited: 47}},
			2, 0, 0,
		},
		"an orphan that has ended takes nothing from the rest": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: 1, Own: 50}},
			readings{{PID: main, Own: 1, Waited: 3}},
			3, 0, 0,
		},
		"another with the number of one that has ended": {
			readings{{PID: main, Own: 1}, {PID: child, Parent: main, Start: 5, Own: 50}},
			readings{{PID: main, Own: 1, Waited: 50}, {PID: child, Parent: main, Start: 120, Own: 2}},
			2, 0, 0,
		},
		"a counter that goes back": {readings{{PID: main, Own: 5}}, readings{{PID: main, Own: 4}}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cpu, read, written := proc.UsedBetween(tt.was, tt.is, 100)
			require.Equal(t, []uint64{tt.cpu, tt.read, tt.written}, []uint64{cpu, read, written}, "CPU, read, written")
		})
	}
}

// script is a worker that is a shell with a script.
func script(t *testing.T, text string) proc.Spec {
	t.Helper()
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	spec := newSpec(t, "")
	spec.Argv = []string{sh, "-c", text}
	return spec
}

// kernelTime is what the kernel says that processes have used, with children that
// they have waited for.
func kernelTime(t *testing.T, pids ...int) time.Duration {
	t.Helper()
	sum := 0
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(raw), ") ")
		for _, field := range strings.Fields(rest)[11:15] {
			n, err := strconv.Atoi(field)
			require.NoError(t, err)
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

func measure(t *testing.T, m *proc.Meter, tree *proc.Tree) proc.Usage {
	t.Helper()
	usages, err := m.Measure(t.Context(), []*proc.Tree{tree})
	require.NoError(t, err)
	return usages[0]
}

// bothWays runs a test with and without a cgroup.
func bothWays(t *testing.T, text string, test func(t *testing.T, tree *proc.Tree, pid int)) {
	t.Helper()
	for name, wrap := range map[string]func(testing.TB, proc.Spec) proc.Spec{
		"cgroup": withCgroup, "processes": func(_ testing.TB, s proc.Spec) proc.Spec { return s },
	} {
		t.Run(name, func(t *testing.T) {
			p, tree := run(t, wrap(t, script(t, text)))
			test(t, tree, p.PID())
		})
	}
}

// The kernel's own account is the measure, so that a loaded machine on which nobody
// gets a whole core changes nothing.
func TestMeterCountsWhatTheKernelGave(t *testing.T) {
	busy := fmt.Sprintf("while kill -0 %d; do :; done", os.Getpid()) // not beyond a test that is killed
	bothWays(t, "("+busy+") & "+busy, func(t *testing.T, tree *proc.Tree, pid int) {
		m := proc.NewMeter()
		var pids []int
		await(t, "both processes", func() bool { pids = measure(t, m, tree).PIDs; return len(pids) == 2 })
		require.Contains(t, pids, pid)

		before := kernelTime(t, pids...)
		measure(t, m, tree)
		within := kernelTime(t, pids...)
		await(t, "500 ms of CPU time", func() bool { return kernelTime(t, pids...)-within > 500*time.Millisecond })
		least := kernelTime(t, pids...) - within
		u := measure(t, m, tree)
		most := kernelTime(t, pids...) - before
		// The ticks of each end at any time, and the cgroup has a clock of its own. Without
		// one of the two it would be half.
		require.GreaterOrEqual(t, u.CPU, least*4/5)
		require.LessOrEqual(t, u.CPU, most*6/5)
		require.Greater(t, u.Over, 100*time.Millisecond)
		require.Greater(t, u.RSS, uint64(100<<10))
	})
}

// burn is a loop that takes well over a tenth of a second.
const burn = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"

// A child that began and ended between two measurements counts: its parent has
// waited for it.
func TestMeterCountsChildrenThatHaveEnded(t *testing.T) {
	dir := t.TempDir()
	text := "cd " + dir + "; until [ -e go$$ ]; do sleep 0.02; done; (" + burn + "); touch done$$; exec sleep 60"
	bothWays(t, text, func(t *testing.T, tree *proc.Tree, pid int) {
		m := proc.NewMeter()
		measure(t, m, tree)
		begun := kernelTime(t, pid)
		mark := strconv.Itoa(pid)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go"+mark), nil, 0o600))
		await(t, "the child's end", func() bool { _, err := os.Stat(filepath.Join(dir, "done"+mark)); return err == nil })
		u := measure(t, m, tree)
		used := kernelTime(t, pid) - begun
		require.Greater(t, used, 50*time.Millisecond)
		require.InDelta(t, used.Seconds(), u.CPU.Seconds(), 0.1*used.Seconds()+0.06)
	})
}

// A cgroup also counts one that nobody of the tree has waited for.
func TestMeterCountsOrphansByCgroup(t *testing.T) {
	dir := t.TempDir()
	text := "cd " + dir + "; until [ -e go ]; do sleep 0.02; done; (sh -c '" + burn + "; cat /proc/$$/stat >new; mv new stat' &); exec sleep 60"
	_, tree := run(t, withCgroup(t, script(t, text)))
	m := proc.NewMeter()
	measure(t, m, tree)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	var raw []byte
	await(t, "the orphan's account", func() bool {
		var err error
		raw, err = os.ReadFile(filepath.Join(dir, "stat"))
		return err == nil
	})
	f := strings.Fields(string(raw))
	orphan, err := strconv.Atoi(f[0])
	require.NoError(t, err)
	await(t, "the orphan's end", func() bool { return !running(orphan) })
	ticks, err := strconv.Atoi(f[13])
	require.NoError(t, err)
	require.Greater(t, ticks, 2)
	require.GreaterOrEqual(t, measure(t, m, tree).CPU, time.Duration(ticks-1)*10*time.Millisecond)
}

// A member that has left session and parent is found by its proofs, and then kept.
func TestMeterFindsThoseWhoLeft(t *testing.T) {
	dir := t.TempDir()
	p, tree := run(t, script(t, "(setsid sleep 60 &); touch "+dir+"/done; exec sleep 60"))
	await(t, "the script", func() bool { _, err := os.Stat(dir + "/done"); return err == nil })
	m := proc.NewMeter()
	var pids []int
	await(t, "both", func() bool {
		m = proc.NewMeter() // whose first scan is by all proofs
		pids = measure(t, m, tree).PIDs
		return len(pids) == 2
	})
	require.Contains(t, pids, p.PID())
	require.ElementsMatch(t, pids, measure(t, m, tree).PIDs, "the second measurement has only those it knows")
}

func TestMeterCountsBytes(t *testing.T) {
	dir := t.TempDir()
	p, tree := run(t, script(t, "cd "+dir+"; until [ -e go ]; do sleep 0.02; done; dd if=/dev/zero of=f bs=1M count=8 conv=fsync; touch done; exec sleep 60"))
	written := func() (n uint64) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.PID()))
		require.NoError(t, err)
		_, err = fmt.Sscanf(string(raw[strings.Index(string(raw), "\nwrite_bytes"):]), "\nwrite_bytes: %d", &n)
		require.NoError(t, err)
		return n
	}
	m := proc.NewMeter()
	measure(t, m, tree)
	before := written()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	await(t, "the end of dd", func() bool { _, err := os.Stat(filepath.Join(dir, "done")); return err == nil })
	u := measure(t, m, tree)
	n := written() - before
	if n == 0 {
		skip.Because(t, "the temporary directory is not on storage")
	}
	require.InDelta(t, n, u.Written, 64<<10)
}

func TestMeasureEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := proc.NewMeter().Measure(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkMeasure is what a heartbeat costs: one measurement of so many workers of one
// process each. test/bench has the numbers of a whole hive with more.
func BenchmarkMeasure(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("workers=%d", n), func(b *testing.B) {
			sleep, err := exec.LookPath("sleep")
			require.NoError(b, err)
			trees := make([]*proc.Tree, n)
			for i := range trees {
				spec := newSpec(b, "")
				spec.Argv = []string{sleep, "600"}
				_, trees[i] = run(b, spec)
			}
			m := proc.NewMeter()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Measure(b.Context(), trees); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
