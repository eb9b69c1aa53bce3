package proc_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

var gently = store.Stop{Signals: []string{"SIGTERM"}, Grace: testTimeout}

func TestStopGently(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		t.Run("cgroup "+strconv.FormatBool(grouped), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ready")
			spec := newSpec(t, "exit-on-term", "3", file)
			if grouped {
				spec = withCgroup(t, spec)
			}
			p, tree := run(t, spec)
			announced(t, file)
			dir, has := proc.CgroupDir(tree.Cgroup)
			require.Equal(t, grouped, has)
			began := time.Now()
			left, err := tree.Stop(t.Context(), gently)
			require.NoError(t, err)
			require.Empty(t, left)
			require.Less(t, time.Since(began), testTimeout/2, "it did not wait for the whole grace")
			select {
			case <-p.Done():
			default:
				require.Fail(t, "Stop returned before the exit was known")
			}
			require.Equal(t, code(3), p.Exit().Code)
			if grouped {
				require.NoDirExists(t, dir)
			}
		})
	}
}

// The second signal is the one it listens to.
func TestStopSignalsInTurn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	spec := newSpec(t, "")
	spec.Argv = []string{"/bin/sh", "-c", `trap "" INT; trap "exit 9" TERM; echo 1 >` + file + `; while :; do sleep 0.05; done`}
	p, tree := run(t, spec)
	await(t, "the traps", func() bool { _, err := os.Stat(file); return err == nil })
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"INT", "SIGTERM"}, Grace: time.Second})
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, code(9), p.Exit().Code)
}

// Grandchildren in sessions of their own, whose parent has ended, that ignore
// SIGTERM; with a cgroup even without any other mark on them.
func TestStopTakesTheWholeTree(t *testing.T) {
	for _, c := range []struct {
		name    string
		grouped bool
		marks   string
	}{{"without a cgroup", false, "stamped"}, {"with a cgroup", true, "bare"}} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "grandchild")
			spec := newSpec(t, "parent", file, c.marks)
			if c.grouped {
				spec = withCgroup(t, spec)
			}
			_, tree := run(t, spec)
			pid := announced(t, file)
			killLater(t, pid)
			awaitOrphaned(t, pid, tree.Main.PID())
			left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 2 * time.Second})
			require.NoError(t, err)
			require.Empty(t, left)
			require.False(t, running(pid))
			require.Equal(t, "SIGTERM", done(t, tree.Main).Signal)
		})
	}
}

// [measured] the master of nginx is killed and its children answer on: a dead
// main process is not a dead worker.
func TestStopOfWhatADeadMainLeft(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		t.Run("cgroup "+strconv.FormatBool(grouped), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "grandchild")
			spec := newSpec(t, "orphaner", file, "stamped")
			if grouped {
				spec = withCgroup(t, spec)
			}
			p, tree := run(t, spec)
			pid := announced(t, file)
			killLater(t, pid)
			require.Equal(t, code(0), done(t, p).Code)
			require.True(t, running(pid))
			rest := *tree
			rest.Main = nil
			left, err := rest.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 50 * time.Millisecond})
			require.NoError(t, err)
			require.Empty(t, left)
			require.False(t, running(pid))
		})
	}
}

// A worker that was told to stop politely as a whole.
func TestStopScopeTree(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	_, tree := run(t, newSpec(t, "stubborn"))
	pid := stranger(t, func(c *exec.Cmd) {
		c.Args = append(c.Args, "4", file)
		c.Env = append(stampsOf(tree), modeVar+"=exit-on-term")
	})
	announced(t, file)
	killed, err := proc.Identify(pid)
	require.NoError(t, err)
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 2 * time.Second, Tree: true})
	require.NoError(t, err)
	require.Empty(t, left)
	exit, ok := proc.ZombieExit(killed)
	require.True(t, ok, "the stranger's zombie belongs to the test until its clean-up")
	require.Equal(t, code(4), exit.Code, "it was asked, not killed")
}

