package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/host"
	"rbeehive/test/skip"
)

// reported is what a process finds out about the place it runs in.
type reported struct {
	Trace       bool
	Hiding      host.Hiding
	First       host.First
	Descriptors host.Limit
	Tasks       []host.Limit
}

// report writes what this process finds out to stdout. With "hide" /proc is mounted
// anew with hidepid, with "zombie" a child ends that nobody reaps.
func report(args []string) int {
	if err := prepare(args); err != nil {
		return exitOn(err)
	}
	r, err := examine()
	if err != nil {
		return exitOn(err)
	}
	return exitOn(json.NewEncoder(os.Stdout).Encode(r))
}

func prepare(args []string) error {
	if slices.Contains(args, "hide") {
		if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2,gid=4711"); err != nil {
			return err
		}
	}
	if slices.Contains(args, "zombie") {
		cmd := exec.Command("/bin/true")
		if err := cmd.Start(); err != nil { // and never Wait
			return err
		}
		return unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	return nil
}

func examine() (r reported, err error) {
	if r.Trace, err = host.CanTrace(); err != nil {
		return r, err
	}
	if r.Hiding, err = host.ProcHiding(); err != nil {
		return r, err
	}
	if r.Descriptors, err = host.DescriptorLimit(); err != nil {
		return r, err
	}
	if r.Tasks, err = host.TaskLimits(); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r.First, err = host.FindFirst(ctx)
	return r, err
}

// reportFrom runs a stand-in in another place and returns what it found out.
func reportFrom(t *testing.T, attr *syscall.SysProcAttr, args ...string) (r reported) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Because(t, "other users and namespaces need root")
	}
	cmd := standIn("report", args...)
	cmd.SysProcAttr = attr
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), errs.String())
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	return r
}

// A container without an init: hive is PID 1, and /proc hides.
func TestReportInAContainer(t *testing.T) {
	r := reportFrom(t, &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS,
	}, "hide", "zombie")
	require.Equal(t, host.Hiding{Mode: "invisible"}, r.Hiding)
	require.True(t, r.First.Self)
	require.False(t, r.First.Parent)
	require.True(t, r.First.Container)
	require.Len(t, r.First.Zombies, 1, "the child that nobody reaps")
	require.True(t, r.Trace)
}

func TestReportAsAnOrdinaryUser(t *testing.T) {
	r := reportFrom(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	require.False(t, r.Trace)
	require.False(t, r.First.Self)
	own := func(l host.Limit) bool { return l.Where == "RLIMIT_NPROC" }
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NPROC, &limit))
	require.Equal(t, limit.Cur != unix.RLIM_INFINITY, slices.ContainsFunc(r.Tasks, own), "%+v", r.Tasks)
	root, err := examine()
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(root.Tasks, own), "it does not bind root: %+v", root.Tasks)
	require.True(t, root.Trace)
}

// What can be found out here, in whatever place the tests run.
func TestReportOnThisMachine(t *testing.T) {
	require.Regexp(t, `^[0-9]+\.[0-9]+`, host.KernelRelease())
	require.False(t, host.IsInit(), "go test is the parent")
	r, err := examine()
	require.NoError(t, err)
	comm, err := os.ReadFile("/proc/1/comm")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(comm)), r.First.Program)
	require.False(t, r.First.Self)
	require.NotEmpty(t, r.Hiding.Mode)
	require.Greater(t, r.Descriptors.Max, r.Descriptors.Used)
	require.NotZero(t, r.Descriptors.Used)
	kernels := slices.IndexFunc(r.Tasks, func(l host.Limit) bool { return l.Where == "/proc/sys/kernel/pid_max" })
	require.GreaterOrEqual(t, kernels, 0, "%+v", r.Tasks)
	require.Greater(t, r.Tasks[kernels].Max, r.Tasks[kernels].Used)
	require.NotZero(t, r.Tasks[kernels].Used)

	ports, err := host.ReadLocalPorts()
	require.NoError(t, err)
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	require.NoError(t, err)
	require.Equal(t, strings.Fields(string(text)), strings.Split(ports.Range.String(), "-"))
	for _, r := range ports.Reserved {
		require.Positive(t, r.Len())
	}
	_, err = host.ClockSynchronised()
	if err != nil {
		require.ErrorIs(t, err, os.ErrPermission, "only a sandbox forbids it")
	}
	u, err := host.FindUnit(t.Context(), os.Environ())
	require.True(t, err == nil || u.Service(), "%+v: %v", u, err)
}

// A zombie that stays does not hold FindFirst up for longer than its context.
func TestFindFirstEndsWithItsContext(t *testing.T) {
	if os.Geteuid() != 0 {
		skip.Because(t, "a PID namespace needs root")
	}
	cmd := standIn("impatient", "zombie")
	cmd.SysProcAttr.Cloneflags, cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWPID, unix.CLONE_NEWNS
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, context.Canceled.Error()+"\n", string(out))
}

// impatient asks for PID 1, which it is itself, with a context that has ended.
func impatient(args []string) int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return exitOn(err)
	}
	if err := prepare(args); err != nil {
		return exitOn(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := host.FindFirst(ctx)
	fmt.Println(err)
	return 0
}
