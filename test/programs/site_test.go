//go:build linux

package programs_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// timeout bounds every wait for a condition.
const timeout = 30 * time.Second

// site is a hive with its directory and all that it has started.
type site struct {
	*testing.T
	hive *harness.Instance
	root string // the name of its cgroup; empty until it has started
}

// newSite starts hive. What comes from it is gone when the test ends.
func newSite(t *testing.T, hive *harness.Instance, err error) *site {
	t.Helper()
	require.NoError(t, err)
	s := &site{T: t, hive: hive}
	t.Cleanup(s.clear)
	s.start()
	return s
}

func (s *site) start() {
	s.Helper()
	require.NoError(s, s.hive.Start(s.Context()))
	info, err := s.hive.Info(s.Context())
	require.NoError(s, err)
	s.root = "hive-" + info.StateID[:12]
}

// crash is kill -9 of hive, and its next start. It has adopted n workers.
func (s *site) crash(n int) {
	s.Helper()
	s.hive.Kill()
	s.start()
	info, err := s.hive.Info(s.Context())
	require.NoError(s, err)
	require.Equal(s, n, info.Recovery.Adopted, "workers adopted: %+v", info.Recovery)
	require.Zero(s, info.Recovery.Unverified)
}

// submit has hive do something and returns the job when it has ended.
func (s *site) submit(request map[string]any) wire.Job {
	s.Helper()
	job, err := s.hive.Do(s.Context(), request)
	require.NoError(s, err, "%v", request)
	return job
}

// up starts a worker and returns it.
func (s *site) up(kind, wait string) wire.Worker {
	s.Helper()
	job := s.submit(map[string]any{"operation": "worker_spawn", "worker": kind, "wait": wait})
	require.Equal(s, "succeeded", job.State, "%+v", job.Error)
	var spawned wire.Spawned
	require.NoError(s, json.Unmarshal(job.Result, &spawned))
	return s.worker(spawned.WorkerID)
}

func (s *site) worker(id string) (w wire.Worker) {
	s.Helper()
	require.NoError(s, s.hive.Get(s.Context(), "/v1/workers/"+id, &w))
	return w
}

// stop asks for the end of a worker. It returns the job.
func (s *site) stop(id string) wire.Job {
	s.Helper()
	return s.submit(map[string]any{"operation": "worker_stop", "worker_id": id})
}

// lease returns the lease of a port, nil if it has none.
func (s *site) lease(port uint16) *wire.Lease {
	s.Helper()
	leases, err := s.hive.Leases(s.Context())
	require.NoError(s, err)
	if i := slices.IndexFunc(leases, func(l wire.Lease) bool { return l.Port == port }); i >= 0 {
		return &leases[i]
	}
	return nil
}

// await waits for a condition; what is for the failure.
func (s *site) await(what string, condition func() bool) {
	s.Helper()
	for end := time.Now().Add(timeout); !condition(); pause() {
		require.True(s, time.Now().Before(end), "%s: not within %s", what, timeout)
	}
}

// pause lies between two checks of a condition.
func pause() { <-time.After(5 * time.Millisecond) }

// process is one that was seen; start tells it apart from one that got its number.
type process struct {
	pid   int
	start string
	name  string
}

func (p process) alive() bool {
	now, ok := processOf(p.pid)
	return ok && now.start == p.start
}

func processOf(pid int) (process, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	i, j := strings.IndexByte(string(raw), '('), strings.LastIndexByte(string(raw), ')')
	f := strings.Fields(string(raw[j+1:])) // from field 3 on
	return process{pid, f[22-3], string(raw[i+1 : j])}, f[0] != "Z" && f[0] != "X"
}

// everybody is all processes that come from this hive, but itself: by the instance's
// mark in the environment, output into its directory, its cgroup, or descent from
// any of these.
func (s *site) everybody() []process {
	s.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(s, err)
	ours, parent := map[int]bool{}, map[int]int{}
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		parent[pid] = parentOf(pid)
		ours[pid] = s.marked(d)
	}
	var found []process
	for pid := range parent {
		for at, n := pid, 0; at > 1 && n < 100; at, n = parent[at], n+1 {
			if at == s.hive.PID() || at == os.Getpid() {
				break
			}
			if p, alive := processOf(pid); ours[at] && alive {
				found = append(found, p)
				break
			}
		}
	}
	return slices.DeleteFunc(found, func(p process) bool { return p.pid == s.hive.PID() })
}

func parentOf(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	n, _ := strconv.Atoi(f[4-3])
	return n
}

func (s *site) marked(dir string) bool {
	env, _ := os.ReadFile(dir + "/environ")
	cgroup, _ := os.ReadFile(dir + "/cgroup")
	if strings.Contains(string(env), s.hive.Mark()) || strings.Contains(string(cgroup), "/"+s.root+"/") {
		return true
	}
	for _, fd := range []string{"1", "2"} {
		if log, err := os.Readlink(dir + "/fd/" + fd); err == nil && strings.HasPrefix(log, s.hive.Dir+"/data/") {
			return true
		}
	}
	return false
}

// noneLives requires that these have ended.
func (s *site) noneLives(procs []process, when string) {
	s.Helper()
	for _, p := range procs {
		require.False(s, p.alive(), "%s (pid %d) runs on %s", p.name, p.pid, when)
	}
}

// freed waits until a port has no lease, and requires that by then nobody of its
// last holder lives and nobody listens.
func (s *site) freed(port uint16, tree []process) {
	s.Helper()
	s.await(fmt.Sprintf("the end of the lease of port %d", port), func() bool { return s.lease(port) == nil })
	s.noneLives(tree, "and its port is free")
	s.silent(port)
}

// silent requires that nobody listens on a port.
func (s *site) silent(port uint16) {
	s.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err == nil {
		c.Close()
	}
	require.ErrorIs(s, err, syscall.ECONNREFUSED, "port %d", port)
}

// clear ends hive and all that comes from it.
func (s *site) clear() {
	if s.root != "" {
		s.hive.Kill()
		for end := time.Now().Add(timeout); ; pause() {
			left := s.everybody()
			for _, p := range left {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
			if len(left) == 0 && s.noCgroups() {
				break
			}
			if time.Now().After(end) {
				s.Errorf("still there after the test: %v", left)
				break
			}
		}
		if out, err := os.ReadFile(s.hive.Output()); err == nil && s.Failed() {
			s.Logf("hive said:\n%s", out[max(0, len(out)-8000):])
		}
	}
	if err := s.hive.Close(nil); err != nil {
		s.Errorf("close hive: %v", err)
	}
}

// noCgroups removes hive's cgroup and reports whether it is gone.
func (s *site) noCgroups() bool {
	gone := true
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		for _, below := range []string{"", "*", "*/*", "*/*/*"} {
			roots, _ := filepath.Glob(filepath.Join(mount, below, s.root))
			for _, root := range roots {
				leaves, _ := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
				for _, leaf := range leaves {
					_ = os.Remove(filepath.Dir(leaf)) // the root cannot be removed then
				}
				gone = os.Remove(root) == nil && gone
			}
		}
	}
	return gone
}
