package proc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/test/skip"
)

// userVar tells the runner as whom to run.
const userVar = "PROCTEST_USER"

// runner is a hive in the middle of a command.
func runner(args []string) int {
	res, err := proc.Run(context.Background(), proc.Command{
		Argv: append([]string{"/proc/self/exe"}, args[3:]...), Env: []string{modeVar + "=" + args[2], "GORACE=atexit_sleep_ms=0"},
		Dir: "/", Log: args[1], User: os.Getenv(userVar), StateID: args[0], Secret: secretOf(args[0]), Name: "command",
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	return proc.ExitCode(res.Exit)
}

// newCommand is a command of this test binary in the given mode. Its state is new,
// so that nothing that goes wrong in a test is mistaken for another's.
func newCommand(t *testing.T, mode string, args ...string) proc.Command {
	t.Helper()
	cmd := proc.Command{
		Argv: append([]string{self(t)}, args...),
		Env:  append(proc.Environ(os.Environ(), nil), modeVar+"="+mode),
		Log:  filepath.Join(t.TempDir(), "command.log"), StateID: uuid.NewString(), Name: "worker-1.before_start",
	}
	cmd.Secret = secretOf(cmd.StateID)
	t.Cleanup(func() {
		ended, err := proc.EndCommands(context.Background(), cmd.StateID, cmd.Secret, true)
		if err != nil || len(ended) > 0 {
			t.Errorf("clean up: ended %v, error %v", ended, err)
		}
		_, _ = proc.PruneCgroups(cmd.StateID)
	})
	return cmd
}

func shell(t *testing.T, script string, args ...string) proc.Command {
	t.Helper()
	cmd := newCommand(t, "")
	cmd.Argv = append([]string{"/bin/sh", "-c", script}, args...)
	return cmd
}

// withoutCgroups makes the rest of the test one on a system without them: the leaf
// exists already, so there can be none for the command.
func withoutCgroups(t *testing.T, cmd proc.Command) {
	t.Helper()
	root, err := proc.CgroupRoot(cmd.StateID)
	if err != nil {
		return // it is one
	}
	leaf := filepath.Join(root, "hook:"+cmd.Name)
	require.NoError(t, os.Mkdir(leaf, 0o755))
	t.Cleanup(func() { _ = os.Remove(leaf) })
}

func commandLog(t *testing.T, cmd proc.Command) string {
	t.Helper()
	b, err := os.ReadFile(cmd.Log)
	require.NoError(t, err)
	return string(b)
}

func TestRunToTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   int
	}{"success": {"exit 0", 0}, "code": {"exit 3", 3}, "signal": {"kill -9 $$", 137}} {
		t.Run(name, func(t *testing.T) {
			cmd := shell(t, c.script)
			res, err := proc.Run(t.Context(), cmd)
			require.NoError(t, err)
			require.Equal(t, c.want, proc.ExitCode(res.Exit))
			require.Positive(t, res.Took)
			require.Empty(t, res.Ended)
			require.Empty(t, res.Left)
		})
	}
}

