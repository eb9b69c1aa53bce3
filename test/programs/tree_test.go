//go:build linux

package programs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

// withoutCgroups hides cgroup v2 from hive, as in most containers.
var withoutCgroups = []string{"unshare", "--mount", "sh", "-c", `umount -l -a -t cgroup2; exec "$@"`, "sh"}

// treeSite is a hive with a worker type for each kind of leader.
type treeSite struct {
	*site
	dir string // where children leave their PIDs
}

func newTreeSite(t *testing.T, cgroups bool) *treeSite {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	program := filepath.Join(dir, "tree-leader")
	require.NoError(t, os.Symlink(self, program))
	var entries strings.Builder
	for _, kind := range []string{"none", "bare", "stamped", "logged", "heir", "chain"} {
		fmt.Fprintf(&entries, "\n  - {name: %s, command: ['%s', '{{.Host}}:{{.Port}}', %s, '%s/{{.WorkerID}}'], stop: {grace: 100ms}}", kind, program, kind, dir)
	}
	hive, err := harness.New(os.Getenv(binaryVar), 16, entries.String())
	if err == nil && !cgroups && cgroupsExpected() {
		hive.Wrap = withoutCgroups
	}
	s := &treeSite{newSite(t, hive, err), dir}
	has := s.hasCgroups()
	switch {
	case cgroups && !has && cgroupsExpected():
		t.Fatal("cgroup v2 can be written here and hive does not use it")
	case cgroups && !has:
		t.Skip("there is no cgroup v2 here that can be written") // nothing that CI could install
	case !cgroups && has:
		skip.Because(t, "cgroup v2 cannot be hidden from hive here")
	}
	return s
}

// cgroupsExpected reports whether hive can be expected to use cgroups on this
// machine: it would be root's, and cgroup v2 is mounted so that it can be written.
func cgroupsExpected() bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || os.Geteuid() != 0 {
		return false
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return unix.Access(f[1], unix.W_OK) == nil && strings.HasPrefix(f[3], "rw")
		}
	}
	return false
}

// hasCgroups is what the doctor says.
func (s *site) hasCgroups() bool {
	s.Helper()
	var d wire.Doctor
	require.NoError(s, s.hive.Get(s.Context(), "/v1/doctor", &d))
	for _, c := range d.Checks {
		if c.Name == "cgroup" {
			return c.Status == "ok"
		}
	}
	require.Fail(s, "the doctor has no check of cgroups")
	return false
}

// child waits for the PID that the worker's child leaves.
func (s *treeSite) child(w wire.Worker) process {
	s.Helper()
	var pid int
	file := filepath.Join(s.dir, w.WorkerID)
	s.await("a child of "+w.WorkerID, func() bool {
		raw, err := os.ReadFile(file)
		if err == nil {
			pid, err = strconv.Atoi(string(raw))
		}
		return err == nil
	})
	p, alive := processOf(pid)
	require.True(s, alive)
	s.Cleanup(func() {
		if p.alive() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return p
}

// each runs a test with and without cgroups, and with workers of a living hive and
// of one that was killed.
func each(t *testing.T, test func(t *testing.T, cgroups, adopted bool)) {
	t.Helper()
	for _, cgroups := range []bool{true, false} {
		for _, adopted := range []bool{false, true} {
			name := map[bool]string{true: "cgroups", false: "no cgroups"}[cgroups] + map[bool]string{true: " adopted"}[adopted]
			t.Run(name, func(t *testing.T) { test(t, cgroups, adopted) })
		}
	}
}

// Children that have lost their parent, are in sessions of their own and ignore
// SIGTERM; some have wiped their environment, some serve on. None of them is left
// when the port is free, whether the worker is stopped or its leader is killed.
func TestNothingOfATreeIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("long: ends six trees of processes in each of four ways")
	}
	each(t, func(t *testing.T, cgroups, adopted bool) {
		kinds := []string{"stamped", "logged", "heir"}
		if cgroups {
			kinds[0] = "bare" // nothing but the cgroup tells whose it is
		}
		s := newTreeSite(t, cgroups)
		type tree struct {
			wire.Worker
			procs  []process
			killed bool
		}
		var trees []tree
		for _, kind := range kinds {
			for _, killed := range []bool{false, true} {
				w := s.up(kind, "ready")
				main, _ := processOf(*w.PID)
				child := s.child(w)
				require.NotEqual(t, *w.PID, parentOf(child.pid))
				if kind != "bare" && kind != "stamped" {
					env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", child.pid))
					require.NoError(t, err)
					require.NotContains(t, string(env), "RBEEHIVE", "the environment is not overwritten")
				}
				trees = append(trees, tree{w, []process{main, child}, killed})
			}
		}
		if adopted {
			s.crash(len(trees))
		}
		for _, w := range trees {
			if w.killed {
				require.NoError(t, syscall.Kill(*w.PID, syscall.SIGKILL))
			} else {
				job := s.stop(w.WorkerID)
				require.Equal(t, "succeeded", job.State, "%s: %+v", w.Type, job.Error)
				s.noneLives(w.procs, "after the stop")
			}
			s.freed(w.Port, w.procs)
		}
		require.Empty(t, s.everybody())
	})
}

