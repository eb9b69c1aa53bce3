package supervisor_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// written waits for a file, and returns what is in it.
func (r *rig) written(path string) string {
	r.Helper()
	var raw []byte
	r.eventually(path+" is written", func() bool {
		var err error
		raw, err = os.ReadFile(path)
		return err == nil && len(raw) > 0
	})
	return strings.TrimSpace(string(raw))
}

// What is going to be done is in the file before anything is done: a hive that is killed in
// between goes on with the stop.
func TestAStopIsRecordedBeforeItIsDone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := script("asked", `trap "echo asked >`+dir+`/asked; while [ ! -e `+dir+`/go ]; do sleep 0.01; done; exit 0" TERM; "$0" worker --port $1 & while :; do wait; done`)
	r := newRig(t, 1, entry)
	w := r.spawn("asked")
	j, done := newJob(), make(chan error, 1)
	go func() {
		_, err := r.s.StopWorker(r.bounded(), j, operation.StopWorker{WorkerID: w.WorkerID})
		done <- err
	}()
	r.written(dir + "/asked")
	stored, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, store.WorkerStopping, stored.State)
	require.Equal(t, store.DesiredStopped, stored.Desired)
	require.Equal(t, "stopped on request", stored.Reason)
	require.Equal(t, store.LeaseReleasing, r.leases()[0].State)
	require.NoError(t, r.store.View(func(tx *store.Tx) error {
		job, err := tx.Job(j.id)
		require.Equal(t, w.WorkerID, job.WorkerID, "the job is in the same transaction")
		return err
	}))
	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	require.NoError(t, <-done)
	ended := r.worker(w.WorkerID)
	require.Equal(t, store.WorkerStopped, ended.State)
	require.Equal(t, 0, *ended.Exit.Code)
	require.Equal(t, "stopped on request", ended.Reason)
	require.Empty(t, r.leases())
}

// The signals come in turn, each with the grace, and whoever needed SIGKILL is said to have.
func TestTheReasonSaysWhenSIGKILLWasNeeded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  string
		signals []string
		command []string
		reason  string
	}{
		"it ends in order":    {script: `trap "kill \$!; exit 0" TERM`, reason: "stopped on request"},
		"at the second":       {script: `trap "" TERM; trap "kill -9 \$!; exit 0" INT`, signals: []string{"SIGTERM", "SIGINT"}, reason: "stopped on request"},
		"it hears nothing":    {script: `trap "" TERM INT`, signals: []string{"SIGTERM", "SIGINT"}, reason: "stopped on request; killed with SIGKILL after a grace of 600ms"},
		"a command and none":  {script: `trap "" TERM`, command: []string{"true"}, reason: "stopped on request; killed with SIGKILL after a grace of 600ms"},
		"only the rest":       {script: `(trap "" TERM; while :; do sleep 0.02; done) & trap "exit 0" TERM`, reason: "stopped on request; what it had started was killed with SIGKILL after a grace of 300ms"},
		"it ends by a signal": {script: `:`, reason: "stopped on request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry := script("it", c.script+`; "$0" worker --port $1 & while :; do wait; sleep 0.01; done`)
			grace := 300 * time.Millisecond
			if !strings.Contains(c.reason, "SIGKILL") && len(c.signals) == 0 {
				grace = testTimeout // it need not be over
			}
			entry.Stop = catalog.StopEntry{Signal: c.signals, Grace: &grace, Command: c.command}
			r := newRig(t, 1, entry)
			w := r.spawn("it")
			require.Equal(t, c.reason, r.stop(w.WorkerID).Reason)
			require.False(t, alive(w.Identity.PID))
			require.Contains(t, strings.Join(r.messages(w.WorkerID), "\n"), w.WorkerID+" stopped: "+c.reason, "who follows the job sees it")
		})
	}
}