// What a command sees: its arguments, its whole environment with the mark and no
// stamps, a session of its own, the log, and nothing of hive.
func TestWhatACommandGets(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	cmd := shell(t, `tr '\0' '\n' </proc/self/environ; echo --; ls -l /proc/$$/fd; echo --; pwd; echo $0 $1
		cut -d' ' -f6 /proc/$$/stat; cut -d' ' -f1 /proc/$$/stat; sed -n 's/SigIgn/SigIgn/p' /proc/self/status; cat /proc/$$/cgroup >&2`, "a", "b c")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "RBEEHIVE_WORKER=w", "HIVE_URL=u", "HIVE_URL=v"}
	cmd.Dir = t.TempDir()
	res, err := proc.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.Equal(t, code(0), res.Exit.Code)
	parts := strings.Split(commandLog(t, cmd), "--\n")
	require.Len(t, parts, 3)
	env := strings.Fields(parts[0])
	require.Equal(t, []string{"PATH=" + os.Getenv("PATH"), "RBEEHIVE_WORKER=w", "HIVE_URL=v", "RBEEHIVE_HOOK=" + cmd.StateID + "/" + cmd.Name}, env[:4])
	require.Regexp(t, "^RBEEHIVE_PROOF=[0-9a-f]{64}$", env[4])
	require.Len(t, env, 5)
	require.Equal(t, fmt.Sprintf("0 -> /dev/null\n1 -> %s\n2 -> %[1]s\n", cmd.Log),
		strings.Join(regexp.MustCompile(`[0-9]+ -> .*\n`).FindAllString(parts[1], -1), ""))
	tail := strings.Split(parts[2], "\n")
	require.Equal(t, []string{cmd.Dir, "a b c", tail[3], tail[3], "SigIgn:\t0000000000000000"}, tail[:5])
	if _, err := proc.CgroupRoot(cmd.StateID); err == nil {
		require.Contains(t, parts[2], "/hook:"+cmd.Name+"\n")
	}
	info, err := os.Stat(cmd.Log)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	// Once more: the log is appended to, and the name can be used again.
	before := commandLog(t, cmd)
	_, err = proc.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(commandLog(t, cmd), before))
	require.Greater(t, len(commandLog(t, cmd)), len(before))
	removed, err := proc.PruneCgroups(cmd.StateID)
	if err == nil {
		require.Zero(t, removed, "the command's cgroup was left behind")
	}
}

// A command that does not end is ended with all it has started, however that has
// gone away; and the error says when.
func TestRunTimeout(t *testing.T) {
	for _, c := range []struct {
		name    string
		grouped bool
		marks   string
	}{{"without a cgroup", false, "stamped"}, {"with a cgroup", true, "bare"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it takes the whole grace
			file := filepath.Join(t.TempDir(), "grandchild")
			cmd := newCommand(t, "parent", file, c.marks)
			if !c.grouped {
				withoutCgroups(t, cmd)
			} else if _, err := proc.CgroupRoot(cmd.StateID); err != nil {
				skip.Because(t, err.Error())
			}
			why := errors.New("before_start has taken more than its 1s")
			ctx, cancel := context.WithCancelCause(t.Context())
			grandchild := make(chan int, 1)
			go func() {
				grandchild <- announced(t, file)
				cancel(why)
			}()
			res, err := proc.Run(ctx, cmd)
			require.ErrorIs(t, err, why)
			require.Regexp(t, `^run /.*: ended after [0-9.]+m?s: before_start has taken`, err.Error())
			require.Equal(t, "SIGTERM", res.Exit.Signal)
			require.Empty(t, res.Left)
			pid := <-grandchild
			require.False(t, running(pid))
			var rest []int
			for _, m := range res.Ended {
				rest = append(rest, m.PID)
			}
			require.Contains(t, rest, pid)
		})
	}
}

func TestRunIsGivenTimeToCleanUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	cmd := newCommand(t, "exit-on-term", "5", file)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		announced(t, file)
		cancel()
	}()
	res, err := proc.Run(ctx, cmd)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, code(5), res.Exit.Code)
}

// A context that has ended, or ends while the gate waits, leaves nothing.
func TestRunCancelledEarly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	cmd := newCommand(t, "sleep", file)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := proc.Run(ctx, cmd)
	require.ErrorIs(t, err, context.Canceled)
	require.NoFileExists(t, cmd.Log)
	for i := range 20 {
		before := openFiles(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
		_, err := proc.Run(ctx, cmd)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		// Fewer, if meanwhile the collector has closed one that an earlier test let go of.
		require.LessOrEqual(t, openFiles(t), before, "descriptors were left open")
	}
}

