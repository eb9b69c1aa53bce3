//go:build linux

package docker_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"
)

// All containers of these tests have what docker-compose.yml says.
func TestComposeFile(t *testing.T) {
	raw, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	for _, line := range []string{
		"    read_only: true", "    cap_drop: [ALL]", `    security_opt: ["no-new-privileges:true"]`, "    tmpfs:\n      - /tmp",
		"      # args: {OWNER: \"0:0\"} # hive is root, for entries with `user`; with cap_add below", "    # cap_add: [SETUID, SETGID, CHOWN, KILL, DAC_OVERRIDE, SYS_PTRACE]",
	} {
		require.Contains(t, string(raw), "\n"+line+"\n")
	}
}

// status returns lines of a /proc/<pid>/status by their names.
func (b *box) statusOf(pid int) map[string]string {
	b.Helper()
	out := map[string]string{}
	for line := range strings.Lines(b.do("/inside", "cat", "/proc/"+strconv.Itoa(pid)+"/status")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		out[name] = value
	}
	return out
}

const nothing = "0000000000000000"

// hive and its workers are a user without rights in there, and nothing they start gets any.
func TestRunsAsNobodyInParticular(t *testing.T) {
	t.Parallel()
	b := serving(t, options{env: withTypes})
	w := b.autostarted()
	for _, pid := range []int{1, *w.PID} {
		s := b.statusOf(pid)
		require.Equal(t, "65532\t65532\t65532\t65532", s["Uid"], pid)
		require.Equal(t, "65532\t65532\t65532\t65532", s["Gid"], pid)
		require.Equal(t, "1", s["NoNewPrivs"], pid)
		for _, set := range []string{"CapEff", "CapPrm", "CapBnd", "CapAmb"} {
			require.Equal(t, nothing, s[set], "%d: %s", pid, set)
		}
	}
	code, said := b.exec("/inside", "fill", "/somewhere")
	require.NotZero(t, code)
	require.Contains(t, said, "read-only file system")
}

// A volume of a hive that was root is refused until it has the image's user for an owner; a
// hive that goes on as root needs no capability for it.
func TestVolumeOfRoot(t *testing.T) {
	t.Parallel()
	volume := newVolume(t)
	first := serving(t, options{volume: volume, root: true})
	w := first.up("cpu")
	first.signal(docker.SIGKILL)
	require.Equal(t, 137, first.ended())

	b := start(t, options{volume: volume})
	require.NotZero(t, b.ended())
	require.Contains(t, b.said(), "/var/lib/hive")
	require.Contains(t, b.said(), "permission denied")

	first.again()
	first.awaitHive()
	require.Equal(t, "failed", first.worker(w.WorkerID).State)
	first.signal(docker.SIGTERM)
	require.Zero(t, first.ended())

	chown := start(t, options{ // as chown -R does on the host
		volume: volume, root: true, entry: []string{"/inside", "chown", "/var/lib/hive", "65532"},
		host: func(hc *docker.HostConfig) { hc.CapAdd = []string{"CHOWN", "DAC_READ_SEARCH"} },
	})
	require.Zero(t, chown.ended(), chown.said())
	b.again()
	b.awaitHive()
	require.Equal(t, "failed", b.worker(w.WorkerID).State)
}

// Entries with `user` need an image whose hive is root, with the capabilities that
// docker-compose.yml has in a comment: it starts such workers, adopts them, and ends
// them.
func TestWorkersOfOtherUsers(t *testing.T) {
	t.Parallel()
	o := underInit(withTypes...)
	o.root = true
	o.host = func(hc *docker.HostConfig) {
		hc.CapAdd = []string{"SETUID", "SETGID", "CHOWN", "KILL", "DAC_OVERRIDE", "SYS_PTRACE"}
	}
	b := serving(t, o)
	b.autostarted()
	w := b.up("someone")
	require.Equal(t, "4711\t4711\t4711\t4711", b.statusOf(*w.PID)["Uid"])
	b.kill("SIGKILL", b.hives()[0])
	b.eventually("hive has ended", func() bool { return len(b.hives()) == 0 })
	b.detached("/hive")
	b.awaitHive()
	recovery := b.status().Recovery
	require.Equal(t, 2, recovery.Adopted)
	require.Zero(t, recovery.Freed+recovery.Unverified)
	b.promises()
	require.NotEmpty(t, b.do("/hivectl", "logs", w.WorkerID), "a file that is the user's alone")
	b.do("/hivectl", "stop", w.WorkerID)
	require.Equal(t, "stopped", b.worker(w.WorkerID).State)
	b.promises()
}
