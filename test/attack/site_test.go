//go:build linux

package attack_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/skip"
)

// timeout bounds every wait for a condition.
const timeout = 20 * time.Second

// site is a hive, its directory, and everybody who attacks it.
type site struct {
	*testing.T
	dir    string // of root, which everybody may enter
	data   string // hive's; it makes it
	config string // hive's file
	uid    int    // whom hive runs as
	args   []string
	env    []string // hive's, besides what every program has
	cwd    string   // hive's
	group  string   // the cgroup that hive is started in; empty: that of the tests
	maps   []syscall.SysProcIDMap

	cmd *exec.Cmd
	out string
}

// newSite makes a place for a hive with a configuration, which root has written.
// What lives there ends with the test.
func newSite(t *testing.T, config string) *site {
	t.Helper()
	if cannot != "" {
		skip.Because(t, cannot)
	}
	dir, err := os.MkdirTemp("", "site-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	s := &site{T: t, dir: dir, data: dir + "/data", config: dir + "/hive.yaml", cwd: dir, out: dir + "/hive.out"}
	t.Cleanup(s.clear)
	s.write("hive.yaml", config)
	for _, sub := range []string{"bin", "home"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	s.args = []string{"--config", s.config, "--data-dir", s.data}
	return s
}

// in is the same place for a subtest.
func (s *site) in(t *testing.T) *site {
	c := *s
	c.T = t
	return &c
}

// write writes a file of root's, which everybody may read, and returns its path.
func (s *site) write(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// secret writes a file that only root may read.
func (s *site) secret(name, text string) string {
	s.Helper()
	path := s.write(name, text)
	require.NoError(s, os.Chmod(path, 0o600))
	return path
}

// homeOf makes a directory of somebody's.
func (s *site) homeOf(p person, name string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s, os.Mkdir(path, 0o755))
	require.NoError(s, os.Chown(path, p.uid, p.uid))
	return path
}

// script puts a program into hive's PATH, and returns its path.
func (s *site) script(name, text string) string {
	s.Helper()
	path := s.write("bin/"+name, "#!/bin/sh\n"+text+"\n")
	require.NoError(s, os.Chmod(path, 0o755))
	return path
}

// launch starts hive, and does not wait for it.
func (s *site) launch() {
	s.Helper()
	out, err := os.OpenFile(s.out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	require.NoError(s, err)
	defer out.Close()
	s.cmd = exec.Command(binary("hive"), s.args...)
	s.cmd.Dir = s.cwd
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.Env = append([]string{
		"PATH=" + s.dir + "/bin:" + os.Getenv("PATH"), "HOME=" + s.dir + "/home", "TMPDIR=" + s.dir, "LANG=C.UTF-8",
	}, s.env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.uid != 0 {
		id := uint32(s.uid)
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{}}
		s.cmd.SysProcAttr.Credential.NoSetGroups = s.maps != nil
	}
	if s.maps != nil {
		s.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		s.cmd.SysProcAttr.UidMappings, s.cmd.SysProcAttr.GidMappings = s.maps, s.maps
	}
	if s.group != "" {
		dir, err := os.Open(s.group)
		require.NoError(s, err)
		defer dir.Close()
		s.cmd.SysProcAttr.UseCgroupFD, s.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	require.NoError(s, s.cmd.Start())
}

// start starts hive and waits until it serves.
func (s *site) start() *site {
	s.Helper()
	s.launch()
	require.True(s, s.serves(), "hive does not serve: %s", s.printed())
	return s
}

// serves waits until hive serves, or has ended.
func (s *site) serves() (yes bool) {
	s.Helper()
	s.await("hive serves or ends", func() bool {
		yes = get("/health").within(time.Second).send().Status == 200
		return yes || s.ended()
	})
	return yes
}

// ended reports whether hive has ended.
func (s *site) ended() bool {
	return (&actor{cmd: s.cmd}).ended()
}

// crash is kill -9.
func (s *site) crash() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
}

// printed is all that hive has printed until now.
func (s *site) printed() string {
	text, err := os.ReadFile(s.out)
	require.NoError(s, err)
	return string(text)
}

// await waits for a condition; what is for the failure.
func (s *site) await(what string, condition func() bool) {
	s.Helper()
	require.True(s, s.within(timeout, condition), "%s: not within %s", what, timeout)
}

// within waits for a condition for so long, and reports whether it came true.
func (s *site) within(limit time.Duration, condition func() bool) bool {
	for end := time.Now().Add(limit); ; pause() {
		switch {
		case condition():
			return true
		case time.Now().After(end):
			return false
		}
	}
}

// pause lies between two checks of a condition.
func pause() { <-time.After(5 * time.Millisecond) }

// ok sends a request as root, which must succeed.
func (s *site) ok(a ask, into any) {
	s.Helper()
	r := a.send()
	require.Less(s, r.Status, 300, "%s %s: %s", a.Method, a.Path, r)
	require.NotZero(s, r.Status, "%s %s: %s", a.Method, a.Path, r)
	if into != nil {
		require.NoError(s, json.Unmarshal([]byte(r.Body), into), r.Body)
	}
}

// spawn has root start a worker, and returns the job when it has ended.
func (s *site) spawn(fields map[string]any) (job wire.Job) {
	s.Helper()
	s.ok(operate("worker_spawn", fields), &job)
	return job
}

// up has root start a worker, which must succeed.
func (s *site) up(kind, name string) (w wire.Worker) {
	s.Helper()
	job := s.spawn(map[string]any{"worker": kind, "name": name})
	require.Equal(s, "succeeded", job.State, "%+v", job.Error)
	s.ok(get("/v1/workers/"+name), &w)
	return w
}

// jobState is the state in the response to an operation; empty: it was not accepted.
func (s *site) jobState(r reply) string {
	s.Helper()
	var job wire.Job
	if r.Status != 200 {
		return ""
	}
	require.NoError(s, json.Unmarshal([]byte(r.Body), &job), "%s", r)
	return job.State
}

// worker is what root sees of a worker; nil: there is none.
func (s *site) worker(name string) *wire.Worker {
	s.Helper()
	r := get("/v1/workers/" + name).send()
	if r.Status == 404 {
		return nil
	}
	var w wire.Worker
	require.NoError(s, json.Unmarshal([]byte(r.Body), &w), "%s", r)
	return &w
}

// leasesOf are the ports that are leased for an owner.
func (s *site) leasesOf(owner string) (ports []uint16) {
	s.Helper()
	var list wire.Leases
	s.ok(get("/v1/leases"), &list)
	for _, l := range list.Leases {
		if l.Owner != nil && *l.Owner == owner {
			ports = append(ports, l.Port)
		}
	}
	return ports
}

func itoa(n int) string { return strconv.Itoa(n) }

// ownerOf is the uid of who made a file; -1: it is not there.
func ownerOf(path string) int {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return -1
	}
	return int(st.Uid)
}

// clear ends all processes but the tests and init, and removes the cgroups.
func (s *site) clear() {
	if s.Failed() && s.cmd != nil {
		out, _ := os.ReadFile(s.out)
		s.Logf("hive printed:\n%s", out[max(0, len(out)-6000):])
	}
	if s.cmd != nil {
		s.crash()
	}
	left := s.within(timeout, func() bool {
		others := strangersHere()
		for _, pid := range others {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(others) == 0
	})
	if !left {
		s.Errorf("still there after the test: %v", strangersHere())
	}
	if own := ownCgroup(); strings.HasPrefix(filepath.Base(own), "attack-") {
		subs, _ := filepath.Glob(own + "/*/cgroup.procs")
		for _, sub := range subs {
			removeCgroup(filepath.Dir(sub))
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.Errorf("remove the place: %v", err)
	}
}

// strangersHere is every living process of this PID namespace but its init and the
// tests; none in any other namespace than the one that init has made.
func strangersHere() (pids []int) {
	self, _ := os.Readlink("/proc/self/exe")
	init, _ := os.Readlink("/proc/1/exe")
	if self == "" || self != init || os.Getppid() != 1 {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(rest, "Z") {
			pids = append(pids, pid)
		}
	}
	return pids
}
