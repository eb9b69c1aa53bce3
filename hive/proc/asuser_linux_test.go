package proc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/test/skip"
)

// runContext bounds what a stand-in does.
func runContext() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout) //nolint:gosec // a stand-in is over before
	_ = cancel                                                            // the stand-in ends before
	return ctx
}

// readAs reads a file as hive reads one of a worker's.
func readAs(t *testing.T, user, path string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	b, err := proc.AsUser(ctx, user, func() ([]byte, error) {
		f, err := proc.OpenRegular(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(f)
	})
	return string(b), err
}

// What is closed to a user stays closed, whatever path the user has made to it.
func TestFilesWithTheRightsOfAUser(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	file := func(name string, mode fs.FileMode, uid, gid int) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(name), 0o600))
		require.NoError(t, os.Chown(path, uid, gid))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	private := filepath.Join(dir, "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	secret := file("private/secret", 0o644, 0, 0)
	open, err := os.Open(secret)
	require.NoError(t, err)
	defer open.Close()
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.Symlink(to, path))
		return path
	}
	sleeper := exec.Command("sleep", "60")
	sleeper.Dir = private
	require.NoError(t, sleeper.Start())
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })

	for path, readable := range map[string]bool{
		file("public", 0o644, 0, 0):                            true,
		file("own", 0o600, 54321, 54322):                       true,
		file("group", 0o640, 0, 54322):                         true,
		file("root", 0o600, 0, 0):                              false,
		file("rootgroup", 0o640, 0, 0):                         false, // hive's own groups are gone, too
		link("shadow", "/etc/shadow"):                          false,
		secret:                                                 false,
		link("indirect", private+"/../.."):                     false,
		link("fd", fmt.Sprintf("/proc/self/fd/%d", open.Fd())): false,
		link("hive", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), open.Fd())):         false,
		link("environ", "/proc/self/environ"):                                       false,
		link("cwd", fmt.Sprintf("/proc/%d/cwd/secret", sleeper.Process.Pid)):        false,
		link("elsewhere", fmt.Sprintf("/proc/%d/root"+secret, sleeper.Process.Pid)): false,
	} {
		got, err := readAs(t, anotherUser, path)
		require.Equal(t, readable, err == nil, "%s: %q, %v", path, got, err)
		if readable {
			require.Equal(t, filepath.Base(path), got)
			continue
		}
		require.Empty(t, got)
	}
	for _, user := range []string{"", "0:0"} {
		got, err := readAs(t, user, secret)
		require.NoError(t, err)
		require.Equal(t, "private/secret", got, "with hive's own rights")
	}
	_, err = readAs(t, "no-such-user-42", secret)
	require.ErrorIs(t, err, proc.ErrUnknownUser)
}

// Nothing that a stranger can make is waited for.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o666))
	for _, path := range []string{pipe, dir, os.DevNull} {
		_, err := readAs(t, "", path)
		require.ErrorContains(t, err, "not a regular file", path)
		require.ErrorContains(t, err, path)
	}
	_, err := readAs(t, "", filepath.Join(dir, "nothing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// The rest of hive stays as it is: its threads, and whether others may inspect it.
func TestRightsAreOneThreads(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				_, err := readAs(t, anotherUser, path)
				require.ErrorIs(t, err, fs.ErrPermission)
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, "x", string(b))
			}
		})
	}
	wg.Wait()
	now, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	require.NoError(t, err)
	require.Equal(t, dumpable, now)
	await(t, "the end of every thread with other rights", func() bool {
		tasks, err := filepath.Glob("/proc/self/task/*/status")
		require.NoError(t, err)
		require.NotEmpty(t, tasks)
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err == nil && (!strings.Contains(string(b), "\nUid:\t0\t0\t0\t0\n") || strings.Contains(string(b), "CapEff:\t0000000000000000")) {
				return false
			}
		}
		return true
	})
}

// A call that hangs is not waited for, and not too many hang at once: each keeps a
// thread, and a process that has 10,000 ends.
func TestAsUserCallsThatHang(t *testing.T) {
	let := make(chan struct{})
	var begun atomic.Int32
	var hanging sync.WaitGroup
	hang := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := proc.AsUser(ctx, "", func() (int, error) {
			hanging.Add(1)
			defer hanging.Done()
			begun.Add(1)
			<-let
			return 1, nil
		})
		return err
	}
	for range 200 {
		err := hang(2 * time.Millisecond)
		require.ErrorIs(t, err, proc.ErrHangs)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	await(t, "as many as may hang", func() bool { return begun.Load() == 64 })
	require.ErrorIs(t, hang(2*time.Millisecond), proc.ErrHangs)
	require.EqualValues(t, 64, begun.Load())
	// Nor does a caller who gives up say that anything hangs.
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrUnexpectedEOF)
	_, err := proc.AsUser(gone, "", func() (int, error) { return 0, nil })
	require.Equal(t, io.ErrUnexpectedEOF, err)
	close(let)
	hanging.Wait()
	require.NoError(t, hang(testTimeout), "there is room for another")
}

// hangingDir is a hive with a file system below args[0] that never answers, as any
// user can make one: it prints what becomes of a worker that is to be in there, and
// of one that is not.
func hangingDir(args []string) int {
	// In a mount namespace of its own, which ends with this process.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("no mounts:", err)
		return 0
	}
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("proctest", args[0], "fuse", unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse))
	}
	if err != nil {
		fmt.Println("no FUSE:", err)
		return 0
	}
	for _, dir := range []string{filepath.Join(args[0], "home"), "/"} {
		_, err := proc.Run(runContext(), proc.Command{
			Argv: []string{"/bin/true"}, Dir: dir, User: args[1], StateID: "state", Name: "hanging",
		})
		fmt.Println(errors.Is(err, proc.ErrHangs), err)
	}
	return 0
}

func TestWorkingDirectoryThatHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits for a file system that does not answer")
	}
	needRoot(t)
	for _, user := range []string{anotherUser, ""} {
		cmd := exec.Command(self(t), openDir(t), user)
		cmd.Env = []string{modeVar + "=hanging-dir", "GORACE=atexit_sleep_ms=0"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		if strings.HasPrefix(string(out), "no ") {
			skip.Because(t, string(out))
		}
		require.Regexp(t, `^true run: working directory: .*: the file system does not answer: context deadline exceeded\nfalse <nil>\n$`, string(out))
	}
}
