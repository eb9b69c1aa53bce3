package telemetry_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/hardware"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/supervisor"
	"rbeehive/hive/telemetry"
	"rbeehive/store"
)

func TestAHeartbeatSaysWhoEachWorkerIs(t *testing.T) {
	r := newRig(t, 10*time.Millisecond)
	begun := time.Now()
	loading := func(w *store.Worker) { w.State, w.Spec.Model = store.WorkerLoading, "/srv/default.gguf" }
	asked := func(w *store.Worker) {
		w.Asked.Model, w.Spec.Model, w.StartedAt = "org/name", "/models/name.gguf", begun.Add(-time.Hour)
	}
	future := func(w *store.Worker) { w.State, w.StartedAt = store.WorkerUnhealthy, begun.Add(time.Hour) }
	l, a, f := r.worker("sleep 600", loading), r.worker("sleep 600", asked), r.worker("sleep 600", future)
	next, _ := r.beats()
	b := next()
	require.WithinRange(t, b.At, begun, time.Now())
	require.Len(t, b.Workers, 3)
	for i, c := range []struct {
		w     supervisor.Process
		model string
		ready bool
	}{{l, "/srv/default.gguf", false}, {a, "org/name", true}, {f, "", false}} {
		use := b.Workers[i]
		require.Equal(t, []any{c.w.Worker.WorkerID, "web", c.w.Worker.Port, c.w.Tree.Main.PID(), c.model, c.ready},
			[]any{use.WorkerID, use.Type, use.Port, use.PID, use.Model, use.Ready})
		require.Greater(t, use.RSS, uint64(100<<10))
		require.Less(t, use.RSS, uint64(1<<30))
		require.Zero(t, use.GPUPercent)
		require.Zero(t, use.GPUMemoryAllMiB)
	}
	require.InDelta(t, time.Hour, b.Workers[1].Uptime, float64(time.Minute))
	require.Zero(t, b.Workers[2].Uptime, "a clock that was set back makes nobody younger than new")
}

// What heartbeats say is what the kernel gave to a worker and its children, however much
// that is on a loaded machine.
func TestHeartbeatsSayWhatWorkersUse(t *testing.T) {
	r := newRig(t, 200*time.Millisecond)
	w, idle := r.worker("while :; do :; done & while :; do :; done"), r.worker("sleep 600")
	next, _ := r.beats()
	first := next()
	for of(first, w).CPUPercent == 0 { // the first of all has no rates
		first = next()
	}
	before, last := treeTime(t, w.Tree.Main.PID()), first.At
	var said float64 // seconds of CPU time
	for range 5 {
		b := next()
		use := of(b, w)
		require.NotNil(t, use)
		said += use.CPUPercent / 100 * b.At.Sub(last).Seconds()
		last = b.At
		require.Less(t, of(b, idle).CPUPercent, 50.0)
	}
	used := (treeTime(t, w.Tree.Main.PID()) - before).Seconds()
	require.Greater(t, used, 0.05)
	require.InDelta(t, used, said, 0.15*used+0.2)
}

// treeTime is what the kernel says that a process and its children have used.
func treeTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	sum := 0
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		number, rest, _ := strings.Cut(string(raw), " ")
		f := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
		if number != strconv.Itoa(pid) && f[1] != strconv.Itoa(pid) {
			continue
		}
		for _, field := range f[11:13] {
			n, err := strconv.Atoi(field)
			require.NoError(t, err)
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// A worker that has ended is in no heartbeat, though hive may not have recorded its end.
func TestTheDeadAreInNoHeartbeat(t *testing.T) {
	r := newRig(t, 5*time.Millisecond)
	stays, dies := r.worker("sleep 600"), r.worker("sleep 600")
	r.worker("sleep 600", func(w *store.Worker) { w.State = store.WorkerStopped })
	next, _ := r.beats()
	b := next()
	require.Len(t, b.Workers, 2)
	require.NotNil(t, of(b, dies))
	require.NoError(t, dies.Tree.Main.Signal(9))
	<-dies.Tree.Main.Done()
	for range telemetry.MaxUnsent + 2 { // those before may be on their way
		b = next()
	}
	require.Nil(t, of(b, dies))
	require.NotNil(t, of(b, stays))
}

func TestAHeartbeatWithoutWorkers(t *testing.T) {
	r := newRig(t, time.Millisecond)
	next, _ := r.beats()
	b := next()
	require.NotNil(t, b.Workers, "it goes out as a list")
	require.Empty(t, b.Workers)
}

// One who takes nothing loses the oldest, and holds nobody up.
func TestASlowListenerLosesTheOldest(t *testing.T) {
	r := newRig(t, time.Millisecond)
	slow, _ := r.beats()
	fast, _ := r.beats()
	at := slow().At // it is in the middle of the first one, as a client that reads slowly
	var seen []time.Time
	for range 10 * telemetry.MaxUnsent {
		seen = append(seen, fast().At)
	}
	late := slow()
	require.True(t, late.At.After(at))
	require.True(t, late.At.After(seen[len(seen)-1-2*telemetry.MaxUnsent]), "it gets the newest, not what it missed")
	for range telemetry.MaxUnsent {
		b := slow()
		require.True(t, b.At.After(late.At), "in order")
		late = b
	}
}

// Two who listen share one sampling: each walks /proc no more often for it.
func TestListenersShareOneSampling(t *testing.T) {
	r := newRig(t, 50*time.Millisecond)
	first, _ := r.beats()
	b := first()
	second, stop := r.beats()
	same := second()
	for b.At.Before(same.At) {
		b = first()
	}
	require.Same(t, b, same)
	stop()
	require.True(t, first().At.After(b.At), "one who goes away stops nobody else's")
}

// With the last listener everything goes that was there for them.
func TestNobodyListensNothingIsLookedAt(t *testing.T) {
	r := newRig(t, time.Millisecond)
	r.worker("sleep 600")
	before := goleak.IgnoreCurrent()
	for range 3 { // also when they come back
		ctx, cancel := context.WithCancel(t.Context())
		for range r.Heartbeats(ctx) {
			for range r.Heartbeats(ctx) {
				break
			}
			break
		}
		cancel()
		goleak.VerifyNone(t, before)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, []int{1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0}, r.listeners)
	require.Positive(t, r.asked)
}

func TestHeartbeatsEndWithTheirContext(t *testing.T) {
	r := newRig(t, time.Hour) // none comes
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		n := 0
		for range r.Heartbeats(ctx) {
			n++
		}
		ended <- n
	}()
	require.Eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.listeners) == 1 }, long, time.Millisecond)
	cancel()
	require.Zero(t, <-ended)
}

