package proc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/hive/proc"
	"rbeehive/test/program"
	"rbeehive/test/skip"
)

func TestCapEff(t *testing.T) {
	mask, err := proc.CapEff("Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t0000000000080000\nCapBnd:\t1\n")
	require.NoError(t, err)
	require.EqualValues(t, 1<<unix.CAP_SYS_PTRACE, mask)
	for _, bad := range []string{"", "CapEff:\n", "CapEff:\tx\n"} {
		_, err := proc.CapEff(bad)
		require.Error(t, err, bad)
	}
}

func TestHidingOf(t *testing.T) {
	const root = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	mount := func(options string) string {
		return root + "22 27 0:21 / /proc rw,nosuid shared:12 - proc proc " + options + "\n"
	}
	for text, want := range map[string]proc.Hiding{
		mount("rw"):                          {Mode: "off"},
		mount("rw,hidepid=off"):              {Mode: "off"},
		mount("rw,hidepid=2"):                {Mode: "invisible"},
		mount("rw,gid=7,hidepid=1"):          {Mode: "noaccess", Exempt: true},
		mount("rw,gid=8,hidepid=noaccess"):   {Mode: "noaccess"},
		mount("rw,hidepid=ptraceable,gid=7"): {Mode: "ptraceable"},
		mount("rw,hidepid=4"):                {Mode: "ptraceable"},
		mount("rw") + mount("rw,hidepid=2"):  {Mode: "invisible"}, // mounted over
		mount("rw") + "30 22 0:50 / /proc/x rw - proc proc rw,hidepid=2\n": {Mode: "off"},
	} {
		h, err := proc.HidingOf(text, []int{5, 7})
		require.NoError(t, err, text)
		require.Equal(t, want, h, text)
	}
	h, err := proc.HidingOf(mount("rw,hidepid=2"), []int{0})
	require.NoError(t, err)
	require.True(t, h.Exempt, "without gid= it is group 0")
	for _, text := range []string{"", root, "garbage\n"} {
		_, err := proc.HidingOf(text, nil)
		require.ErrorContains(t, err, "/proc is not a mount of its own")
	}
}

func TestUnitOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/hive.service\n":                                                "hive.service",
		"0::/system.slice/hive.service/main\n":                                           "hive.service",
		"0::/system.slice/_cpu.service\n":                                                "cpu.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/hive.service\n":      "hive.service of a user",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-1.scope\n": "app-gnome-1.scope of a user",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                               "session-2.scope",
		"0::/\n": "",
		"":       "",
		"8:pids:/x\n1:name=systemd:/system.slice/old.service\n0::/system.slice/new.service\n": "old.service",
		"8:pids:/system.slice/old.service\n0::/\n":                                            "",
	} {
		name, user := proc.UnitOf(text)
		if user {
			name += " of a user"
		}
		require.Equal(t, want, name, text)
	}
}

func TestCgroupIn(t *testing.T) {
	const text = "9:name=systemd:/a\n5:cpu,cpuacct:/b:c\n8:pids:/d\n0::/e\n"
	for controller, want := range map[string]string{"name=systemd": "/a", "cpuacct": "/b:c", "pids": "/d", "": "/e", "memory": ""} {
		require.Equal(t, want, proc.CgroupIn(text, controller), controller)
	}
}

func TestTaskLimitsUp(t *testing.T) {
	mount := t.TempDir()
	write := func(dir, file, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(mount, dir), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(mount, dir, file), []byte(text), 0o600))
	}
	write("a/b", "pids.max", "max\n")
	write("a", "pids.max", "4915\n")
	write("a", "pids.current", "12\n")
	write("", "pids.max", "99\n") // the root of a container's view
	require.Equal(t, []proc.Limit{
		{Max: 4915, Used: 12, Where: mount + "/a/pids.max"}, {Max: 99, Where: mount + "/pids.max"},
	}, proc.TaskLimitsUp(mount, "/a/b"))
	require.Empty(t, proc.TaskLimitsUp(t.TempDir(), "/nowhere"))
}

// systemctl is a stand-in that is found first.
func systemctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, program.Write(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	t.Setenv("PATH", dir)
}

func TestShowUnit(t *testing.T) {
	systemctl(t, `echo "$@" >&2; [ "$*" = "show --no-pager -p LoadState,KillMode,Delegate -- hive.service" ] || exit 3
echo KillMode=process; echo Delegate=yes; echo LoadState=loaded`)
	got, err := proc.ShowUnit(t.Context(), "hive.service", false)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"KillMode": "process", "Delegate": "yes", "LoadState": "loaded"}, got)
	_, err = proc.ShowUnit(t.Context(), "hive.service", true)
	require.EqualError(t, err, "systemctl: exit status 3: --user show --no-pager -p LoadState,KillMode,Delegate -- hive.service")
}

func TestShowUnitFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo LoadState=not-found; echo KillMode=control-group": "systemctl does not know hive.service",
		"echo Failed to connect to bus >&2; exit 1":             "systemctl: exit status 1: Failed to connect to bus",
		"exec /bin/sleep 600":                                   "systemctl did not answer within 2s",
	} {
		systemctl(t, script)
		_, err := proc.ShowUnit(t.Context(), "hive.service", false)
		require.EqualError(t, err, want)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := proc.ShowUnit(t.Context(), "hive.service", false)
	require.EqualError(t, err, "systemctl is not there")
}

