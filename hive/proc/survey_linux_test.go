package proc_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/skip"
)

func memberOf(t *testing.T, tree *proc.Tree, pid int) (proc.Member, bool) {
	t.Helper()
	members, err := tree.Members(t.Context())
	require.NoError(t, err)
	for _, m := range members {
		if m.PID == pid {
			return m, true
		}
	}
	return proc.Member{}, false
}

// stranger is a process that is in no relation to any worker, with what is given.
func stranger(t *testing.T, change func(*exec.Cmd)) int {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = []string{modeVar + "=sleep"}
	change(cmd)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Each proof alone makes a member, and the lack of it does not.
func TestProofs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	p, tree := run(t, newSpec(t, "sleep", file))
	announced(t, file)
	log, err := os.OpenFile(tree.Log, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer log.Close()
	stamps := stampsOf(tree)

	for name, c := range map[string]struct {
		proof  string
		change func(*exec.Cmd)
	}{
		"stdout":          {proc.ProofLog, func(c *exec.Cmd) { c.Stdout = log }},
		"stderr":          {proc.ProofLog, func(c *exec.Cmd) { c.Stderr = log }},
		"stamps":          {proc.ProofStamp, func(c *exec.Cmd) { c.Env = append(c.Env, stamps...) }},
		"nothing":         {"", func(*exec.Cmd) {}},
		"log on stdin":    {"", func(c *exec.Cmd) { c.Stdin = log }},
		"another lease":   {"", func(c *exec.Cmd) { c.Env = append(c.Env, stamps[0], proc.StampLease+"=other", stamps[3]) }},
		"another state":   {"", func(c *exec.Cmd) { c.Env = append(c.Env, stamps[1], proc.StampState+"=other", stamps[3]) }},
		"a prefix of it":  {"", func(c *exec.Cmd) { c.Env = append(c.Env, "X"+stamps[0], "X"+stamps[1], stamps[3]) }},
		"the lease alone": {"", func(c *exec.Cmd) { c.Env = append(c.Env, stamps[1], stamps[3]) }},
		"no proof":        {"", func(c *exec.Cmd) { c.Env = append(c.Env, stamps[:3]...) }},
		"a false proof":   {"", func(c *exec.Cmd) { c.Env = append(append(c.Env, stamps[:3]...), stamps[3]+"0") }},
	} {
		t.Run(name, func(t *testing.T) {
			pid := stranger(t, c.change)
			m, ok := memberOf(t, tree, pid)
			require.Equal(t, c.proof != "", ok)
			require.Equal(t, c.proof, m.Proof)
			if ok {
				id, err := proc.Identify(pid)
				require.NoError(t, err)
				require.Equal(t, id.StartTicks, m.Start)
				require.Equal(t, filepath.Base(self(t)), m.Program)
			}
		})
	}
	_, ok := memberOf(t, tree, p.PID())
	require.False(t, ok, "the main process is not listed")
	_, ok = memberOf(t, tree, os.Getpid())
	require.False(t, ok)
}

// A log that was replaced by a link to /dev/null made members of all whose stdout
// is /dev/null, and a stop of the worker would have ended them.
func TestALogThatWasReplacedProvesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	_, tree := run(t, newSpec(t, "sleep", file))
	announced(t, file)
	pid := stranger(t, func(*exec.Cmd) {}) // with /dev/null for stdout
	require.NoError(t, os.Remove(tree.Log))
	require.NoError(t, os.Symlink(os.DevNull, tree.Log))
	_, ok := memberOf(t, tree, pid)
	require.False(t, ok)
}

// nginx, redis and whatever uses setproctitle lose their environment; the log
// stays a proof.
func TestEnvironmentOverwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	_, tree := run(t, newSpec(t, "wipe", file))
	pid := announced(t, file)
	rest := *tree
	rest.Main = nil
	m, ok := memberOf(t, &rest, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofLog, m.Proof)
	rest.Log = ""
	_, ok = memberOf(t, &rest, pid)
	require.False(t, ok, "there are no stamps any more")
}

