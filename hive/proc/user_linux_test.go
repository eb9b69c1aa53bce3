package proc_test

import (
	"context"
	"fmt"
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

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/program"
	"rbeehive/test/skip"
)

// startAs is a hive at another place, or that is not root.
func startAs(args []string) int {
	g, err := proc.Start(proc.Spec{Argv: args[2:], User: args[0], Dir: args[1], Log: os.DevNull})
	if err != nil {
		fmt.Println(err)
		return 0
	}
	p, err := g.Open(context.Background())
	if err != nil {
		fmt.Println(err)
		return 0
	}
	<-p.Done()
	fmt.Println("exit", proc.ExitCode(p.Exit()))
	return 0
}

// anotherUser is one who has nothing: not in the user database, and no groups.
const anotherUser = "54321:54322"

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root can start programs as another user")
}

// openDir is a directory in which everybody may write; t.TempDir is below one
// that only its owner may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "proctest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// newUserSpec is newSpec for another user, who reaches the test binary only by the
// magic link of its gate: `go test` builds it below a directory of mode 0700.
func newUserSpec(t *testing.T, mode string, args ...string) proc.Spec {
	t.Helper()
	spec := newSpec(t, mode, args...)
	spec.Argv[0] = "/proc/self/exe"
	spec.User, spec.Dir = anotherUser, "/"
	return spec
}

// What runs is the user and nothing of root, and the log is the user's but hive
// goes on writing to it.
func TestStartAsAnotherUser(t *testing.T) {
	needRoot(t)
	cred, err := proc.LookUser(anotherUser)
	require.NoError(t, err)
	spec := newSpec(t, "")
	spec.Env = cred.Environ(os.Environ(), nil)
	spec.User, spec.Dir = anotherUser, openDir(t)
	spec.Argv = []string{"/bin/sh", "-c", `id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME $USER $LOGNAME; pwd; echo again >>/dev/stderr`}
	p, _ := run(t, spec)
	require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))
	require.Equal(t, "54321\n54322\n54322\nCapEff:\t0000000000000000\n/ 54321 54321\n"+spec.Dir+"\nagain\n", logOf(t, spec))

	var st unix.Stat_t
	require.NoError(t, unix.Stat(spec.Log, &st))
	require.Equal(t, []uint32{54321, 54322, 0o600}, []uint32{st.Uid, st.Gid, st.Mode & 0o7777})
	f, err := os.OpenFile(spec.Log, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString("--- hive\n")
	require.NoError(t, err)
	f.Close()
	// A second worker on the same log, as after a restart of it.
	p, _ = run(t, spec)
	require.Equal(t, code(0), done(t, p).Code)
	require.Contains(t, logOf(t, spec), "again\n--- hive\n54321\n")
}

// By name: the groups come from the database.
func TestStartAsANamedUser(t *testing.T) {
	needRoot(t)
	cred, err := proc.LookUser("nobody")
	if err != nil {
		skip.Because(t, err.Error())
	}
	spec := newSpec(t, "")
	spec.User, spec.Dir = "nobody", "/"
	spec.Argv = []string{"/bin/sh", "-c", "id -u; id -g; id -G"}
	p, _ := run(t, spec)
	require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))
	got := strings.Fields(logOf(t, spec))
	require.Equal(t, []string{strconv.Itoa(int(cred.UID)), strconv.Itoa(int(cred.GID))}, got[:2])
	var groups []string
	for _, g := range cred.Groups {
		groups = append(groups, strconv.Itoa(int(g)))
	}
	require.ElementsMatch(t, groups, got[2:])
}

// A child of another user waits, dies with hive and keeps its identity as any other.
func TestGateAsAnotherUser(t *testing.T) {
	needRoot(t)
	needGate(t)
	file := filepath.Join(openDir(t), "ready")
	spec := newUserSpec(t, "sleep", file)
	g, err := proc.Start(spec)
	require.NoError(t, err)
	id := g.Identity()
	waiting, verdict, err := proc.Adopt(id)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	require.True(t, waiting.AtGate())
	require.NoFileExists(t, file)
	p, err := g.Open(t.Context())
	require.NoError(t, err)
	tree := treeOf(spec, g, p)
	t.Cleanup(func() { waiting.Close(); cleanUp(t, tree, p) })
	require.Equal(t, id.PID, announced(t, file))
	again, err := proc.Identify(id.PID)
	require.NoError(t, err)
	require.Equal(t, id, again)
}

