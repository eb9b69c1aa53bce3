package proc_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// testTimeout is for what should take milliseconds, on a loaded machine.
const testTimeout = 20 * time.Second

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return exe
}

// newSpec is a worker of this test binary in the given mode, without a cgroup.
func newSpec(t testing.TB, mode string, args ...string) proc.Spec {
	t.Helper()
	state := uuid.NewString()
	return proc.Spec{
		Argv: append([]string{self(t)}, args...),
		Env:  append(proc.Environ(os.Environ(), nil), modeVar+"="+mode),
		Log:  filepath.Join(t.TempDir(), "worker.log"), StateID: state, Secret: secretOf(state),
		LeaseID: uuid.NewString(), WorkerID: "worker-8080-" + uuid.NewString()[:6],
	}
}

// secretOf is the secret of a state in these tests.
func secretOf(stateID string) store.Secret { return store.Secret("secret of " + stateID) }

// stampsOf are the variables of a worker of whom tree is.
func stampsOf(tree *proc.Tree) []string {
	return append(idsOf(tree), proc.StampProof+"="+tree.StampProof)
}

// idsOf are those of them that anybody can know.
func idsOf(tree *proc.Tree) []string {
	return []string{proc.StampState + "=" + tree.StateID, proc.StampLease + "=" + tree.LeaseID, proc.StampWorker + "=" + tree.WorkerID}
}

// run starts a spec and ends whatever is left of it when the test is over.
func run(t testing.TB, spec proc.Spec) (*proc.Process, *proc.Tree) {
	t.Helper()
	g, err := proc.Start(spec)
	require.NoError(t, err)
	p, err := g.Open(t.Context())
	if err != nil {
		g.Abort()
	}
	require.NoError(t, err)
	tree := treeOf(spec, g, p)
	t.Cleanup(func() { cleanUp(t, tree, p) })
	return p, tree
}

func treeOf(spec proc.Spec, g *proc.Gated, p *proc.Process) *proc.Tree {
	return &proc.Tree{
		Main: p, Identity: p.Identity(), Cgroup: g.Cgroup(), Log: spec.Log,
		StateID: spec.StateID, LeaseID: spec.LeaseID, WorkerID: spec.WorkerID,
		UID: g.UID(), StampProof: proc.Prove(spec.Secret, spec.StateID, spec.LeaseID, spec.WorkerID, g.UID()),
	}
}

func cleanUp(t testing.TB, tree *proc.Tree, p *proc.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	left, err := tree.Stop(ctx, store.Stop{})
	if err != nil || len(left) > 0 {
		t.Errorf("clean up: left %v, error %v", left, err)
	}
	p.Close()
}

// withCgroup gives the spec a leaf, or skips.
func withCgroup(t testing.TB, spec proc.Spec) proc.Spec {
	t.Helper()
	root, err := proc.CgroupRoot(spec.StateID)
	if err != nil {
		skip.Because(t, "no cgroup v2 to write in: "+err.Error())
	}
	t.Cleanup(func() {
		if err := os.Remove(root); err != nil {
			t.Errorf("cgroup root is not empty: %v", err)
		}
	})
	spec.Cgroup = spec.WorkerID
	return spec
}

// await waits for a condition.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, testTimeout, 5*time.Millisecond, what)
}

// announced waits for the number that a stand-in writes to file.
func announced(t testing.TB, file string) int {
	t.Helper()
	var n int
	await(t, "an announcement in "+file, func() bool {
		b, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		n, err = strconv.Atoi(string(b))
		return err == nil
	})
	return n
}

func done(t testing.TB, p *proc.Process) store.Exit {
	t.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(testTimeout):
		require.FailNow(t, "the process has not ended", "pid %d", p.PID())
		return store.Exit{}
	}
}

// running looks past zombies, which kill(pid, 0) does not.
func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
	return !strings.HasPrefix(rest, " Z") && !strings.HasPrefix(rest, " X")
}

// killLater ends a process that no tree knows about, by pidfd.
func killLater(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0)
		unix.Close(fd)
	})
}

// awaitOrphaned waits until the process between main and its grandchild has ended.
func awaitOrphaned(t *testing.T, pid, main int) {
	t.Helper()
	await(t, "the end of the process in between", func() bool {
		parent, err := proc.ParentOf(pid)
		require.NoError(t, err)
		above, err := proc.ParentOf(parent)
		return err == nil && above != main
	})
}

func code(n int) *int { return &n }

func logOf(t testing.TB, spec proc.Spec) string {
	t.Helper()
	b, err := os.ReadFile(spec.Log)
	require.NoError(t, err)
	return string(b)
}
