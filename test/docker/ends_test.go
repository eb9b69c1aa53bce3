//go:build linux

package docker_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"
)

var withTypes = []string{"HIVE_CONFIG=/types.yaml"}

// The container is killed with its workers in it, and another one gets the volume: every
// recorded PID is free or a stranger's there.
func TestKilledAndStartedInAnotherNamespace(t *testing.T) {
	t.Parallel()
	volume := newVolume(t)
	first := serving(t, options{volume: volume, env: withTypes})
	require.Contains(t, first.said(), "hive is PID 1 of its container")
	auto, other := first.autostarted(), first.up("cpu")
	first.promises()
	first.signal(docker.SIGKILL)
	require.Equal(t, 137, first.ended())

	// Its init has both PIDs before hive is started; a decoy lives on them.
	second := serving(t, options{volume: volume, env: withTypes, entry: []string{
		"/inside", "init", strconv.Itoa(min(*auto.PID, *other.PID)), strconv.Itoa(max(*auto.PID, *other.PID)), "--", "/hive",
	}})
	recovery := second.status().Recovery
	require.Zero(t, recovery.Adopted)
	require.Equal(t, 2, recovery.Freed)
	require.Zero(t, recovery.Unverified)
	require.Equal(t, "failed", second.worker(other.WorkerID).State)

	again := second.autostarted()
	require.NotEqual(t, auto.WorkerID, again.WorkerID)
	second.promises()
	fresh := second.up("cpu")
	require.ElementsMatch(t, []uint16{auto.Port, other.Port}, []uint16{again.Port, fresh.Port}, "the ports are free again")
	second.do("/hivectl", "stop", fresh.WorkerID)
	second.promises()

	decoys := 0
	for _, p := range second.ps() {
		if slices.Equal(p.Args, []string{"/inside", "decoy"}) && (p.PID == *auto.PID || p.PID == *other.PID) {
			decoys++
		}
	}
	require.Equal(t, 2, decoys, "a stranger was ended: %v", second.ps())
	require.NotContains(t, second.said(), "was signalled")
}

// docker stop, docker start. Without shutdown: stop the kernel ends the workers.
func TestStoppedAndStarted(t *testing.T) {
	t.Parallel()
	b := serving(t, options{env: withTypes})
	auto, other := b.autostarted(), b.up("cpu")
	began := time.Now()
	b.signal(docker.SIGTERM)
	require.Zero(t, b.ended())
	require.Less(t, time.Since(began), 10*time.Second, "docker stop would have killed it")
	require.Contains(t, b.said(), "hive stopped; 2 workers end with the container\n")

	b.again()
	b.awaitHive()
	require.Equal(t, 2, b.status().Recovery.Freed)
	require.NotEqual(t, auto.WorkerID, b.autostarted().WorkerID)
	require.Equal(t, "failed", b.worker(other.WorkerID).State)
	b.promises()
}

// With shutdown: stop the workers are asked to end, and have the time for it.
func TestStoppedWithItsWorkers(t *testing.T) {
	t.Parallel()
	b := serving(t, options{env: []string{"HIVE_SHUTDOWN=stop"}})
	w := b.up("cpu")
	b.signal(docker.SIGTERM)
	require.Zero(t, b.ended())
	require.Contains(t, b.said(), "hive stopped; no workers running\n")

	b.again()
	b.awaitHive()
	recovery := b.status().Recovery
	require.Zero(t, recovery.Freed+recovery.Adopted+recovery.Unverified, "%+v", recovery)
	w = b.worker(w.WorkerID)
	require.Equal(t, "stopped", w.State)
	require.NotNil(t, w.Exit)
	require.NotNil(t, w.Exit.Code, "it ended by itself: %+v", *w.Exit)
	require.Zero(t, *w.Exit.Code)
	b.promises()
}

// docker pause stops all processes and no clock. That time counts against no worker.
func TestPausedForAWhile(t *testing.T) {
	t.Parallel()
	b := serving(t, options{env: withTypes})
	slow := b.worker(trimmed(b.do("/hivectl", "-q", "up", "slow", "--wait", "started")))
	began := time.Now()
	auto, cpu, stubborn := b.autostarted(), b.up("cpu"), b.up("stubborn")
	b.eventually("hive has checked the progress of slow", func() bool { return time.Since(began) > 3*time.Second })
	b.detached("/hivectl", "stop", stubborn.WorkerID)
	b.eventually("it is being stopped", func() bool { return b.worker(stubborn.WorkerID).State == "stopping" })
	before := b.running()

	client := b.pool.Client
	require.NoError(t, client.PauseContainer(b.res.Container.ID))
	<-time.After(18 * time.Second) // beyond ready.stall of slow, and the grace of stubborn
	require.NoError(t, client.UnpauseContainer(b.res.Container.ID))

	require.Equal(t, before, b.running(), "no worker is ended because time has passed, neither for ready.stall nor for the grace of a stop")
	b.eventually("slow is ready", func() bool {
		w := b.worker(slow.WorkerID)
		require.NotContains(t, []string{"failed", "stopping", "stopped"}, w.State, "%+v", w)
		return w.State == "ready"
	})
	b.eventually("the stop is done", func() bool { return b.worker(stubborn.WorkerID).State == "stopped" })
	for _, w := range []string{auto.WorkerID, cpu.WorkerID, slow.WorkerID} {
		now := b.worker(w)
		require.Equal(t, "ready", now.State, w)
		require.Zero(t, now.Restarts, w)
		require.Equal(t, before[w], *now.PID, w)
	}
	b.promises()
}