// hive installed where the worker's user may not go, as below /root.
func TestStartAsAnotherUserFromAPrivateDirectory(t *testing.T) {
	needRoot(t)
	private := filepath.Join(openDir(t), "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	hive := filepath.Join(private, "hive")
	b, err := os.ReadFile(self(t))
	require.NoError(t, err)
	require.NoError(t, program.Write(hive, b, 0o755))
	as := func(cwd, user, dir string, argv ...string) string {
		cmd := exec.Command(hive, append([]string{user, dir}, argv...)...)
		cmd.Env = []string{modeVar + "=start-as", "GORACE=atexit_sleep_ms=0"}
		cmd.Dir = cwd
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	inRoot := []string{"/bin/sh", "-c", `test "$(pwd)" = / && exit 3`}
	require.Equal(t, "exit 3", as("/", anotherUser, "", inRoot...))
	require.Equal(t, "exit 3", as(private, anotherUser, "/", inRoot...))
	// Not hive's own directory.
	require.Equal(t, "exit 3", as(private, anotherUser, "", inRoot...))
	require.Equal(t, "start: working directory: user 54321 may not enter "+private+": permission denied", as("/", anotherUser, private, "/bin/true"))
	// A program that only root may execute.
	require.Equal(t, "as user 54321: execve: permission denied", as("/", anotherUser, "", hive))
	// Only root may execute hive itself: that hinders only programs that cannot be traced.
	require.NoError(t, os.Chmod(hive, 0o700))
	unreadable := filepath.Join(openDir(t), "unreadable")
	b, err = os.ReadFile("/bin/true")
	require.NoError(t, err)
	require.NoError(t, program.Write(unreadable, b, 0o711))
	require.Equal(t, "start "+unreadable+": user 54321 may not execute hive's own program "+hive+", by which this program is started: permission denied",
		as("/", anotherUser, "", unreadable))
	if proc.Traces() == nil {
		require.Equal(t, "exit 0", as("/", anotherUser, "", "/bin/true"))
	}
	require.Equal(t, "exit 0", as("/", "0:0", "", "/bin/true"))
}

// A hive that is not root says so, and can still name itself.
func TestStartAsAnotherUserNeedsRoot(t *testing.T) {
	as := func(user string) string {
		cmd := exec.Command("/proc/self/exe", user, "/", "/bin/true")
		cmd.Env = []string{modeVar + "=start-as", "GORACE=atexit_sleep_ms=0"}
		cmd.Dir = "/"
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54322}}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 54321, 54322
	}
	require.Contains(t, as("0:0"), "user: cannot run as another user: only a hive that runs as root can start a program as user 0:0, and this one runs as uid "+strconv.Itoa(uid))
	require.Equal(t, "exit 0", as(fmt.Sprintf("%d:%d", uid, gid)))
}

// All that proves what belongs to a worker is there for another user's too.
func TestTreeOfAnotherUser(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name    string
		grouped bool
		marks   string
	}{{"without a cgroup", false, "stamped"}, {"with a cgroup", true, "bare"}} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(openDir(t), "grandchild")
			spec := newUserSpec(t, "parent", file, c.marks)
			if c.grouped {
				spec = withCgroup(t, spec)
			}
			p, tree := run(t, spec)
			pid := announced(t, file)
			killLater(t, pid)
			awaitOrphaned(t, pid, p.PID())
			m, ok := memberOf(t, tree, pid)
			require.True(t, ok)
			require.Equal(t, map[bool]string{true: proc.ProofCgroup, false: proc.ProofStamp}[c.grouped], m.Proof)
			orphans, err := proc.Sweep(t.Context(), spec.StateID, spec.Secret, []uint32{tree.UID})
			require.NoError(t, err)
			require.Len(t, orphans, 2)
			left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 2 * time.Second})
			require.NoError(t, err)
			require.Empty(t, left)
			require.False(t, running(pid))
			require.Equal(t, "SIGTERM", done(t, p).Signal)
		})
	}
}

// The log is a proof when the environment has been wiped, which is the user's to do.
func TestLogOfAnotherUser(t *testing.T) {
	needRoot(t)
	file := filepath.Join(openDir(t), "ready")
	_, tree := run(t, newUserSpec(t, "wipe", file))
	pid := announced(t, file)
	rest := *tree
	rest.Main = nil
	m, ok := memberOf(t, &rest, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofLog, m.Proof)
}

func TestOwnsOfAnotherUser(t *testing.T) {
	needRoot(t)
	file := filepath.Join(openDir(t), "port")
	_, tree := run(t, newUserSpec(t, "listen", file))
	port := uint16(announced(t, file))
	snap, err := sockets.NewTable().Snapshot(t.Context(), 0)
	require.NoError(t, err)
	own, err := tree.Owns(t.Context(), snap.Listeners(port))
	require.NoError(t, err)
	require.Equal(t, proc.Ours, own)
	ports, err := tree.ListenPorts(t.Context(), snap)
	require.NoError(t, err)
	require.Equal(t, []uint16{port}, ports)
	rest := *tree
	rest.Main = nil
	own, err = rest.Owns(t.Context(), snap.Listeners(port))
	require.NoError(t, err)
	require.Equal(t, proc.Ours, own, "by its stamps")
}

// A file of root's must not be given away because somebody made a link to it.
func TestLogThatIsNotGiven(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, nil, 0o600))
	hard, soft := filepath.Join(dir, "hard"), filepath.Join(dir, "soft")
	require.NoError(t, os.Link(secret, hard))
	require.NoError(t, os.Symlink(secret, soft))
	for log, says := range map[string]string{hard: "it has 2 names", soft: "symbolic link"} {
		spec := newUserSpec(t, "exit", "0")
		spec.Log = log
		before := openFiles(t)
		_, err := proc.Start(spec)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, log)
		require.Equal(t, before, openFiles(t), "descriptors were left open")
	}
	var st unix.Stat_t
	require.NoError(t, unix.Stat(secret, &st))
	require.Zero(t, st.Uid)
	spec := newUserSpec(t, "exit", "0")
	spec.User = "no-such-user-42"
	_, err := proc.Start(spec)
	require.ErrorIs(t, err, proc.ErrUnknownUser)
	require.NoFileExists(t, spec.Log)
}

func TestUIDOfAProcess(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54322}}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := proc.Identify(cmd.Process.Pid)
	require.NoError(t, err)
	p, _, err := proc.Adopt(id)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	uid, err := p.UID()
	require.NoError(t, err)
	require.EqualValues(t, 54321, uid)

	require.NoError(t, cmd.Process.Kill())
	<-p.Done()
	_, err = p.UID()
	require.ErrorIs(t, err, proc.ErrGone)
}
