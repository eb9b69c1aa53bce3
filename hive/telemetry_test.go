package hive_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/catalog"
	"rbeehive/hive/reference"
	"rbeehive/hive/telemetry"
)

// burnerMain is a reference worker that uses a core, and has a child that uses another.
func burnerMain(args []string) int {
	child := exec.CommandContext(context.Background(), "/bin/sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for n := 0; n >= 0; n++ { // as good as for ever
		}
	}()
	return reference.Main(args, os.Stdout, os.Stderr)
}

func burner(t *testing.T) catalog.Entry {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	path, grace := "/health", 100*time.Millisecond
	return catalog.Entry{
		Name: "burner", Command: []string{self, "burner", "--port", "{{.Port}}"},
		Ready: catalog.ReadyEntry{Path: &path}, Stop: catalog.StopEntry{Grace: &grace},
	}
}

// beats listens; next returns the next heartbeat.
func (r *rig) beats() (next func() *telemetry.Heartbeat) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	pull, stop := iter.Pull(r.h.Heartbeats(ctx))
	r.Cleanup(func() { cancel(); stop() })
	return func() *telemetry.Heartbeat {
		r.Helper()
		b, ok := pull()
		require.True(r, ok, "no heartbeat")
		return b
	}
}

// of is a worker's part of a heartbeat; nil if it is not in it.
func of(b *telemetry.Heartbeat, id string) *telemetry.WorkerUse {
	for i := range b.Workers {
		if b.Workers[i].WorkerID == id {
			return &b.Workers[i]
		}
	}
	return nil
}

// treeTime is what the kernel says that a process and its children have used.
func treeTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	sum := 0
	add := func(pid string) {
		raw, err := os.ReadFile("/proc/" + pid + "/stat")
		require.NoError(t, err)
		_, rest, _ := strings.Cut(string(raw), ") ")
		for _, field := range strings.Fields(rest)[11:15] {
			n, err := strconv.Atoi(field)
			require.NoError(t, err)
			sum += n
		}
	}
	add(strconv.Itoa(pid))
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, e := range entries {
		raw, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			add(e.Name())
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// What heartbeats say of a worker is what the kernel gave to it and to its child,
// however much that is on a loaded machine.
func TestHeartbeatsSayWhatWorkersUse(t *testing.T) {
	r := newRig(t, 2, burner(t))
	r.open()
	w := r.spawn("burner", map[string]any{"model": "org/some model"})
	next := r.beats()
	var first *telemetry.Heartbeat
	for first == nil || of(first, w.WorkerID).CPUPercent == 0 { // the first of all has no rates
		first = next()
	}
	before, last := treeTime(t, w.PID), first.At
	var said float64 // seconds of CPU time
	for range 3 {
		b := next()
		use := of(b, w.WorkerID)
		require.NotNil(t, use)
		said += use.CPUPercent / 100 * b.At.Sub(last).Seconds()
		last = b.At
		require.Equal(t, w.PID, use.PID)
		require.Equal(t, w.Port, use.Port)
		require.Equal(t, "burner", use.Type)
		require.Equal(t, "org/some model", use.Model)
		require.True(t, use.Ready)
		require.Greater(t, use.RSS, uint64(1<<20))
		require.Positive(t, use.Uptime)
		require.Zero(t, use.GPUPercent)
	}
	used := (treeTime(t, w.PID) - before).Seconds()
	require.Greater(t, used, 0.1)
	require.InDelta(t, used, said, 0.15*used+0.2)
}

func TestADeadWorkerLeavesTheHeartbeats(t *testing.T) {
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu", map[string]any{"model": "m"})
	next := r.beats()
	require.NotNil(t, of(next(), w.WorkerID))
	kill9(t, w.PID)
	left := 0
	for of(next(), w.WorkerID) != nil { // they are a second apart
		left++
	}
	require.LessOrEqual(t, left, 1)
}

// A worker that is not ready is told apart: a queen must not send it requests.
func TestHeartbeatsTellWhoIsReady(t *testing.T) {
	r := newRig(t, 2, catalog.Entry{Name: "mute", Command: []string{"/bin/sleep", "600"}})
	r.open()
	w := r.spawn("mute", map[string]any{"wait": "started"})
	use := of(r.beats()(), w.WorkerID)
	require.NotNil(t, use)
	require.False(t, use.Ready)
	require.Empty(t, use.Model)
}

// One who takes nothing loses the oldest, and holds nobody up.
func TestASlowListenerLosesTheOldest(t *testing.T) {
	r := newRig(t, 1)
	r.cfg.HeartbeatEvery = time.Millisecond
	r.open()
	slow, fast := r.beats(), r.beats()
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

// With the last listener everything goes that was there for them.
func TestNobodyListensNothingIsLookedAt(t *testing.T) {
	r := newRig(t, 1)
	r.cfg.HeartbeatEvery = time.Millisecond
	r.open()
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list)
	}
	w := r.spawn("cpu", map[string]any{"model": "m"})
	r.stopWorker(w.WorkerID)
	r.eventually("peace", func() bool { return goleak.Find(goleak.IgnoreCurrent()) == nil })
	before, fds := goleak.IgnoreCurrent(), descriptors()
	for range 3 { // also when they come back
		ctx, cancel := context.WithCancel(t.Context())
		for range r.h.Heartbeats(ctx) {
			for range r.h.Heartbeats(ctx) {
				break
			}
			break
		}
		cancel()
	}
	goleak.VerifyNone(t, before)
	r.eventually("the descriptors", func() bool { return descriptors() <= fds })
}

func TestHeartbeatsEndWithTheHive(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	h := r.h
	ended := make(chan int)
	listening := make(chan bool, 1)
	go func() {
		n := 0
		for range h.Heartbeats(context.Background()) {
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
	for range h.Heartbeats(context.Background()) {
		require.Fail(t, "a heartbeat of a hive that is closed")
	}
}