// What the type itself says is run instead of the signals; its failure is no obstacle.
func TestStopCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := serving("told")
	told.Command = []string{"sh", "-c", `echo $$ >` + dir + `/pid; exec "$0" worker --port $1`, told.Command[0], "{{.Port}}"}
	told.Stop.Command = []string{"sh", "-c", `echo $RBEEHIVE_HOOK >` + dir + `/hook; kill -9 $(cat ` + dir + `/pid)`}
	failing := serving("failing")
	failing.Stop.Command = []string{"false"}
	r := newRig(t, 2, told, failing)
	w := r.spawn("told")
	ended := r.stop(w.WorkerID)
	require.Equal(t, "SIGKILL", ended.Exit.Signal, "by the command")
	require.Equal(t, "stopped on request", ended.Reason, "hive did not need it")
	require.NotEmpty(t, r.written(dir+"/hook"))

	w = r.spawn("failing")
	ended = r.stop(w.WorkerID)
	require.Equal(t, store.WorkerStopped, ended.State)
	require.Equal(t, 0, *ended.Exit.Code, "in order, by the signal")
	log, err := os.ReadFile(w.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "stop.command exited with code 1")
}

// With scope tree everybody is asked; the main process alone otherwise.
func TestStopOfTheTree(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]bool{"tree": true, "main": false} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			child := `(trap "echo 1 >` + dir + `/child" TERM; echo 1 >` + dir + `/ready; while [ ! -e ` + dir + `/end ]; do sleep 0.01; done) &`
			entry := script("family", child+` trap "sleep 0.3; [ -e `+dir+`/child ] && echo yes >`+dir+`/first || echo no >`+dir+`/first; echo 1 >`+dir+`/end; kill \$!; exit 0" TERM; "$0" worker --port $1 & while :; do wait; done`)
			entry.Stop.Scope = scope
			r := newRig(t, 1, entry)
			w := r.spawn("family")
			r.written(dir + "/ready")
			require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
			require.Equal(t, map[bool]string{true: "yes", false: "no"}[want], r.written(dir+"/first"))
		})
	}
}

// A stop while the worker starts: who waited for the start is told, and nothing is left.
func TestStopDuringTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("mute", "--no-listen"))
	spawned := make(chan error, 1)
	go func() {
		_, err := r.s.Spawn(r.bounded(), newJob(), operation.Spawn{Worker: "mute", Wait: operation.WaitReady})
		spawned <- err
	}()
	r.eventually("it runs", func() bool { ws := r.s.Live(); return len(ws) == 1 && ws[0].State == store.WorkerRunning })
	w := r.s.Live()[0]
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
	f := r.failure(<-spawned)
	require.Equal(t, errdefs.CodeCancelled, f.Code)
	require.Equal(t, "the worker was stopped on request before it was ready", f.Message)
	require.False(t, alive(w.Identity.PID))
	require.Empty(t, r.leases())
	require.Empty(t, r.s.Live())
}

func TestStopOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	r.stop(w.WorkerID)
	before, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	_, err = r.s.StopWorker(r.bounded(), newJob(), operation.StopWorker{WorkerID: w.WorkerID})
	f := r.failure(err)
	require.Equal(t, errdefs.CodeNotFound, f.Code)
	require.Equal(t, fmt.Sprintf("no live worker %q", w.WorkerID), f.Message)
	after, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, before, after)

	// A stop that goes on after a start of hive has what it wanted.
	j := newJob()
	j.worker = w.WorkerID
	res, err := r.s.StopWorker(r.bounded(), j, operation.StopWorker{WorkerID: w.WorkerID})
	require.NoError(t, err)
	require.Equal(t, w.WorkerID, res.(operation.Stopped).WorkerID)

	_, err = r.s.ProcessDelete(r.bounded(), newJob(), operation.ProcessDelete{PID: os.Getpid()})
	require.Equal(t, errdefs.CodeNotFound, r.failure(err).Code)
}

// A stop that was cancelled before it began does nothing.
func TestACancelledStopDoesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	j := newJob()
	j.refused = errdefs.ErrCancelled
	_, err := r.s.StopWorker(r.bounded(), j, operation.StopWorker{WorkerID: w.WorkerID})
	require.ErrorIs(t, err, errdefs.ErrCancelled)
	require.Equal(t, store.WorkerReady, r.worker(w.WorkerID).State)
	require.True(t, alive(w.Identity.PID))
}

func TestProcessDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w, other := r.spawn("serve"), r.spawn("serve")
	res, err := r.s.ProcessDelete(r.bounded(), newJob(), operation.ProcessDelete{PID: w.Identity.PID})
	require.NoError(t, err)
	require.Equal(t, operation.Stopped{Port: w.Port, Status: "stopped", WorkerID: w.WorkerID}, res)
	require.False(t, alive(w.Identity.PID))
	require.True(t, alive(other.Identity.PID))
}

// All workers are stopped, those too that wait for a new start; they are to be there again
// with the next hive.
func TestStopAll(t *testing.T) {
	t.Parallel()
	crash := restarting(serving("crash", "--exit-code", "3"), "always", 5)
	crash.Restart.Backoff, crash.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
	r := newRig(t, 3, serving("serve"), crash)
	a, b, c := r.spawn("serve"), r.spawn("serve"), r.begin("crash")
	r.becomes(c.WorkerID, store.WorkerBackoff)
	r.run.Drain()
	require.NoError(t, r.s.StopAll(r.bounded()))
	require.Empty(t, r.s.Live())
	require.Empty(t, r.leases())
	for _, w := range []store.Worker{a, b, c} {
		ended := r.worker(w.WorkerID)
		require.Equal(t, store.WorkerStopped, ended.State)
		require.Equal(t, store.DesiredRunning, ended.Desired)
		require.Equal(t, "hive was asked to stop all workers", ended.Reason)
	}
}

// A worker that is just being started again, and whose process its supervisor does not have
// yet, is stopped too.
func TestStopAllInTheMiddleOfANewStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "always", 5))
	for range 10 {
		w := r.spawn("serve")
		kill9(t, w.Identity.PID)
		for deadline := time.Now().Add(testTimeout); ; {
			if r.worker(w.WorkerID).Restarts == 1 {
				break
			}
			require.True(t, time.Now().Before(deadline), "it is started again")
		}
		require.NoError(t, r.s.StopAll(r.bounded()))
		require.Empty(t, r.s.Live())
		require.False(t, alive(r.worker(w.WorkerID).Identity.PID))
		require.Empty(t, r.leases())
	}
}

// Many stops at once, without cgroups: every one is whole.
func TestManyStopsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 6, serving("serve"))
	for range 6 {
		r.spawn("serve")
	}
	require.NoError(t, r.s.StopAll(r.bounded()))
	for _, w := range r.s.Workers() {
		require.Equal(t, store.WorkerStopped, w.State, w.Reason)
	}
	require.Empty(t, r.leases(), "no port is quarantined")
}

// What a stop could not end keeps its port from others. The worker's own processes can be
// ended here, so a stranger has the port.
func TestAPortWithAListenerIsQuarantined(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("mute", "--no-listen"))
	w := r.begin("mute")
	r.listenOn(w.Port)
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
	leases := r.leases()
	require.Len(t, leases, 1)
	require.Equal(t, store.LeaseQuarantined, leases[0].State)
	require.Contains(t, leases[0].Reason, fmt.Sprintf("pid %d", os.Getpid()))
	require.Nil(t, leases[0].Identity)
	require.True(t, slices.ContainsFunc(r.messages(w.WorkerID), func(m string) bool { return strings.Contains(m, "is quarantined") }))
}

// Requests of all kinds at once: each is answered, and one worker is left, or none.
func TestRequestsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	answers := make(chan error, 8)
	for range 4 {
		go func() {
			_, err := r.s.RestartWorker(ctx, newJob(), operation.RestartWorker{WorkerID: w.WorkerID})
			answers <- err
		}()
		go func() {
			_, err := r.s.StopWorker(ctx, newJob(), operation.StopWorker{WorkerID: w.WorkerID})
			answers <- err
		}()
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			require.Contains(t, []string{errdefs.CodeNotFound, errdefs.CodeCancelled, errdefs.CodePortUnavailable, errdefs.CodeNameInUse}, r.failure(err).Code, "%v", err)
		}
	}
	require.Len(t, r.s.Workers(), 1)
	require.Equal(t, len(r.s.Live()), len(r.leases()))
}
