//go:build linux

package docker_test

import (
	"strings"
	"testing"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"
)

func trimmed(said string) string { return strings.TrimSpace(said) }

// Two containers with one volume: the second one's processes cannot see the first.
func TestTwoOnOneVolume(t *testing.T) {
	t.Parallel()
	volume := newVolume(t)
	first := serving(t, options{volume: volume, env: withTypes})
	auto := first.autostarted()
	second := start(t, options{volume: volume, env: withTypes})
	require.Equal(t, 1, second.ended())
	require.Contains(t, second.said(), "hive: unix:/var/lib/hive/control.sock is held by another program that cannot be seen from here; "+
		"a hive runs on /var/lib/hive; stop that one, or choose another directory with --data-dir\n")

	now := first.autostarted()
	require.Equal(t, auto.WorkerID, now.WorkerID)
	require.Equal(t, auto.PID, now.PID)
	first.promises()

	// When the first has gone the second takes over, and frees what was the first's.
	first.signal(docker.SIGKILL)
	require.Equal(t, 137, first.ended())
	second.again()
	second.awaitHive()
	require.Equal(t, 1, second.status().Recovery.Freed)
	require.NotEqual(t, auto.WorkerID, second.autostarted().WorkerID)
	second.promises()
}

func TestReadOnlyVolume(t *testing.T) {
	t.Parallel()
	volume := newVolume(t)
	b := start(t, options{volume: volume, readOnly: true})
	require.Equal(t, 1, b.ended())
	require.Contains(t, b.said(), "hive: write to the data directory /var/lib/hive: read-only file system; mount it read-write (a volume in Docker: without :ro)")

	// One that a hive has used already is no different.
	used := serving(t, options{volume: volume})
	used.signal(docker.SIGTERM)
	require.Zero(t, used.ended())
	b.again()
	require.Equal(t, 1, b.ended())
	require.Equal(t, 2, strings.Count(b.said(), "mount it read-write"), b.said())
}

// At first a volume belongs to the image's user, whatever user hive runs as.
func TestVolumeOfAnotherUser(t *testing.T) {
	t.Parallel()
	b := start(t, options{user: "1000:1000"})
	require.Equal(t, 1, b.ended())
	require.Contains(t, b.said(), "hive: create the data directory: /var/lib/hive belongs to uid 65532 (mode 0755), who could change what hive does as 1000; run as root: chown 1000 /var/lib/hive (")
}

func TestFullVolume(t *testing.T) {
	t.Parallel()
	b := serving(t, options{host: func(hc *docker.HostConfig) {
		hc.Tmpfs["/var/lib/hive"] = "size=48m,mode=0700,uid=65532,gid=65532"
	}})
	running, other := b.up("cpu"), b.up("cpu")
	b.do("/inside", "fill", "/var/lib/hive/ballast")

	// The file has room in it that is used up first.
	var refused struct{ Code string }
	var code int
	var said string
	// A commit that was refused gives its pages back, and a start may fit into them.
	for range 20 {
		b.json(&refused, "/inside", "crowd")
		require.Equal(t, "disk_full", refused.Code)
		if code, said = b.exec("/hivectl", "up", "cpu"); code != 0 {
			break
		}
	}
	require.Equal(t, 1, code)
	require.Regexp(t, "disk[_ ]full", said)
	b.do("/hivectl", "stop", running.WorkerID)
	require.Equal(t, "stopped", b.worker(running.WorkerID).State)
	require.Equal(t, "ready", b.worker(other.WorkerID).State)
	b.promises()

	b.do("/inside", "remove", "/var/lib/hive/ballast")
	b.eventually("new work is accepted again", func() bool {
		code, _ := b.exec("/hivectl", "up", "cpu")
		return code == 0
	})
	b.promises()
}