// A child of the main process that shares nothing but its ancestry, and one that
// shares its session.
func TestDescentAndSession(t *testing.T) {
	dir := t.TempDir()
	spec := newSpec(t, "")
	spec.Env = []string{"PATH=" + os.Getenv("PATH")}
	spec.Argv = []string{"/bin/sh", "-c", `env -i sleep 1000 >/dev/null 2>&1 & echo $! >` + dir + `/a.new; mv ` + dir + `/a.new ` + dir + `/a; wait`}
	p, tree := run(t, spec)
	file := filepath.Join(dir, "a")
	await(t, "the child", func() bool { _, err := os.Stat(file); return err == nil })
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(b[:len(b)-1]))
	require.NoError(t, err)
	killLater(t, pid)
	await(t, "the exec of sleep", func() bool {
		m, ok := memberOf(t, tree, pid)
		return ok && m.Program == "sleep" || ok && m.Proof == proc.ProofSession
	})
	m, ok := memberOf(t, tree, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofSession, m.Proof)

	// The leader ends. The session is left without the process that gave it its
	// number, which a stranger could have got by now: it proves nothing.
	require.NoError(t, p.Signal(syscall.SIGKILL))
	done(t, p)
	require.True(t, running(pid))
	_, ok = memberOf(t, tree, pid)
	require.False(t, ok, "a session without its leader is no proof")
}

// The same with the number really reused: a stranger is the leader of a session
// with the recorded PID.
func TestStrangerWithTheSession(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	pid := stranger(t, func(c *exec.Cmd) {
		c.Args = append(c.Args, file)
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	})
	announced(t, file)
	id, err := proc.Identify(pid)
	require.NoError(t, err)
	id.StartTicks--
	id.PidfdInode = 0
	main, verdict, err := proc.Adopt(id)
	require.Equal(t, proc.Dead, verdict, "%v", err)
	require.Nil(t, main)
	tree := &proc.Tree{Identity: id, StateID: "s", LeaseID: "l", Log: filepath.Join(t.TempDir(), "none")}
	members, err := tree.Members(t.Context())
	require.NoError(t, err)
	require.Empty(t, members)
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Tree: true})
	require.NoError(t, err)
	require.Empty(t, left)
	require.True(t, running(pid), "a stranger was signalled")
}

// Descent counts from everybody who is proven, not from the main process alone.
func TestDescentFromAMember(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	_, tree := run(t, newSpec(t, "sleep", file))
	announced(t, file)
	log, err := os.OpenFile(tree.Log, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer log.Close()
	child := filepath.Join(t.TempDir(), "child")
	stranger(t, func(c *exec.Cmd) {
		// The subshell keeps the redirection away from the outer shell. exec: one
		// process, which killLater knows.
		script := `(exec setsid sh -c 'echo $$ >$0.new; mv $0.new $0; exec sleep 1000' ` + child + ` >/dev/null 2>&1); true`
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", script}
		c.Stdout = log
	})
	await(t, "the child", func() bool { _, err := os.Stat(child); return err == nil })
	b, err := os.ReadFile(child)
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(b[:len(b)-1]))
	require.NoError(t, err)
	killLater(t, pid)
	rest := *tree
	rest.Main = nil
	m, ok := memberOf(t, &rest, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofDescent, m.Proof)
	left, err := rest.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.False(t, running(pid))
}

func TestSurveyManyTrees(t *testing.T) {
	var trees []*proc.Tree
	want := map[int]int{}
	for i := range 3 {
		file := filepath.Join(t.TempDir(), "ready")
		_, tree := run(t, newSpec(t, "sleep", file))
		announced(t, file)
		pid := stranger(t, func(c *exec.Cmd) {
			c.Env = append(c.Env, stampsOf(tree)...)
		})
		trees = append(trees, tree)
		want[i] = pid
	}
	found, err := proc.SurveyMembers(t.Context(), append(trees, &proc.Tree{}))
	require.NoError(t, err)
	got := map[int]int{}
	for i, members := range found {
		require.Len(t, members, 1)
		got[i] = members[0].PID
	}
	require.Equal(t, want, got)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = proc.SurveyMembers(ctx, trees)
	require.ErrorIs(t, err, context.Canceled)
}

