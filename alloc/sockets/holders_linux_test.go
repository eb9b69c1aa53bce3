package sockets_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/internal/porttest"
	"rbeehive/alloc/sockets"
	"rbeehive/test/skip"
)

func TestHoldersNamesProcesses(t *testing.T) {
	before := time.Now()
	c := startChild(t, "listen")
	port := porttest.Free(t, 2)
	porttest.Bind(t, at("127.0.0.1", port), porttest.Options{})
	porttest.TimeWait(t, port+1, true)

	var all []sockets.Socket
	for _, p := range []uint16{c.port, port, port + 1} {
		snap, err := sockets.NewTable().Port(t.Context(), p)
		require.NoError(t, err)
		all = append(all, snap.Port(p)...)
	}
	holders, err := sockets.Holders(t.Context(), all)
	require.NoError(t, err)
	byPort := map[uint16]sockets.Holder{}
	for _, h := range holders {
		byPort[h.Port] = h
	}
	require.Len(t, holders, 3)

	me, err := user.Current()
	require.NoError(t, err)
	foreign := byPort[c.port]
	require.Equal(t, sockets.KindListener, foreign.Kind)
	require.Equal(t, c.cmd.Process.Pid, foreign.PID)
	require.Equal(t, me.Username, foreign.User)
	require.Equal(t, "exe", foreign.Program) // what it was started as
	require.WithinDuration(t, before, foreign.Since, 5*time.Second)

	require.Equal(t, sockets.KindBound, byPort[port].Kind)
	require.Equal(t, os.Getpid(), byPort[port].PID)
	require.Equal(t, sockets.Holder{Port: port + 1, Kind: sockets.KindDraining}, byPort[port+1])
}

// Any user can give a process a name that drives a terminal.
func TestHoldersHavePlainNames(t *testing.T) {
	before, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.WriteFile("/proc/self/comm", before, 0o600)) })
	port := porttest.Free(t, 1)
	porttest.Bind(t, at("127.0.0.1", port), porttest.Options{})
	snap, err := sockets.NewTable().Port(t.Context(), port)
	require.NoError(t, err)
	for name, want := range map[string]string{
		"\x1b]0;x\x07": `\x1b]0;x\x07`, "nginx\u202e": `nginx\u202e`, "a\nb) S 1": `a\nb) S 1`, "\xff\x9b": `\xff\x9b`, "größe": "größe",
	} {
		require.NoError(t, os.WriteFile("/proc/self/comm", []byte(name), 0o600))
		holders, err := sockets.Holders(t.Context(), snap.Port(port))
		require.NoError(t, err)
		require.Equal(t, want, holders[0].Program)
		require.Contains(t, holders[0].String(), want+" (pid ")
	}
}

func TestHoldersOfSharedAndUnknownSockets(t *testing.T) {
	socks := []sockets.Socket{
		{Local: at("127.0.0.1", 9), State: sockets.Listen, Inode: 1<<63 + 1, UID: 4294967290},
		{Local: at("::1", 9), State: sockets.Listen, Inode: 1<<63 + 2, UID: 4294967290},
	}
	holders, err := sockets.Holders(t.Context(), socks)
	require.NoError(t, err)
	require.Equal(t, []sockets.Holder{{Port: 9, Kind: sockets.KindListener, User: "4294967290"}}, holders)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sockets.Holders(ctx, socks)
	require.ErrorIs(t, err, context.Canceled)
}

func TestOwnedBy(t *testing.T) {
	s := porttest.Listen(t, at("127.0.0.1", porttest.Free(t, 1)), porttest.Options{})
	mine := map[uint64]bool{porttest.Inode(t, s.FD()): true}
	c := startChild(t, "listen")

	owned, err := sockets.OwnedBy(os.Getpid(), mine)
	require.NoError(t, err)
	require.True(t, owned)
	owned, err = sockets.OwnedBy(c.cmd.Process.Pid, mine)
	require.NoError(t, err)
	require.False(t, owned)

	_, err = sockets.OwnedBy(1<<30, mine)
	require.ErrorIs(t, err, fs.ErrNotExist, "unknown is not no")
}

func TestOwnedByWithoutPermissionIsNotNo(t *testing.T) {
	if os.Getuid() != 0 {
		skip.Because(t, "needs root to run a process as another user")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=owned-by")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Equal(t, "true", strings.TrimSpace(string(out)))
}

// A process whose first thread has ended is a zombie in /proc, without
// descriptors, while its other threads serve.
func TestOwnedByOfAZombieLeader(t *testing.T) {
	c := startChild(t, "zombie-leader")
	pid := c.cmd.Process.Pid
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
		return err == nil && strings.Contains(string(stat), ") Z ")
	}, 10*time.Second, time.Millisecond)

	snap := fresh(t, sockets.NewTable())
	listeners := snap.Listeners(c.port)
	require.Len(t, listeners, 1)
	owned, err := sockets.OwnedBy(pid, map[uint64]bool{listeners[0].Inode: true})
	require.NoError(t, err)
	require.True(t, owned)

	holders, err := sockets.Holders(t.Context(), listeners)
	require.NoError(t, err)
	require.Equal(t, pid, holders[0].PID)
}

func TestAbstractHolder(t *testing.T) {
	name := "hive-sockets-test/" + itoa(os.Getpid())
	h, err := sockets.AbstractHolder(t.Context(), name)
	require.NoError(t, err)
	require.Zero(t, h)

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}))
	h, err = sockets.AbstractHolder(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), h.PID)
	require.NotEmpty(t, h.Program)
	require.NotEmpty(t, h.User)
}

func TestHolderString(t *testing.T) {
	for want, h := range map[string]sockets.Holder{
		"nginx (pid 4711, user www)": {PID: 4711, Program: "nginx", User: "www"},
		"nginx (pid 4711)":           {PID: 4711, Program: "nginx"},
		"a process of user bob that hive has no permission to inspect": {User: "bob", Kind: sockets.KindListener},
		"an unknown process": {Kind: sockets.KindUnknown},
		"another hive":       {Kind: sockets.KindHive},
		"two listeners":      {Kind: sockets.KindUnknown, Program: "two listeners"},
		"the kernel (a connection is still closing)": {Kind: sockets.KindDraining},
	} {
		require.Equal(t, want, h.String())
	}
}

// Who asks again within a second shares what was found; a socket that is new is looked for.
func TestMemory(t *testing.T) {
	port := porttest.Free(t, 2)
	one := porttest.Listen(t, at("127.0.0.1", port), porttest.Options{})
	m := sockets.MemoryOf(time.Hour)
	snapshot := func() []sockets.Socket {
		snap, err := sockets.NewTable().Snapshot(t.Context(), 0)
		require.NoError(t, err)
		return slices.Concat(snap.Listeners(port), snap.Listeners(port+1))
	}
	ask := func(socks []sockets.Socket) (ports []uint16) {
		holders, err := m.Holders(t.Context(), socks)
		require.NoError(t, err)
		for _, h := range holders {
			require.Equal(t, os.Getpid(), h.PID)
			ports = append(ports, h.Port)
		}
		return ports
	}
	first := snapshot()
	require.Equal(t, []uint16{port}, ask(first))
	one.Close()
	require.Equal(t, []uint16{port}, ask(first), "it is remembered")
	porttest.Listen(t, at("127.0.0.1", port+1), porttest.Options{})
	require.Equal(t, []uint16{port + 1}, ask(snapshot()))
	var fresh sockets.Memory
	holders, err := fresh.Holders(t.Context(), first)
	require.NoError(t, err)
	require.Zero(t, holders[0].PID, "who has not asked before sees that it has gone")
}