// As systemd has it for ExecStartPre=: what a command puts into the background ends
// with it.
func TestRunEndsWhatIsLeft(t *testing.T) {
	for grouped, env := range map[bool]string{true: "env -i ", false: ""} {
		t.Run("cgroup "+strconv.FormatBool(grouped), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			cmd := shell(t, env+`setsid sleep 1000 >/dev/null 2>&1 & printf $! >"$0"`, file)
			if !grouped {
				withoutCgroups(t, cmd)
			} else if _, err := proc.CgroupRoot(cmd.StateID); err != nil {
				skip.Because(t, err.Error())
			}
			res, err := proc.Run(t.Context(), cmd)
			require.NoError(t, err)
			require.Equal(t, code(0), res.Exit.Code)
			pid := announced(t, file)
			require.False(t, running(pid))
			require.Len(t, res.Ended, 1)
			require.Equal(t, pid, res.Ended[0].PID)
		})
	}
}

// A command writes to the log of a worker, who has it open too: the worker must
// not be taken for a part of it.
func TestRunOnTheLogOfAWorker(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	p, tree := run(t, newSpec(t, "sleep", ready))
	announced(t, ready)
	file := filepath.Join(t.TempDir(), "pid")
	cmd := newCommand(t, "stubborn", file)
	withoutCgroups(t, cmd)
	cmd.Log = tree.Log
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		announced(t, file)
		cancel()
	}()
	res, err := proc.Run(ctx, cmd)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "SIGKILL", res.Exit.Signal)
	require.Empty(t, res.Ended)
	require.True(t, running(p.PID()), "the worker was ended")
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(filepath.Join(dir, "target"), link))
	for name, c := range map[string]struct {
		change func(*proc.Command)
		says   string
	}{
		"no argv":     {func(c *proc.Command) { c.Argv = nil }, "argv[0] must be the absolute path"},
		"relative":    {func(c *proc.Command) { c.Argv = []string{"true"} }, "argv[0] must be the absolute path"},
		"a link":      {func(c *proc.Command) { c.Log = link }, "open log " + link},
		"no state":    {func(c *proc.Command) { c.StateID = "" }, "state id: expected"},
		"a slash":     {func(c *proc.Command) { c.Name = "a/b" }, `name: expected a name without a slash, it is "a/b"`},
		"no name":     {func(c *proc.Command) { c.Name = "" }, "name: expected"},
		"upwards":     {func(c *proc.Command) { c.Name = "/" }, "name: expected"},
		"directory":   {func(c *proc.Command) { c.Dir = "/nowhere/at/all" }, "working directory"},
		"a user":      {func(c *proc.Command) { c.User = "no-such-user-42" }, "unknown user"},
		"not there":   {func(c *proc.Command) { c.Argv = []string{"/nowhere/at/all"} }, "execve: no such file"},
		"not allowed": {func(c *proc.Command) { c.Argv = []string{"/dev/null"} }, "execve: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := shell(t, "exit 0")
			c.change(&cmd)
			before := openFiles(t)
			_, err := proc.Run(t.Context(), cmd)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, openFiles(t), "descriptors were left open")
		})
	}
	require.NoFileExists(t, filepath.Join(dir, "target"))
}

func TestRunAsAnotherUser(t *testing.T) {
	needRoot(t)
	cmd := shell(t, "id -u; id -G; echo again >>/dev/stderr")
	cmd.User, cmd.Dir = anotherUser, "/"
	res, err := proc.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.Equal(t, code(0), res.Exit.Code)
	require.Equal(t, "54321\n54322\nagain\n", commandLog(t, cmd))
}

// killedRunner starts a command in another process, kills that when the command
// has announced a PID, and returns the PID.
func killedRunner(t *testing.T, cmd proc.Command, user, mode, file string) int {
	t.Helper()
	hive := exec.Command(self(t), cmd.StateID, cmd.Log, mode, file, "stamped")
	hive.Env = append(os.Environ(), modeVar+"=runner", userVar+"="+user)
	require.NoError(t, hive.Start())
	pid := announced(t, file)
	killLater(t, pid)
	require.NoError(t, hive.Process.Kill())
	_ = hive.Wait()
	return pid
}