func TestHeartbeatsEndWithTheHive(t *testing.T) {
	r := newRig(t, time.Millisecond)
	ended, listening := make(chan int), make(chan bool, 1)
	go func() {
		n := 0
		for range r.Heartbeats(context.Background()) {
			n++
			select {
			case listening <- true:
			default:
			}
		}
		ended <- n
	}()
	<-listening
	r.close()
	require.Positive(t, <-ended)
	for range r.Heartbeats(context.Background()) {
		require.Fail(t, "a heartbeat of a hive that is closed")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, []int{1, 0}, r.listeners, "nobody is counted who got nothing")
}

// What a worker uses of the GPUs is what its processes use, its children too.
func TestWhatWorkersUseOfTheGPUs(t *testing.T) {
	r := newRig(t, 5*time.Millisecond)
	w, idle := r.worker("sleep 600 & wait"), r.worker("sleep 600")
	var child int
	require.Eventually(t, func() bool {
		members, err := w.Tree.Members(t.Context())
		if err != nil || len(members) != 1 {
			return false
		}
		child = members[0].PID
		return true
	}, long, time.Millisecond)
	r.smi.set(map[string]string{
		"--query-gpu":          "0, GPU-5f1c, NVIDIA GeForce RTX 3090, 24576, 8.6\n",
		"--query-compute-apps": fmt.Sprintf("GPU-5f1c, %d, 9216\nGPU-5f1c, %d, 1024\nGPU-5f1c, 1, 5\n", w.Tree.Main.PID(), child),
		"pmon":                 fmt.Sprintf("# gpu pid type sm mem enc dec command\n    0 %d C 41 3 - - sleep\n", child),
	})
	devices, err := r.Devices(t.Context())
	require.NoError(t, err)
	require.Equal(t, hardware.Device{ID: "GPU-0", Name: "NVIDIA GeForce RTX 3090", Kind: hardware.GPU, MemoryMiB: 24576, ComputeCapability: "8.6"}, devices[0])
	next, _ := r.beats()
	b := next()
	for of(b, w).GPUPercent == 0 { // the GPUs are looked at beside the heartbeats
		b = next()
	}
	use := of(b, w)
	require.InDelta(t, 41, use.GPUPercent, 0)
	require.Equal(t, []uint64{10240, 24576}, []uint64{use.GPUMemoryMiB, use.GPUMemoryAllMiB})
	require.Zero(t, of(b, idle).GPUPercent)
	require.Zero(t, of(b, idle).GPUMemoryMiB)
}

// What was seen of the GPUs is too old for whoever listens next.
func TestOldGPUNumbersAreForgotten(t *testing.T) {
	r := newRig(t, time.Millisecond)
	w := r.worker("sleep 600")
	r.smi.set(map[string]string{
		"--query-gpu": "0, GPU-5f1c, NVIDIA, 24576, 8.6\n", "--query-compute-apps": fmt.Sprintf("GPU-5f1c, %d, 9216\n", w.Tree.Main.PID()), "pmon": "",
	})
	next, stop := r.beats()
	for of(next(), w).GPUMemoryMiB == 0 {
	}
	stop()
	r.smi.mu.Lock()
	r.smi.hangs = true // so that there are no new ones
	r.smi.mu.Unlock()
	next, _ = r.beats()
	for range 20 {
		require.Zero(t, of(next(), w).GPUMemoryMiB)
	}
}

// A driver that fails is asked more and more rarely, and no heartbeat waits for it.
func TestADriverThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, time.Minute)
		r.smi.set(map[string]string{})
		begun, n := time.Now(), 0
		for range r.Heartbeats(t.Context()) {
			if n++; n == 60 {
				break
			}
		}
		require.Equal(t, time.Hour, time.Since(begun))
		// At once, after 2, 4, 8, ... 256 s, and then every five minutes.
		require.Equal(t, 19, r.smi.looks())
	})
}

// A driver that answers is looked at each second: its numbers are those of a moment.
func TestADriverThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10*time.Second)
		r.smi.set(map[string]string{"--query-gpu": "0, GPU-5f1c, NVIDIA, 24576, 8.6\n", "--query-compute-apps": "", "pmon": ""})
		for range r.Heartbeats(t.Context()) {
			break
		}
		require.InDelta(t, 10, r.smi.looks(), 1)
	})
}