// A leader whose children are left dies while hive is down.
func TestALeaderDiesWhileHiveIsDown(t *testing.T) {
	for _, cgroups := range []bool{true, false} {
		t.Run(fmt.Sprintf("cgroups %t", cgroups), func(t *testing.T) {
			s := newTreeSite(t, cgroups)
			w := s.up("heir", "ready")
			procs := []process{s.child(w)}
			s.hive.Kill()
			require.NoError(t, syscall.Kill(*w.PID, syscall.SIGKILL))
			s.start()
			s.freed(w.Port, procs)
			require.Equal(t, "failed", s.worker(w.WorkerID).State)
		})
	}
}

// A chain of processes that live for a millisecond each. With a cgroup it is ended.
// Without one that is best effort; then it is reported, and the port is not given
// out as long as the chain goes on.
func TestAChainOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits for chains of processes that cannot be ended, in four ways")
	}
	each(t, func(t *testing.T, cgroups, adopted bool) {
		s := newTreeSite(t, cgroups)
		stopped, killed := s.up("chain", "ready"), s.up("chain", "ready")
		for _, w := range []wire.Worker{stopped, killed} {
			file := filepath.Join(s.dir, w.WorkerID)
			t.Cleanup(func() { _ = os.Remove(file) }) // ends the chain
			s.await("the chain", func() bool { return s.counts(w) })
		}
		if adopted {
			s.crash(2)
		}
		job := s.stop(stopped.WorkerID)
		require.NoError(t, syscall.Kill(*killed.PID, syscall.SIGKILL))
		s.await("the end of the leader", func() bool { return s.worker(killed.WorkerID).State == "failed" })
		for _, w := range []wire.Worker{stopped, killed} {
			lease := s.lease(w.Port)
			counts := s.counts(w)
			t.Logf("%s: job %s, %+v, lease %+v, the chain goes on: %t", w.WorkerID, job.State, job.Error, lease, counts)
			if cgroups || lease == nil {
				require.False(t, counts, "the chain goes on and the port is free")
				require.Nil(t, lease)
				continue
			}
			require.Equal(t, "quarantined", lease.State)
			require.Contains(t, *lease.Reason, "could not be ended")
		}
		if cgroups {
			require.Equal(t, "succeeded", job.State, "%+v", job.Error)
		}
		if job.State != "succeeded" {
			require.Equal(t, "stop_incomplete", job.Error.Code)
		}
	})
}

// counts reports whether the worker's chain goes on.
func (s *treeSite) counts(w wire.Worker) bool {
	s.Helper()
	read := func() string {
		raw, _ := os.ReadFile(filepath.Join(s.dir, w.WorkerID))
		return string(raw)
	}
	was := read()
	for range 40 {
		if pause(); read() != was {
			return true
		}
	}
	return false
}

// The record says 77 or that it is not known, never something else.
func TestExitCode(t *testing.T) {
	for _, when := range []string{"living", "adopted", "down"} {
		t.Run(when, func(t *testing.T) {
			s := newTreeSite(t, cgroupsExpected())
			w := s.up("none", "ready")
			if when == "adopted" {
				s.crash(1)
			}
			if when == "down" {
				s.hive.Kill()
			}
			require.NoError(t, syscall.Kill(*w.PID, syscall.SIGUSR1))
			if when == "down" {
				s.await("the end of the worker", func() bool { _, alive := processOf(*w.PID); return !alive })
				s.start()
			}
			s.freed(w.Port, nil)
			var exit *wire.Exit
			s.await("what is known of the exit", func() bool { exit = s.worker(w.WorkerID).Exit; return exit != nil })
			require.Nil(t, exit.Signal)
			if when == "living" || when == "adopted" && kernelAtLeast(t, 6, 15) {
				require.NotNil(t, exit.Code, "the kernel knows it")
			}
			if exit.Code != nil {
				require.Equal(t, exitCode, *exit.Code)
			}
		})
	}
}

func kernelAtLeast(t *testing.T, major, minor int) bool {
	var name unix.Utsname
	require.NoError(t, unix.Uname(&name))
	var x, y int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &x, &y)
	require.NoError(t, err)
	return x > major || x == major && y >= minor
}