// seen is what a process finds out about the place it runs in.
type seen struct {
	Trace       bool
	Hiding      proc.Hiding
	First       proc.First
	Descriptors proc.Limit
	Tasks       []proc.Limit
}

// surroundings says what this process sees. With "hide" /proc is mounted anew
// with hidepid, with "zombie" a child ends that nobody reaps.
func surroundings(args []string) int {
	if err := prepare(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := look()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return exitOn(json.NewEncoder(os.Stdout).Encode(s))
}

func exitOn(err error) int {
	if err != nil {
		return 1
	}
	return 0
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

func look() (s seen, err error) {
	if s.Trace, err = proc.CanTrace(); err != nil {
		return s, err
	}
	if s.Hiding, err = proc.ProcHiding(); err != nil {
		return s, err
	}
	if s.Descriptors, err = proc.DescriptorLimit(); err != nil {
		return s, err
	}
	if s.Tasks, err = proc.TaskLimits(); err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.First, err = proc.FindFirst(ctx)
	return s, err
}

// seenBy runs a stand-in in another place and returns what it saw.
func seenBy(t *testing.T, attr *syscall.SysProcAttr, args ...string) (s seen) {
	t.Helper()
	skip.UnlessRoot(t, "other users and namespaces need root")
	cmd := relative("surroundings", args)
	cmd.SysProcAttr = attr
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), errs.String())
	require.NoError(t, json.Unmarshal(out.Bytes(), &s))
	return s
}

// A container without an init: hive is PID 1, and /proc hides.
func TestInAContainer(t *testing.T) {
	s := seenBy(t, &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS,
	}, "hide", "zombie")
	require.Equal(t, proc.Hiding{Mode: "invisible"}, s.Hiding)
	require.True(t, s.First.Self)
	require.False(t, s.First.Parent)
	require.True(t, s.First.Container)
	require.Len(t, s.First.Zombies, 1, "a child that has ended lies about")
	require.True(t, s.Trace)
}

func TestAsAnOrdinaryUser(t *testing.T) {
	s := seenBy(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	require.False(t, s.Trace)
	require.False(t, s.First.Self)
	own := func(l proc.Limit) bool { return l.Where == "RLIMIT_NPROC" }
	var r unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NPROC, &r))
	require.Equal(t, r.Cur != unix.RLIM_INFINITY, slices.ContainsFunc(s.Tasks, own), "%+v", s.Tasks)
	root, err := look()
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(root.Tasks, own), "it does not bind root: %+v", root.Tasks)
	require.True(t, root.Trace)
}

// What there is to see here, in whatever place the tests run.
func TestSurroundings(t *testing.T) {
	require.Regexp(t, `^[0-9]+\.[0-9]+`, proc.KernelRelease())
	s, err := look()
	require.NoError(t, err)
	comm, err := os.ReadFile("/proc/1/comm")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(comm)), s.First.Program)
	require.False(t, s.First.Self)
	require.NotEmpty(t, s.Hiding.Mode)
	require.Greater(t, s.Descriptors.Max, s.Descriptors.Used)
	require.NotZero(t, s.Descriptors.Used)
	kernels := slices.IndexFunc(s.Tasks, func(l proc.Limit) bool { return l.Where == "/proc/sys/kernel/pid_max" })
	require.GreaterOrEqual(t, kernels, 0, "%+v", s.Tasks)
	require.Greater(t, s.Tasks[kernels].Max, s.Tasks[kernels].Used)
	require.NotZero(t, s.Tasks[kernels].Used)

	ports, err := proc.ReadLocalPorts()
	require.NoError(t, err)
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	require.NoError(t, err)
	require.Equal(t, strings.Fields(string(text)), strings.Split(ports.Range.String(), "-"))
	for _, r := range ports.Reserved {
		require.Positive(t, r.Len())
	}
	_, err = proc.ClockSynchronised()
	if err != nil {
		require.ErrorIs(t, err, os.ErrPermission, "only a sandbox forbids it")
	}
	u, err := proc.FindUnit(t.Context())
	require.True(t, err == nil || u.Service(), "%+v: %v", u, err)
}

// The ports that a network namespace of its own has set apart.
func TestReadLocalPortsInANamespace(t *testing.T) {
	skip.UnlessRoot(t, "a network namespace needs root")
	cmd := relative("local-ports", []string{"8000 9000", "8080,8100-8199"})
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var p proc.LocalPorts
	require.NoError(t, json.Unmarshal(out, &p), string(out))
	require.Equal(t, proc.LocalPorts{
		Range: alloc.Range{First: 8000, Last: 9000}, Reserved: []alloc.Range{{First: 8080, Last: 8080}, {First: 8100, Last: 8199}},
	}, p)
}

// localPorts sets the two sysctls of its own namespace and says what is read.
func localPorts(args []string) int {
	for i, name := range []string{"ip_local_port_range", "ip_local_reserved_ports"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(args[i]), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	p, err := proc.ReadLocalPorts()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return exitOn(json.NewEncoder(os.Stdout).Encode(p))
}
