package proc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

func TestAsk(t *testing.T) {
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	ctx := t.Context()
	ask := func(script string) (string, error) {
		out, err := proc.Ask(ctx, []string{sh, "-c", script}, []string{"WHO=me"})
		return string(out), err
	}
	out, err := ask("echo to stdout; echo to stderr >&2; echo $WHO; read line; echo end of input: $?")
	require.NoError(t, err)
	require.Equal(t, "to stdout\nto stderr\nme\nend of input: 1\n", out)

	out, err = ask("i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done")
	require.NoError(t, err)
	require.Len(t, out, 256<<10)
	require.True(t, strings.HasPrefix(out, "0123456789"))

	_, err = ask("echo no such flag; exit 2")
	require.ErrorIs(t, err, proc.ErrAskedFailed)
	require.ErrorContains(t, err, `exit status 2: "no such flag"`)
	_, err = proc.Ask(ctx, []string{"sh"}, nil)
	require.ErrorContains(t, err, "absolute path")
	_, err = proc.Ask(ctx, nil, nil)
	require.ErrorContains(t, err, "absolute path")
	_, err = proc.Ask(ctx, []string{"/nonexistent"}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A program that loads for seconds, or never ends, is killed.
func TestAskHasAnEnd(t *testing.T) {
	limit := errors.New("it took too long")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, limit)
	defer cancel()
	begun := time.Now()
	_, err := proc.Ask(ctx, []string{self(t)}, []string{modeVar + "=stubborn"})
	require.ErrorIs(t, err, limit)
	require.NotErrorIs(t, err, proc.ErrAskedFailed)
	require.Less(t, time.Since(begun), 5*time.Second)
}

// A program that leaves a child behind with its output does not hold hive up, and
// the child is ended.
func TestAskDoesNotWaitForChildren(t *testing.T) {
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	begun := time.Now()
	out, err := proc.Ask(t.Context(), []string{sh, "-c", "sleep 60 & echo $!"}, []string{"PATH=" + os.Getenv("PATH")})
	require.NoError(t, err)
	require.Less(t, time.Since(begun), 10*time.Second)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	await(t, "the end of what it left behind", func() bool { return !running(pid) })
}

// A program that is a script, as wrappers of drivers are, is killed with what it
// waits for; else each time-out would leave one process behind.
func TestAskKillsTheTree(t *testing.T) {
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "pid")
	limit := errors.New("it took too long")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		_, err := proc.Ask(ctx, []string{sh, "-c", "sleep 60 & printf %s $! >" + file + ".new; mv " + file + ".new " + file + "; wait"}, []string{"PATH=" + os.Getenv("PATH")})
		done <- err
	}()
	pid := announced(t, file)
	require.True(t, running(pid))
	cancel(limit)
	require.ErrorIs(t, <-done, limit)
	await(t, "the end of what it waited for", func() bool { return !running(pid) })
}

// What is asked has no record, so it must not outlive a hive that is killed.
func TestWhatIsAskedDiesWithHive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p, _ := run(t, newSpec(t, "asker", file))
	asked := announced(t, file)
	require.True(t, running(asked))
	require.NoError(t, p.Signal(syscall.SIGKILL))
	await(t, "the end of what was asked", func() bool { return !running(asked) })
}
