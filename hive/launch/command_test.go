package launch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/launch"
	"rbeehive/store"
)

// command runs a shell command as one of a worker's.
func (r *rig) command(ctx context.Context, line string) (store.Worker, error) {
	r.t.Helper()
	rec := r.record(typeOf(r.t, catalog.Entry{}))
	return rec, r.Command(ctx, "stop.command", []string{"/bin/sh", "-c", line}, rec, []string{"PATH=/usr/bin:/bin", "COLOUR=blue"})
}

// What a command writes is in the worker's log, behind a line that says which it was.
func TestACommandIsRunToItsEnd(t *testing.T) {
	r := newRig(t)
	rec, err := r.command(t.Context(), "echo out $COLOUR; echo err >&2; cat")
	require.NoError(t, err)
	log := r.logOf(rec)
	require.Contains(t, log, "stop.command: /bin/sh -c echo out $COLOUR")
	require.Contains(t, log, "\nout blue\nerr\n")
	require.Equal(t, 3, strings.Count(log, "\n"))
}

func TestACommandThatFails(t *testing.T) {
	for line, want := range map[string]string{"echo why; exit 9": "stop.command exited with code 9", "echo why; kill -KILL $$": "stop.command killed by SIGKILL"} {
		r := newRig(t)
		_, err := r.command(t.Context(), line)
		f := requireFailure(t, err, errdefs.CodeExecFailed)
		require.Equal(t, want, f.Message)
		require.Equal(t, []string{"why"}, f.Log, "its last words, and not hive's")
	}
	r := newRig(t)
	_, err := r.command(t.Context(), "for i in $(seq 100); do echo line $i; done; exit 1")
	f := requireFailure(t, err, errdefs.CodeExecFailed)
	require.Len(t, f.Log, launch.LogTail)
	require.Equal(t, "line 100", f.Log[launch.LogTail-1])
}

func TestACommandThatCannotBeRun(t *testing.T) {
	r := newRig(t)
	rec := r.record(typeOf(t, catalog.Entry{}))
	err := r.Command(t.Context(), "before_start", []string{"no-such-command-here"}, rec, nil)
	f := requireFailure(t, err, errdefs.CodeExecFailed)
	require.Contains(t, f.Message, "before_start: program not found: ")
	require.NoFileExists(t, rec.Log, "nothing was begun")
	rec.Spec.Dir = filepath.Join(r.dir, "gone")
	err = r.Command(t.Context(), "before_start", []string{"/bin/true"}, rec, nil)
	f = requireFailure(t, err, errdefs.CodeExecFailed)
	require.Contains(t, f.Message, "before_start: ")
	require.Contains(t, f.Message, "no such file or directory")
}

// Whoever ends a command early is told apart: one who has cancelled it knows, a command
// that took too long is a failure, and when hive closes it was neither.
func TestACommandThatIsEndedEarly(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(r *rig, cancel context.CancelCauseFunc)
		want func(t *testing.T, err error)
	}{
		"cancelled": {
			func(_ *rig, cancel context.CancelCauseFunc) { cancel(errdefs.ErrCancelled) },
			func(t *testing.T, err error) { require.Equal(t, errdefs.ErrCancelled, err) },
		},
		"too slow": {
			func(_ *rig, cancel context.CancelCauseFunc) { cancel(context.DeadlineExceeded) },
			func(t *testing.T, err error) {
				require.Equal(t, "stop.command did not end within its time and was ended", requireFailure(t, err, errdefs.CodeExecFailed).Message)
			},
		},
		"hive closes": {
			func(r *rig, cancel context.CancelCauseFunc) { r.closing = true; cancel(errdefs.ErrClosing) },
			func(t *testing.T, err error) {
				f := requireFailure(t, err, errdefs.CodeExecFailed)
				require.Contains(t, f.Message, "stop.command: ")
				require.NotContains(t, f.Message, "within its time")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			begun := filepath.Join(r.dir, "begun")
			done := make(chan error, 1)
			go func() {
				_, err := r.command(ctx, "echo $$ >"+begun+".new; mv "+begun+".new "+begun+"; sleep 600; echo not reached")
				done <- err
			}()
			require.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, 20*time.Second, time.Millisecond)
			c.end(r, cancel)
			select {
			case err := <-done:
				c.want(t, err)
			case <-time.After(20 * time.Second):
				require.FailNow(t, "the command goes on")
			}
			text, err := os.ReadFile(begun)
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			require.NoDirExists(t, fmt.Sprintf("/proc/%d", pid), "it was ended")
		})
	}
}

// before_start has the values and the environment of the worker, and a mark that is not the
// worker's: it must not be taken for the worker.
func TestBeforeStart(t *testing.T) {
	r := newRig(t)
	typ := typeOf(t, catalog.Entry{Env: []string{"COLOUR=blue"}, BeforeStart: []string{
		"sh", "-c", "echo prepared {{.Port}} {{.WorkerID}} {{.QueenURL}} $COLOUR ${RBEEHIVE_HOOK:-none} ${RBEEHIVE_LEASE:-none} ${RBEEHIVE_WORKER:-none}",
	}})
	env, err := environment(t, typ)
	require.NoError(t, err)
	rec := r.record(typ)
	require.NoError(t, r.BeforeStart(t.Context(), typ, rec, env))
	require.Contains(t, r.logOf(rec), "\nprepared 9000 web-9000-abcdef http://queen:7833 blue state/before_start.web-9000-abcdef none none\n")

	without := typeOf(t, catalog.Entry{})
	rec.Log += ".2"
	require.NoError(t, r.BeforeStart(t.Context(), without, rec, nil))
	require.NoFileExists(t, rec.Log)

	fails := typeOf(t, catalog.Entry{BeforeStart: []string{"sh", "-c", "exit 3"}})
	require.Equal(t, "before_start exited with code 3", requireFailure(t, r.BeforeStart(t.Context(), fails, rec, nil), errdefs.CodeExecFailed).Message)
	model := typeOf(t, catalog.Entry{BeforeStart: []string{"echo", "{{.Model}}"}})
	rec.Asked.Model = "--help"
	f := requireFailure(t, r.BeforeStart(t.Context(), model, rec, nil), errdefs.CodeExecFailed)
	require.Contains(t, f.Message, "before_start: ")
}

func TestDescribeExit(t *testing.T) {
	zero, nine := 0, 9
	for want, exit := range map[string]store.Exit{
		"exited with code 0":                 {Code: &zero},
		"exited with code 9 (out of memory)": {Code: &nine, OOM: true},
		"killed by SIGKILL":                  {Signal: "SIGKILL"},
		"killed by SIGKILL (out of memory)":  {Signal: "SIGKILL", OOM: true},
		"exited, its code is unknown":        {},
	} {
		require.Equal(t, want, launch.DescribeExit(exit))
	}
}
