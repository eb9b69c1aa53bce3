package proc_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/skip"
)

func TestSelfIdentity(t *testing.T) {
	id, err := proc.SelfIdentity()
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), id.PID)
	require.NotZero(t, id.StartTicks)
	require.NotZero(t, id.PIDNamespace)
	boot, err := proc.BootID()
	require.NoError(t, err)
	require.Equal(t, boot, id.BootID)
	require.Equal(t, proc.FindFeatures().PidfdInode, id.PidfdInode != 0)
}

func TestIdentifyNobody(t *testing.T) {
	spec := newSpec(t, "exit", "0")
	p, _ := run(t, spec)
	done(t, p)
	_, err := proc.Identify(p.PID())
	require.ErrorIs(t, err, proc.ErrGone)
}

// A recorded PID that belongs to somebody else now is simulated by a record that
// differs from the process in what would differ then. Nothing of it may be taken
// for alive, and so nothing can be signalled.
func TestAdoptVerdicts(t *testing.T) {
	p, _ := run(t, newSpec(t, "sleep"))
	ended, _ := run(t, newSpec(t, "exit", "0"))
	done(t, ended)
	id := p.Identity()
	change := func(f func(*store.Identity)) store.Identity { c := id; f(&c); return c }

	for name, c := range map[string]struct {
		id   store.Identity
		want proc.Verdict
		is   error
	}{
		"the same":            {id, proc.Alive, nil},
		"without an inode":    {change(func(i *store.Identity) { i.PidfdInode = 0 }), proc.Alive, nil},
		"another boot":        {change(func(i *store.Identity) { i.BootID = "another" }), proc.Dead, nil},
		"another pidfd inode": {change(func(i *store.Identity) { i.PidfdInode++ }), proc.Dead, nil},
		"another start time": {change(func(i *store.Identity) {
			i.PidfdInode = 0
			i.StartTicks--
		}), proc.Dead, nil},
		"ended":             {ended.Identity(), proc.Dead, nil},
		"another namespace": {change(func(i *store.Identity) { i.PIDNamespace++ }), proc.Unknown, proc.ErrOtherNamespace},
		"an empty record":   {store.Identity{}, proc.Unknown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if c.id.PidfdInode != 0 && id.PidfdInode == 0 {
				skip.Because(t, "pidfds have no inodes here")
			}
			got, verdict, err := proc.Adopt(c.id)
			require.Equal(t, c.want, verdict, "%v", err)
			if c.want == proc.Alive {
				require.NoError(t, err)
				got.Close()
				return
			}
			require.Nil(t, got)
			require.Error(t, err)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
		})
	}
	require.True(t, running(id.PID))
}

// The number can come back as a thread's: pidfd_open says EINVAL or ENOENT then.
func TestAdoptOfAThread(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	p, _ := run(t, newSpec(t, "sleep", file))
	announced(t, file)
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID()) + "/task")
	require.NoError(t, err)
	require.Greater(t, len(tasks), 1, "a Go program has threads")
	id := p.Identity()
	for _, task := range tasks {
		id.PID, err = strconv.Atoi(task.Name())
		require.NoError(t, err)
		if id.PID == p.PID() {
			continue
		}
		_, verdict, err := proc.Adopt(id)
		require.Equal(t, proc.Dead, verdict, "%v", err)
		_, err = proc.Identify(id.PID)
		require.ErrorIs(t, err, proc.ErrGone)
	}
}

// A leader that has ended while its threads serve: ps shows a zombie, kill -0
// works, and the worker is alive.
func TestLeaderEndedThreadsServe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	spec := newSpec(t, "leaderless", file)
	p, tree := run(t, spec)
	announced(t, file)
	await(t, "the end of the first thread", func() bool { return !running(p.PID()) })

	again, verdict, err := proc.Adopt(p.Identity())
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	defer again.Close()
	byStart := p.Identity()
	byStart.PidfdInode = 0
	third, verdict, err := proc.Adopt(byStart)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	third.Close()
	select {
	case <-p.Done():
		require.Fail(t, "it counts as ended")
	default:
	}

	// With the main process unknown, its log still proves it a member.
	rest := *tree
	rest.Main, rest.LeaseID = nil, ""
	members, err := rest.Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 1)
	require.Equal(t, p.PID(), members[0].PID)
	require.Equal(t, proc.ProofLog, members[0].Proof)

	left, err := rest.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "SIGKILL", done(t, p).Signal)
}