func TestOwnsAndListenPorts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	_, tree := run(t, newSpec(t, "listen", file))
	ours := uint16(announced(t, file))
	// A stranger that listens, and a member that is not the main process.
	other := filepath.Join(t.TempDir(), "port")
	stranger(t, func(c *exec.Cmd) { c.Args, c.Env = append(c.Args, other), []string{modeVar + "=listen"} })
	foreign := uint16(announced(t, other))
	second := filepath.Join(t.TempDir(), "port")
	stranger(t, func(c *exec.Cmd) {
		c.Args = append(c.Args, second)
		c.Env = append(stampsOf(tree), modeVar+"=listen")
	})
	member := uint16(announced(t, second))

	snap, err := sockets.NewTable().Snapshot(t.Context(), 0)
	require.NoError(t, err)
	owns := func(tree *proc.Tree, socks ...sockets.Socket) proc.Ownership {
		t.Helper()
		got, err := tree.Owns(t.Context(), socks)
		require.NoError(t, err)
		return got
	}
	a, b, c := snap.Listeners(ours), snap.Listeners(foreign), snap.Listeners(member)
	require.Len(t, a, 1)
	require.Len(t, b, 1)
	require.Len(t, c, 1)
	require.Equal(t, proc.Ours, owns(tree, a...))
	require.Equal(t, proc.Ours, owns(tree, c...))
	require.Equal(t, proc.Ours, owns(tree, a[0], c[0]))
	require.Equal(t, proc.Foreign, owns(tree, b...))
	require.Equal(t, proc.Foreign, owns(tree, a[0], b[0]))
	require.Equal(t, proc.OwnerUnknown, owns(tree))
	nobody := sockets.Socket{Local: netip.MustParseAddrPort("127.0.0.1:1"), State: sockets.Listen, Inode: 1}
	require.Equal(t, proc.OwnerUnknown, owns(tree, nobody), "a holder that cannot be seen is no stranger")

	ports, err := tree.ListenPorts(t.Context(), snap)
	require.NoError(t, err)
	require.ElementsMatch(t, []uint16{ours, member}, ports)
}

// With a cgroup the kernel names the owner of a socket, whoever has it open.
func TestOwnsByCgroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	_, tree := run(t, withCgroup(t, newSpec(t, "listen", file)))
	port := uint16(announced(t, file))
	other := filepath.Join(t.TempDir(), "port")
	stranger(t, func(c *exec.Cmd) { c.Args, c.Env = append(c.Args, other), []string{modeVar + "=listen"} })
	foreign := uint16(announced(t, other))
	snap, err := sockets.NewTable().Snapshot(t.Context(), 0)
	require.NoError(t, err)
	ours := snap.Listeners(port)
	require.Len(t, ours, 1)
	if ours[0].CgroupID == 0 {
		skip.Because(t, "this kernel does not say in which cgroup a socket was made (before 5.9)")
	}
	ports, err := tree.ListenPorts(t.Context(), snap)
	require.NoError(t, err)
	require.Equal(t, []uint16{port}, ports)
	rest := *tree
	rest.Main = nil
	ours[0].Inode = 1 // nobody has this one open
	got, err := rest.Owns(t.Context(), ours)
	require.NoError(t, err)
	require.Equal(t, proc.Ours, got)
	got, err = rest.Owns(t.Context(), snap.Listeners(foreign))
	require.NoError(t, err)
	require.Equal(t, proc.Foreign, got)
}

func TestSweep(t *testing.T) {
	spec := withCgroup(t, newSpec(t, "wipe", filepath.Join(t.TempDir(), "ready")))
	p, tree := run(t, spec)
	announced(t, spec.Argv[1])
	gone := &proc.Tree{StateID: tree.StateID, LeaseID: "gone", WorkerID: "w"}
	gone.StampProof = proc.Prove(spec.Secret, gone.StateID, gone.LeaseID, gone.WorkerID, tree.UID)
	stamped := stranger(t, func(c *exec.Cmd) { c.Env = append(c.Env, stampsOf(gone)...) })
	unproven := stranger(t, func(c *exec.Cmd) { c.Env = append(c.Env, idsOf(gone)...) })
	stranger(t, func(c *exec.Cmd) { c.Env = append(c.Env, idsOf(gone)[0], stampsOf(gone)[1], stampsOf(tree)[3]) })
	orphans, err := proc.Sweep(t.Context(), tree.StateID, spec.Secret, nil)
	require.NoError(t, err)
	got := map[int]proc.Orphan{}
	for _, s := range orphans {
		require.NotZero(t, s.Start)
		s.Start = 0
		got[s.PID] = s
	}
	program := filepath.Base(self(t))
	require.Equal(t, map[int]proc.Orphan{
		p.PID():  {PID: p.PID(), WorkerID: spec.WorkerID, Proof: proc.ProofCgroup, UID: tree.UID, Program: program},
		stamped:  {PID: stamped, LeaseID: "gone", WorkerID: "w", Proof: proc.ProofStamp, UID: tree.UID, Program: program},
		unproven: {PID: unproven, LeaseID: "gone", WorkerID: "w", Proof: proc.ProofStamp, Unproven: true, UID: tree.UID, Program: program},
	}, got)
	none, err := proc.Sweep(t.Context(), "another-state-id", spec.Secret, nil)
	require.NoError(t, err)
	require.Empty(t, none)
}
