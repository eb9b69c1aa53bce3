//go:build linux

package docker_test

import (
	"fmt"
	"testing"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"

	"rbeehive/test/freeport"
)

// underInit is a container whose PID 1 is an init that stays and never reaps.
func underInit(env ...string) options {
	return options{env: env, entry: []string{"/inside", "init", "--", "/hive"}}
}

// zombies are the processes that have ended and that nobody has reaped.
func (b *box) zombies() map[int]bool {
	b.Helper()
	out := map[int]bool{}
	for _, p := range b.ps() {
		if p.State == "Z" {
			out[p.PID] = true
		}
	}
	return out
}

// As PID 1 hive gets every orphan of the container. Its configuration is that of
// docker-compose.yml.
func TestReapsAsPID1(t *testing.T) {
	t.Parallel()
	b := serving(t, options{env: []string{"HIVE_CONFIG=/etc/compose.yaml"}})
	w := b.up("cpu")
	require.Equal(t, uint16(8080), w.Port)
	b.do("/inside", "orphans", "20")
	b.eventually("all orphans are reaped", func() bool { return len(b.zombies()) == 0 && len(b.ps()) <= 3 })
	b.kill("SIGKILL", *w.PID)
	b.eventually("the worker is reaped and freed", func() bool { return b.worker(w.WorkerID).State == "failed" && len(b.zombies()) == 0 })
	b.promises()
}

// Where hive is a child of an init that stays, its workers survive it.
func TestKilledUnderAnInit(t *testing.T) {
	t.Parallel()
	b := serving(t, underInit(withTypes...))
	auto, other := b.autostarted(), b.up("cpu")
	b.promises()
	hives := b.hives()
	require.Len(t, hives, 1)
	b.kill("SIGKILL", hives[0])
	b.eventually("hive has ended", func() bool { return len(b.hives()) == 0 })
	require.Len(t, b.running(), 2)

	b.detached("/hive") // as docker exec -d does
	b.awaitHive()
	recovery := b.status().Recovery
	require.Equal(t, 2, recovery.Adopted)
	require.Zero(t, recovery.Freed+recovery.Unverified)
	for _, was := range []struct {
		id  string
		pid int
	}{{auto.WorkerID, *auto.PID}, {other.WorkerID, *other.PID}} {
		now := b.worker(was.id)
		require.Equal(t, "ready", now.State)
		require.Equal(t, was.pid, *now.PID)
	}
	b.promises()
	b.do("/hivectl", "stop", other.WorkerID)
	b.promises()
}

// What ends is a zombie for good there. Neither a hive that runs nor one that is
// started takes it for a worker.
func TestZombiesOfAnInitThatNeverReaps(t *testing.T) {
	t.Parallel()
	b := serving(t, underInit())
	adopted, dead := b.up("cpu"), b.up("cpu")
	b.kill("SIGKILL", b.hives()[0])
	b.eventually("hive has ended", func() bool { return len(b.hives()) == 0 })
	b.kill("SIGKILL", *dead.PID)
	b.eventually("it is a zombie", func() bool { return b.zombies()[*dead.PID] })

	b.detached("/hive")
	b.awaitHive()
	recovery := b.status().Recovery
	require.Equal(t, 1, recovery.Adopted)
	require.Equal(t, 1, recovery.Freed)
	require.True(t, b.zombies()[*dead.PID])
	require.Equal(t, "failed", b.worker(dead.WorkerID).State)
	b.promises()

	b.kill("SIGKILL", *adopted.PID)
	b.eventually("its end is noticed", func() bool { return b.worker(adopted.WorkerID).State == "failed" })
	require.True(t, b.zombies()[*adopted.PID])
	b.promises()
	fresh := b.up("cpu")
	require.Contains(t, []uint16{adopted.Port, dead.Port}, fresh.Port)
}

// pid: host does not keep workers: Docker ends all processes of a container with
// its first one. What hive says afterwards is true, whatever the engine did.
func TestKilledInTheHostsNamespaces(t *testing.T) {
	t.Parallel()
	first, err := freeport.Range(6)
	require.NoError(t, err)
	api := fmt.Sprintf("127.0.0.1:%d", first)
	b := serving(t, options{
		env:  []string{"HIVE_LISTEN=" + api, "HIVE_ADDR=" + api, fmt.Sprintf("HIVE_PORTS_RANGE=%d-%d", first+1, first+5)},
		host: func(hc *docker.HostConfig) { hc.PidMode, hc.NetworkMode = "host", "host" },
	})
	require.NotContains(t, b.said(), "hive is PID 1")
	w := b.up("cpu")
	b.signal(docker.SIGKILL)
	require.Equal(t, 137, b.ended())
	b.again()
	b.awaitHive()
	recovery := b.status().Recovery
	pid, alive := b.running()[w.WorkerID]
	t.Logf("worker alive after its container was killed: %v; %+v", alive, recovery)
	if now := b.worker(w.WorkerID); alive {
		require.Equal(t, 1, recovery.Adopted)
		require.Equal(t, pid, *now.PID)
	} else {
		require.Equal(t, 1, recovery.Freed)
		require.Equal(t, "failed", now.State)
	}
	b.do("/hivectl", "up", "cpu")
}
