package proc_test

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/skip"
)

func TestCgroupRoot(t *testing.T) {
	state := uuid.NewString()
	root, err := proc.CgroupRoot(state)
	if err != nil {
		require.ErrorIs(t, err, proc.ErrNoCgroup)
		skip.Because(t, err.Error())
	}
	require.Equal(t, "hive-"+state[:12], filepath.Base(root))
	again, err := proc.CgroupRoot(state)
	require.NoError(t, err)
	require.Equal(t, root, again)
	require.FileExists(t, root+"/cgroup.procs")

	require.NoError(t, os.MkdirAll(root+"/leaf/below", 0o755))
	removed, err := proc.PruneCgroups(state)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	require.NoDirExists(t, root)
	removed, err = proc.PruneCgroups(state)
	require.NoError(t, err)
	require.Zero(t, removed)

	_, err = proc.CgroupRoot("")
	require.ErrorIs(t, err, proc.ErrNoCgroup)
}

// The worker is in its leaf from its first instruction on; the recorded path is
// found again; a leaf in use is not pruned; a sub-group of the worker's own ends
// with it.
func TestLeaf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	spec := withCgroup(t, newSpec(t, "sleep", file))
	p, tree := run(t, spec)
	announced(t, file)
	dir, ok := proc.CgroupDir(tree.Cgroup)
	require.True(t, ok)
	require.Equal(t, spec.WorkerID, filepath.Base(dir))
	removed, err := proc.PruneCgroups(spec.StateID)
	require.NoError(t, err)
	require.Zero(t, removed)

	sub := filepath.Join(dir, "sub")
	require.NoError(t, os.Mkdir(sub, 0o755))
	pid := stranger(t, func(*exec.Cmd) {})
	require.NoError(t, os.WriteFile(sub+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o600))
	m, ok := memberOf(t, tree, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofCgroup, m.Proof)

	left, err := tree.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.False(t, running(pid))
	require.Equal(t, "SIGKILL", done(t, p).Signal)
	require.NoDirExists(t, dir)
}

// A main process that was moved out of its cgroup is stopped all the same, with
// what it has started there.
func TestStopOfAMainOutsideItsCgroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grandchild")
	spec := withCgroup(t, newSpec(t, "parent", file, "stamped"))
	p, tree := run(t, spec)
	pid := announced(t, file)
	killLater(t, pid)
	awaitOrphaned(t, pid, p.PID())
	dir, ok := proc.CgroupDir(tree.Cgroup)
	require.True(t, ok)
	for _, id := range []int{p.PID(), pid} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "../../cgroup.procs"), []byte(strconv.Itoa(id)), 0o600))
	}
	left, err := tree.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.False(t, running(pid))
	require.Equal(t, "SIGKILL", done(t, p).Signal)
}

// cgroup.kill in any other place than a leaf of a hive would be a catastrophe.
func TestOnlyLeavesAreResolved(t *testing.T) {
	root, err := proc.CgroupRoot("abcdefabcdef")
	if err != nil {
		skip.Because(t, err.Error())
	}
	t.Cleanup(func() { _, _ = proc.PruneCgroups("abcdefabcdef") })
	leaf := filepath.Join(root, "leaf")
	require.NoError(t, os.Mkdir(leaf, 0o755))
	own := path.Join("/", strings.TrimPrefix(root, mountOf(root)))
	_, ok := proc.CgroupDir(own + "/leaf")
	require.True(t, ok)
	for _, rel := range []string{"", "/", ".", "..", own, own + "/", own + "/leaf/..", own + "/leaf/", own + "/none", "leaf", own + "/../" + filepath.Base(root), "/hive-"} {
		_, ok := proc.CgroupDir(rel)
		require.False(t, ok, rel)
	}
}

func mountOf(root string) string {
	for dir := filepath.Dir(root); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "cgroup.procs")); err != nil {
			return dir
		}
	}
}

// Where there can be no leaf, the worker starts without one.
func TestStartWithoutCgroup(t *testing.T) {
	for name, change := range map[string]func(*proc.Spec){
		"no state id":   func(s *proc.Spec) { s.StateID = "" },
		"a bad name":    func(s *proc.Spec) { s.Cgroup = "../escape" },
		"a file's name": func(s *proc.Spec) { s.Cgroup = "cgroup.procs" },
	} {
		t.Run(name, func(t *testing.T) {
			spec := newSpec(t, "exit", "0")
			spec.Cgroup = "leaf"
			change(&spec)
			t.Cleanup(func() { _, _ = proc.PruneCgroups(spec.StateID) })
			g, err := proc.Start(spec)
			require.NoError(t, err)
			require.Empty(t, g.Cgroup())
			p, err := g.Open(context.Background())
			require.NoError(t, err)
			require.Equal(t, code(0), done(t, p).Code)
		})
	}
}

func TestFindFeatures(t *testing.T) {
	f := proc.FindFeatures()
	_, err := proc.CgroupRoot("feature-test")
	_, _ = proc.PruneCgroups("feature-test")
	require.Equal(t, err == nil, f.CgroupV2)
}