// A shell does not pass a signal on: the server that it waits for was killed at once when
// the shell had ended, and never heard that it should stop.
func TestStopSignalsWhatOutlivesTheMainProcess(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		t.Run("cgroup "+strconv.FormatBool(grouped), func(t *testing.T) {
			dir := t.TempDir()
			server := `trap "sleep 1.2; echo in order >` + dir + `/end; exit 0" TERM; echo 1 >` + dir + `/ready; while :; do sleep 0.02; done`
			spec := newSpec(t, "")
			spec.Argv = []string{"/bin/sh", "-c", `/bin/sh -c '` + server + `'; true`}
			if grouped {
				spec = withCgroup(t, spec)
			}
			p, tree := run(t, spec)
			await(t, "the trap", func() bool { _, err := os.Stat(dir + "/ready"); return err == nil })
			e, err := tree.End(t.Context(), gently)
			require.NoError(t, err)
			require.Empty(t, e.Left)
			require.False(t, e.Killed, "it had the rest of the grace")
			require.Equal(t, "SIGTERM", p.Exit().Signal)
			require.FileExists(t, dir+"/end")
		})
	}
}

// The signals that follow reach what is left, too, once the main process has ended.
func TestStopSendsLaterSignalsToWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	server := `trap "" TERM; trap "echo in order >` + dir + `/end; exit 0" INT; echo 1 >` + dir + `/ready; while :; do sleep 0.02; done`
	spec := newSpec(t, "")
	spec.Argv = []string{"/bin/sh", "-c", `/bin/sh -c '` + server + `'; true`}
	_, tree := run(t, spec)
	await(t, "the traps", func() bool { _, err := os.Stat(dir + "/ready"); return err == nil })
	e, err := tree.End(t.Context(), store.Stop{Signals: []string{"SIGTERM", "SIGINT"}, Grace: time.Second})
	require.NoError(t, err)
	require.Empty(t, e.Left)
	require.False(t, e.Killed)
	require.FileExists(t, dir+"/end")
}

// Who asks can tell whether a worker ended because it was told to.
func TestEndSaysWhetherItKilled(t *testing.T) {
	for mode, killed := range map[string]bool{"stubborn": true, "exit-on-term": false} {
		for _, grouped := range []bool{false, true} {
			t.Run(mode+", cgroup "+strconv.FormatBool(grouped), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "ready")
				args := []string{file}
				if !killed {
					args = []string{"3", file}
				}
				spec := newSpec(t, mode, args...)
				if grouped {
					spec = withCgroup(t, spec)
				}
				_, tree := run(t, spec)
				announced(t, file)
				grace := testTimeout
				if killed {
					grace = 50 * time.Millisecond
				}
				e, err := tree.End(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: grace})
				require.NoError(t, err)
				require.Equal(t, proc.Ending{Killed: killed}, e)
			})
		}
	}
}

// On a busy machine the time was over before the second of two clean scans, and a tree of
// which nobody was left was said to have a member with PID 0: its port was kept, and it was
// never started again.
func TestATreeThatIsGoneIsGoneHoweverLongThatTook(t *testing.T) {
	p, tree := run(t, newSpec(t, "sleep"))
	require.NoError(t, p.Signal(syscall.SIGKILL))
	done(t, p)
	left, err := proc.KillWithin(t.Context(), tree, 0)
	require.NoError(t, err)
	require.Empty(t, left)

	rest := *tree
	rest.Main = nil
	left, err = proc.KillWithin(t.Context(), &rest, 0)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Where each scan finds a new member the stop is given up in the end, with one that was
// really there.
func TestMembersThatAreSeenAgainAndAgainAreLeft(t *testing.T) {
	p, tree := run(t, newSpec(t, "sleep"))
	require.NoError(t, p.Signal(syscall.SIGKILL))
	done(t, p)
	over, ended := make(chan struct{}), make(chan struct{})
	pids := map[int]bool{}
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
			}
			c := exec.Command(self(t))
			c.Env = append(stampsOf(tree), modeVar+"=sleep")
			if c.Start() == nil {
				pids[c.Process.Pid] = true
				_ = c.Wait() // until the stop has killed it
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	left, err := proc.KillWithin(ctx, tree, 0)
	close(over)
	require.NoError(t, err)
	for rest := left; len(rest) > 0; {
		rest, err = tree.Stop(ctx, store.Stop{})
		require.NoError(t, err)
	}
	<-ended
	require.NotEmpty(t, left)
	require.True(t, pids[left[0].PID], "pid %d", left[0].PID)
}

// Stops that go on at once share their passes over /proc, and each gets its own members.
func TestScansAreShared(t *testing.T) {
	var trees []*proc.Tree
	var children []int
	for range 4 {
		file := filepath.Join(t.TempDir(), "grandchild")
		_, tree := run(t, newSpec(t, "parent", file, "stamped"))
		children = append(children, announced(t, file))
		killLater(t, children[len(children)-1])
		trees = append(trees, tree)
	}
	passes, found, err := proc.Passes(t.Context(), trees)
	require.NoError(t, err)
	require.Equal(t, 1, passes)
	for i, members := range found {
		var pids []int
		for _, m := range members {
			pids = append(pids, m.PID)
		}
		require.Contains(t, pids, children[i])
		for j, child := range children {
			require.True(t, j == i || !slices.Contains(pids, child))
		}
	}
	waiting, err := proc.ScanBehind(trees[0])
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, waiting, "who has gone is not looked for")
}