func commandMembers(t *testing.T, cmd proc.Command) []proc.Member {
	t.Helper()
	members, err := proc.CommandMembers(t.Context(), cmd.StateID, cmd.Secret)
	require.NoError(t, err)
	return members
}

// hive is killed: the kernel kills the command.
func TestHiveKilledWhileACommandRuns(t *testing.T) {
	for _, user := range []string{"", anotherUser} {
		t.Run("user "+user, func(t *testing.T) {
			if user != "" {
				needRoot(t)
			}
			cmd := newCommand(t, "")
			pid := killedRunner(t, cmd, user, "stubborn", filepath.Join(openDir(t), "pid"))
			// A leader is a zombie a moment before its threads have ended.
			await(t, "the end of the command", func() bool { return !running(pid) && len(commandMembers(t, cmd)) == 0 })
			ended, err := proc.EndCommands(t.Context(), cmd.StateID, cmd.Secret, true)
			require.NoError(t, err)
			require.Empty(t, ended)
			if removed, err := proc.PruneCgroups(cmd.StateID); err == nil {
				require.Zero(t, removed, "its cgroup was left behind")
			}
		})
	}
}

// What the killed command had started is found and ended by the next hive, and by
// no other's.
func TestHiveKilledWhileACommandHasChildren(t *testing.T) {
	cmd := newCommand(t, "")
	pid := killedRunner(t, cmd, "", "parent", filepath.Join(t.TempDir(), "pid"))
	other := uuid.NewString()
	none, err := proc.EndCommands(t.Context(), other, secretOf(other), true)
	require.NoError(t, err)
	require.Empty(t, none)
	require.True(t, running(pid), "only the main process is the kernel's to kill")
	orphans, err := proc.Sweep(t.Context(), cmd.StateID, cmd.Secret, nil)
	require.NoError(t, err)
	require.Empty(t, orphans, "commands are not the sweep's")
	await(t, "the end of the main process", func() bool { return len(commandMembers(t, cmd)) == 1 })
	ended, err := proc.EndCommands(t.Context(), cmd.StateID, cmd.Secret, true)
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Equal(t, pid, ended[0].PID)
	require.False(t, running(pid))
	if removed, err := proc.PruneCgroups(cmd.StateID); err == nil {
		require.Zero(t, removed, "its cgroup was left behind")
	}
}

// The death signal comes when the thread ends that forked. Here threads end all
// the time, and the command must not.
func TestThreadsThatEndDoNotEndACommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go")
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := shell(t, `echo 1 >$1.new; mv $1.new $1; until [ -e $0 ]; do sleep 0.01; done; exit 4`, file, ready)
	type end struct {
		res proc.Result
		err error
	}
	over := make(chan end, 1)
	go func() {
		res, err := proc.Run(t.Context(), cmd)
		over <- end{res, err}
	}()
	await(t, "the command", func() bool { _, err := os.Stat(ready); return err == nil })
	for range 20 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				runtime.LockOSThread() // and ends with it
				_ = unix.Gettid()
			})
		}
		wg.Wait()
	}
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	e := <-over
	require.NoError(t, e.err)
	require.Equal(t, code(4), e.res.Exit.Code)
}

// A command has a thread of its own, and gives it back.
func TestRunGivesItsThreadBack(t *testing.T) {
	before := threads(t)
	cmd := shell(t, "exit 0")
	var wg sync.WaitGroup
	errs := make([]error, 40)
	for i := range errs {
		wg.Go(func() {
			own := cmd
			own.Name += strconv.Itoa(i)
			own.Argv = []string{"/bin/sh", "-c", "exit " + strconv.Itoa(i)}
			res, err := proc.Run(t.Context(), own)
			if err == nil && proc.ExitCode(res.Exit) != i {
				err = fmt.Errorf("command %d: %+v", i, res)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	await(t, "the end of the threads", func() bool { return threads(t)-before < 16 })
}