func TestSignalAndGone(t *testing.T) {
	p, _ := run(t, newSpec(t, "sleep"))
	require.NoError(t, p.Signal(0))
	require.NoError(t, p.Signal(syscall.SIGKILL))
	require.Equal(t, "SIGKILL", done(t, p).Signal)
	require.ErrorIs(t, p.Signal(syscall.SIGKILL), proc.ErrGone)
	p.Close()
	require.ErrorIs(t, p.Signal(syscall.SIGKILL), proc.ErrGone)
}

// Close lets go: the process runs on, Done is not closed, and the pidfd is.
func TestCloseLeavesTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	p, _ := run(t, newSpec(t, "sleep", file))
	announced(t, file)
	before := openFiles(t)
	p.Close()
	p.Close()
	require.Equal(t, before-1, openFiles(t))
	require.True(t, running(p.PID()))
	select {
	case <-p.Done():
		require.Fail(t, "Done after Close")
	default:
	}
	require.Equal(t, store.Exit{}, p.Exit())
	require.ErrorIs(t, p.Signal(0), proc.ErrGone)

	back, verdict, err := proc.Adopt(p.Identity())
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	require.NoError(t, back.Signal(syscall.SIGKILL))
	require.Equal(t, "SIGKILL", done(t, back).Signal)
}

// startOrphan lets another process start a worker and die, as hive does.
func startOrphan(t *testing.T, mode string, args ...string) store.Identity {
	t.Helper()
	file := filepath.Join(t.TempDir(), "identity")
	cmd := exec.Command(self(t), append([]string{file, mode}, args...)...)
	cmd.Env = append(os.Environ(), modeVar+"=starter")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var id store.Identity
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &id))
	return id
}

// An adopted process is nobody's child here; its exit code comes from the kernel
// (6.15 and later) or is unknown, and is never made up.
func TestExitOfAdopted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	id := startOrphan(t, "exit-on-term", "77", file)
	announced(t, file)
	p, verdict, err := proc.Adopt(id)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	defer p.Close()
	require.NotEqual(t, os.Getpid(), parentOf(t, id.PID))
	require.NoError(t, p.Signal(syscall.SIGTERM))
	exit := done(t, p)
	require.Empty(t, exit.Signal)
	require.NotZero(t, exit.At)
	if !proc.FindFeatures().ExitInfo {
		skip.Because(t, "kernel before 6.15: exit codes of adopted processes depend on init")
	}
	require.Equal(t, code(77), exit.Code)
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	parent, err := proc.ParentOf(pid)
	require.NoError(t, err)
	return parent
}

// Nobody reaps it: the zombie itself tells.
func TestExitOfAZombie(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "read x; exit 42")
	w, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	id, err := proc.Identify(cmd.Process.Pid)
	require.NoError(t, err)
	require.Equal(t, store.Exit{}, proc.LastExit(id), "it has not ended")
	require.NoError(t, w.Close())
	await(t, "the end", func() bool { return !running(id.PID) })

	code42, ok := proc.ZombieExit(id)
	require.True(t, ok)
	require.Equal(t, code(42), code42.Code)
	other := id
	other.StartTicks++
	_, ok = proc.ZombieExit(other)
	require.False(t, ok, "another process's exit code")
	require.Equal(t, store.Exit{}, proc.LastExit(other))

	_, verdict, err := proc.Adopt(id)
	require.Equal(t, proc.Dead, verdict, "%v", err)
	require.Error(t, cmd.Wait())
	require.Equal(t, store.Exit{}, proc.LastExit(id), "reaped")
}

func TestExitOfChildren(t *testing.T) {
	for _, n := range []int{0, 1, 77, 126, 255} {
		p, _ := run(t, newSpec(t, "exit", strconv.Itoa(n)))
		exit := done(t, p)
		require.Equal(t, code(n), exit.Code)
		require.Empty(t, exit.Signal)
		require.False(t, exit.OOM)
		require.ErrorIs(t, unix.Kill(p.PID(), 0), unix.ESRCH, "it has been reaped")
	}
}