func TestStopUnknownSignal(t *testing.T) {
	p, tree := run(t, newSpec(t, "sleep"))
	_, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM", "SIGNOTHING"}})
	require.ErrorIs(t, err, proc.ErrUnknownSignal)
	require.True(t, running(p.PID()), "nothing may have been done")
}

// A stop that is given up leaves the worker running, and not frozen.
func TestStopCancelled(t *testing.T) {
	for _, grace := range []time.Duration{testTimeout, 0} {
		t.Run(grace.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ready")
			p, tree := run(t, newSpec(t, "stubborn", file))
			announced(t, file)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if grace == 0 {
				cancel()
			}
			_, err := tree.Stop(ctx, store.Stop{Signals: []string{"SIGTERM"}, Grace: grace})
			require.ErrorIs(t, err, ctx.Err())
			require.True(t, running(p.PID()))
			require.NotEqual(t, "T", stateOf(t, p.PID()))
		})
	}
}

// The freeze is interrupted while everybody is stopped: they must go on.
func TestFreezeInterruptedThaws(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	p, tree := run(t, newSpec(t, "stubborn", file))
	announced(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, proc.Freeze(ctx, tree), context.Canceled)
	await(t, "the thaw", func() bool { return stateOf(t, p.PID()) != "T" })
	require.NoError(t, proc.Freeze(t.Context(), tree))
	await(t, "the freeze", func() bool { return stateOf(t, p.PID()) == "T" })
}

func stateOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	require.NoError(t, err)
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

// A frozen tree, as hive's death in the middle of a stop leaves it, can be stopped.
func TestStopOfAFrozenTree(t *testing.T) {
	p, tree := run(t, newSpec(t, "sleep"))
	require.NoError(t, p.Signal(syscall.SIGSTOP))
	await(t, "the stop", func() bool { return stateOf(t, p.PID()) == "T" })
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 50 * time.Millisecond})
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "SIGKILL", done(t, p).Signal)
}

// A chain of processes that live for milliseconds, each in a session of its own
// and without any mark: the cgroup has them all.
func TestStopOfAForkChain(t *testing.T) {
	spec := withCgroup(t, newSpec(t, "forker", "10000"))
	p, tree := run(t, spec)
	done(t, p)
	dir, ok := proc.CgroupDir(tree.Cgroup)
	require.True(t, ok)
	left, err := tree.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoDirExists(t, dir)
}

// docker pause stops hive and its workers, and the clock goes on: that is no time
// in which a worker could have ended.
func TestGraceDoesNotCountAFreeze(t *testing.T) {
	last := time.Now().Add(-time.Hour)
	require.Equal(t, proc.SuspendThreshold, proc.Elapsed(&last))
	require.WithinDuration(t, time.Now(), last, testTimeout)
	last = time.Now().Add(-proc.SuspendThreshold / 2)
	require.GreaterOrEqual(t, proc.Elapsed(&last), proc.SuspendThreshold/2)
	require.LessOrEqual(t, proc.Elapsed(&last), proc.SuspendThreshold)
}

// The main process of another worker is not searched for proofs, whatever it has open: it
// belongs to that one.
func TestStopLeavesOtherWorkersAlone(t *testing.T) {
	dir := t.TempDir()
	spec, other := newSpec(t, "parent", dir+"/child"), newSpec(t, "sleep", dir+"/other")
	other.Log = spec.Log
	p, tree := run(t, spec)
	q, _ := run(t, other)
	q.MarkMain()
	child := announced(t, dir+"/child")
	announced(t, dir+"/other")
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: time.Second})
	require.NoError(t, err)
	require.Empty(t, left)
	require.True(t, p.Ended())
	require.False(t, running(child))
	require.True(t, running(q.PID()))
	require.NoError(t, q.Signal(syscall.SIGKILL))
	done(t, q)
	await(t, "it is forgotten", func() bool { return len(proc.MainProcesses()) == 0 })
}
