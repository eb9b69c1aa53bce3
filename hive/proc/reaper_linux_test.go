package proc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

type reaped struct {
	mu   sync.Mutex
	pids map[int]bool
}

func (r *reaped) add(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids == nil {
		r.pids = make(map[int]bool)
	}
	r.pids[pid] = true
}

func (r *reaped) has(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pids[pid]
}

func newReaper(t *testing.T) *reaped {
	t.Helper()
	var got reaped
	r, err := proc.NewReaper(got.add)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return &got
}

// A worker's grandchild that lost its parents comes to hive, descends from
// nobody else, and is taken away when it ends.
func TestReaperTakesOrphans(t *testing.T) {
	got := newReaper(t)
	file := filepath.Join(t.TempDir(), "grandchild")
	p, tree := run(t, newSpec(t, "orphaner", file, "stamped"))
	pid := announced(t, file)
	require.Equal(t, code(0), done(t, p).Code)
	require.Equal(t, os.Getpid(), parentOf(t, pid))
	rest := *tree
	rest.Main = nil
	left, err := rest.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	await(t, "the orphan to be reaped", func() bool { return got.has(pid) })
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
	require.False(t, got.has(p.PID()), "a worker is its watcher's")
}

// Waitid shows a child that stands at its gate in the place of those that have ended behind it.
func TestReaperLooksPastAChildAtItsGate(t *testing.T) {
	needGate(t)
	spec := newSpec(t, "sleep")
	g, err := proc.Start(spec)
	require.NoError(t, err)
	t.Cleanup(g.Abort)
	got := newReaper(t)
	file := filepath.Join(t.TempDir(), "grandchild")
	p, _ := run(t, newSpec(t, "orphaner", file, "stamped"))
	pid := announced(t, file)
	require.Equal(t, code(0), done(t, p).Code)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	await(t, "the end of the orphan", func() bool { return !running(pid) })
	g.Abort()
	await(t, "the orphan to be reaped", func() bool { return got.has(pid) })
}

// The exit codes of workers and of os/exec are not stolen, however many end at once.
func TestReaperLeavesOthersAlone(t *testing.T) {
	got := newReaper(t)
	var wg sync.WaitGroup
	errs := make([]string, 40)
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				errs[i] = foreignExit(i)
				return
			}
			errs[i] = workerExit(t, i)
		})
	}
	wg.Wait()
	require.Empty(t, strings.Join(errs, ""))
	require.Empty(t, got.pids)
}

func foreignExit(i int) string {
	err := exec.Command("/bin/sh", "-c", "exit "+strconv.Itoa(i)).Run()
	var exit *exec.ExitError
	if i == 0 && err == nil || errors.As(err, &exit) && exit.ExitCode() == i {
		return ""
	}
	return fmt.Sprintf("os/exec %d: %v\n", i, err)
}

func workerExit(t *testing.T, i int) string {
	spec := newSpec(t, "")
	spec.Argv = []string{"/bin/sh", "-c", "exit " + strconv.Itoa(i)}
	g, err := proc.Start(spec)
	if err != nil {
		return err.Error() + "\n"
	}
	p, err := g.Open(context.Background())
	if err != nil {
		return err.Error() + "\n"
	}
	<-p.Done()
	if c := p.Exit().Code; c == nil || *c != i {
		return fmt.Sprintf("worker %d: %+v\n", i, p.Exit())
	}
	return ""
}

// waitid shows the first child that has ended. Here that one is os/exec's, which
// nobody waits for yet; the orphan behind it must be reaped all the same.
func TestReaperLooksPastAForeignZombie(t *testing.T) {
	cmd := exec.Command("/bin/true")
	require.NoError(t, cmd.Start())
	await(t, "the zombie", func() bool { return !running(cmd.Process.Pid) })
	got := newReaper(t)
	file := filepath.Join(t.TempDir(), "grandchild")
	p, _ := run(t, newSpec(t, "orphaner", file, "stamped"))
	pid := announced(t, file)
	done(t, p)
	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	require.NoError(t, unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0))
	unix.Close(fd)
	await(t, "the orphan to be reaped", func() bool { return got.has(pid) })
	require.NoError(t, cmd.Wait(), "the other one's exit code was stolen")
}

func TestOneReaper(t *testing.T) {
	r, err := proc.NewReaper(nil)
	require.NoError(t, err)
	_, err = proc.NewReaper(nil)
	require.Error(t, err)
	r.Close()
	r.Close()
	r, err = proc.NewReaper(nil)
	require.NoError(t, err)
	r.Close()
}

// [measured] one os.Process.Wait for each of 300 children cost 303 threads.
func TestWatchingTakesNoThreads(t *testing.T) {
	const n = 300
	before := threads(t)
	procs := make([]*proc.Process, 0, n)
	for range n {
		child, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
		require.NoError(t, err)
		id, err := proc.Identify(child.Pid)
		require.NoError(t, err)
		require.NoError(t, child.Release())
		p, verdict, err := proc.Adopt(id)
		require.NoError(t, err)
		require.Equal(t, proc.Alive, verdict)
		procs = append(procs, p)
	}
	require.Less(t, threads(t)-before, 12)
	for _, p := range procs {
		require.NoError(t, p.Signal(syscall.SIGTERM))
	}
	for _, p := range procs {
		require.Equal(t, "SIGTERM", done(t, p).Signal)
		require.ErrorIs(t, unix.Kill(p.PID(), 0), unix.ESRCH, "it has been reaped")
	}
	require.Less(t, threads(t)-before, 12)
}

func threads(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(entries)
}
