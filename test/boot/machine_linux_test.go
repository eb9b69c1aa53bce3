package boot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/test/skip"
)

// timeout is for what takes a moment on an idle machine.
const timeout = 60 * time.Second

// machine is one with a systemd of its own. All of it ends with the test.
type machine struct {
	*testing.T
	init int // PID of its systemd, as this machine counts
}

// boot starts a machine that has the files of shared, and waits for its systemd.
func boot(t *testing.T, shared string) *machine {
	t.Helper()
	skip.UnlessRoot(t, "only root can boot a machine")
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		skip.Because(t, "systemd is not installed")
	}
	if _, err := os.Stat("/var/lib/dpkg/info/rbeehive.list"); err == nil {
		skip.Because(t, "the package is installed here, and would be in the machine, too")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cgroup := newCgroup(t)
	dir, err := os.Open(cgroup)
	require.NoError(t, err)
	defer dir.Close()
	console := filepath.Join(t.TempDir(), "console")
	out, err := os.Create(console)
	require.NoError(t, err)
	defer out.Close()
	cmd := exec.Command(self, t.TempDir(), shared)
	cmd.Env = append(os.Environ(), roleVar+"=init")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL, Setsid: true,
	}
	started := make(chan error)
	go func() { // the thread that starts it must live as long: Pdeathsig is about threads
		runtime.LockOSThread()
		started <- cmd.Start()
		<-t.Context().Done()
	}()
	if err := <-started; err != nil {
		skip.Because(t, "new namespaces take CAP_SYS_ADMIN: "+err.Error())
	}
	m := &machine{t, cmd.Process.Pid}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := m.run("journalctl", "--no-pager", "--lines=200", "--output=short-monotonic")
			t.Logf("the machine's journal:\n%s", said)
		}
		_ = cmd.Process.Kill()
		<-ended
	})
	m.eventually("systemd has booted", func() bool {
		select {
		case <-ended:
			said, _ := os.ReadFile(console)
			skip.Because(t, string(said))
		default:
		}
		said, _ := m.run("systemctl", "is-system-running") // degraded: a unit of this machine's fails there
		return slices.Contains([]string{"running", "degraded"}, strings.TrimSpace(said))
	})
	return m
}

// newCgroup makes one below the test's own, which goes when the test ends.
func newCgroup(t *testing.T) string {
	t.Helper()
	mounts, err := procfs.GetMounts()
	require.NoError(t, err)
	at := slices.IndexFunc(mounts, func(m *procfs.MountInfo) bool { return m.FSType == "cgroup2" })
	if at < 0 {
		skip.Because(t, "there is no cgroup v2")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	_, own, _ := strings.Cut("\n"+string(text), "\n0::")
	own, _, _ = strings.Cut(own, "\n")
	dir, err := os.MkdirTemp(filepath.Join(mounts[at].MountPoint, own), "hive-boot-")
	if err != nil {
		skip.Because(t, "cgroup v2 cannot be written: "+err.Error())
	}
	m := &machine{T: t}
	t.Cleanup(func() {
		m.eventually("the machine's processes have ended, and its cgroups can go", func() bool {
			var dirs []string
			require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			}))
			for _, d := range slices.Backward(dirs) {
				err = unix.Rmdir(d)
			}
			return err == nil
		})
	})
	return dir
}

// inside is the command line that runs a program in the machine.
func (m *machine) inside(argv ...string) []string {
	enter := []string{"nsenter", "--target", strconv.Itoa(m.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root"}
	clean := []string{"env", "-i", "--chdir=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "SYSTEMD_PAGER="}
	return slices.Concat(enter, clean, argv)
}

// run runs a program in the machine and returns what it says.
func (m *machine) run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	line := m.inside(argv...)
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	return string(out), err
}

// do is run for what must work.
func (m *machine) do(argv ...string) string {
	m.Helper()
	said, err := m.run(argv...)
	require.NoError(m, err, "%v: %s", argv, said)
	return strings.TrimSpace(said)
}

// eventually waits for a condition, which may end the test.
func (m *machine) eventually(what string, cond func() bool) {
	m.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(timeout); !cond(); <-tick.C {
		require.True(m, time.Now().Before(deadline), "not within %s: %s", timeout, what)
	}
}

// write writes a file of the machine.
func (m *machine) write(path, text string) {
	m.Helper()
	require.NoError(m, os.WriteFile(fmt.Sprintf("/proc/%d/root%s", m.init, path), []byte(text), 0o600))
}

func (m *machine) read(path string) string {
	m.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", m.init, path))
	require.NoError(m, err)
	return string(text)
}

// active says for each unit whether it is.
func (m *machine) active(units ...string) []string {
	said, _ := m.run(append([]string{"systemctl", "is-active"}, units...)...) // not zero: one is not
	return strings.Fields(said)
}

// mainPID is that of hive, as the machine counts; 0: it does not run.
func (m *machine) mainPID() int {
	m.Helper()
	pid, err := strconv.Atoi(m.do("systemctl", "show", "--property=MainPID", "--value", "hive"))
	require.NoError(m, err)
	return pid
}

// stranger is a program of some user of the machine's. It ends when it is asked to, and
// prints a number.
type stranger struct {
	*machine
	argv  []string
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

func (m *machine) stranger(argv ...string) *stranger {
	m.Helper()
	s := &stranger{machine: m, argv: argv}
	line := m.inside(append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", here + "/probe"}, argv...)...)
	s.cmd = exec.CommandContext(m.Context(), line[0], line[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	stdin, err := s.cmd.StdinPipe()
	require.NoError(m, err)
	s.stdin = stdin
	require.NoError(m, s.cmd.Start())
	return s
}

// count ends it and returns its number.
func (s *stranger) count() int {
	s.Helper()
	require.NoError(s, s.stdin.Close())
	require.NoError(s, s.cmd.Wait(), "%v: %s", s.argv, s.out.String())
	n, err := strconv.Atoi(s.out.String())
	require.NoError(s, err)
	return n
}
