package supervisor_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// processes are the PIDs of all processes that carry the stamps of this state: workers,
// and gates.
func (r *rig) processes() (pids []int) {
	r.Helper()
	stamp := []byte("RBEEHIVE_STATE=" + r.store.Meta().StateID)
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(r, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(raw, stamp) { // it has ended meanwhile
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		require.NoError(r, err)
		pids = append(pids, pid)
	}
	return pids
}

// A process, then its record, then its program: whatever hive is killed at, there is no
// program without a record.
func TestAWorkerIsRecordedBeforeItsProgramRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("marks", `echo 1 >`+dir+`/runs; exec "$0" worker --port $1`))
	j, recording, goOn := newJob(), make(chan string), make(chan struct{})
	j.begin = func(workerID string) { recording <- workerID; <-goOn } // in the middle of the commit
	done := make(chan error, 1)
	go func() {
		_, err := r.s.Spawn(r.bounded(), j, operation.Spawn{Worker: "marks", Wait: operation.WaitReady})
		done <- err
	}()
	id := <-recording
	require.NotEmpty(t, id, "the job is told in the same commit")
	_, err := r.stored(id)
	require.ErrorIs(t, err, store.ErrNotFound)
	gates := r.processes()
	require.Len(t, gates, 1, "there is a process already")
	require.NoFileExists(t, dir+"/runs", "and its program does not run")
	require.Empty(t, r.s.Live(), "nobody is shown what is not in the file")
	close(goOn)
	require.NoError(t, <-done)
	require.FileExists(t, dir+"/runs")
	stored, err := r.stored(id)
	require.NoError(t, err)
	require.Equal(t, gates[0], stored.Identity.PID, "the process is the same")
	require.Equal(t, j.id, stored.JobID)
	lease := r.leases()[0]
	require.Equal(t, stored.LeaseID, lease.LeaseID)
	require.Equal(t, stored.Identity, lease.Identity)
	require.Equal(t, 1, j.effective)
	require.Equal(t, []string{
		fmt.Sprintf("port %d leased", stored.Port),
		fmt.Sprintf("%s started as pid %d", id, gates[0]),
		fmt.Sprintf("%s is ready at http://127.0.0.1:%d", id, stored.Port),
	}, r.messages(id))
}

// A record that cannot be written leaves nothing: no process, no lease, no log, and the port
// is free.
func TestASpawnThatCannotBeRecordedLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, 1, script("marks", `echo 1 >`+dir+`/runs; exec "$0" worker --port $1`), serving("serve"))
	j := newJob()
	var id string
	j.begin = func(workerID string) { id, j.id = workerID, "" } // a job that the store refuses
	_, err := r.spawnBy(j, operation.Spawn{Worker: "marks"})
	require.Error(t, err)
	require.NotEmpty(t, id)
	require.Equal(t, []string{id}, j.forgotten, "the job names a worker that there is not")
	require.Zero(t, j.effective)
	require.Empty(t, r.processes(), "its gate has gone, and did not wait to be found by somebody")
	require.NoFileExists(t, dir+"/runs")
	require.Empty(t, r.s.Workers())
	require.Empty(t, r.leases())
	require.NoFileExists(t, filepath.Join(r.dir, "logs", id+".log"))
	require.Equal(t, r.port(0), r.spawn("serve").Port)
	r.counted(1, 1)
}

// Mistakes that can be seen before a process is made cost no record.
func TestSpawnsThatCannotBe(t *testing.T) {
	t.Parallel()
	missing := serving("missing")
	missing.Command = []string{"/nonexistent/llama-server", "{{.Port}}"}
	hook := serving("hook")
	hook.BeforeStart = []string{"sh", "-c", "echo it cannot be; exit 4"}
	r := newRig(t, 1, missing, hook)
	for _, c := range []struct{ worker, code, message string }{
		{"missing", errdefs.CodeProgramNotFound, "/nonexistent/llama-server"},
		{"cuda", errdefs.CodeProgramNotFound, "no worker program is configured"},
		{"unknown", errdefs.CodeProgramNotFound, `worker type "unknown" is no longer configured`},
		{"hook", errdefs.CodeExecFailed, "before_start exited with code 4"},
	} {
		j := newJob()
		_, err := r.spawnBy(j, operation.Spawn{Worker: c.worker})
		f := r.failure(err)
		require.Equal(t, c.code, f.Code)
		require.Contains(t, f.Message, c.message)
		require.Empty(t, j.worker, "the job has not begun")
		require.Empty(t, r.s.Workers())
		require.Empty(t, r.leases())
		logs, err := filepath.Glob(filepath.Join(r.dir, "logs", "*"))
		require.NoError(t, err)
		require.Empty(t, logs)
	}
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "hook"})
	require.Equal(t, "it cannot be", r.failure(err).Log[len(r.failure(err).Log)-1])
}

// A program that cannot be executed although it was found is recorded already: it ends like
// any other worker.
func TestAProgramThatCannotBeExecuted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, []byte("\x7fELF, and nothing behind it"), 0o700))
	entry := restarting(serving("broken"), "always", 5)
	entry.Command = []string{file, "{{.Port}}"}
	r := newRig(t, 1, entry)
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "broken"})
	f := r.failure(err)
	require.Equal(t, errdefs.CodeExecFailed, f.Code)
	require.Contains(t, f.Message, "execve")
	w := r.s.Workers()[0]
	require.Equal(t, store.WorkerFailed, w.State)
	require.Equal(t, f.Message, w.Reason)
	require.Empty(t, r.leases())
	require.Empty(t, r.s.Live())
	started, _ := r.metrics.starts()
	require.Zero(t, started, "no program has run")
}

// The ports of a spawn: the lowest, the one that was asked for, a row; and none is left.
func TestPortsOfSpawns(t *testing.T) {
	t.Parallel()
	row := serving("row")
	row.Ports = 2
	r := newRig(t, 4, serving("serve"), row)
	first := r.spawn("serve")
	require.Equal(t, r.port(0), first.Port)
	asked, err := r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Port: r.port(3)})
	require.NoError(t, err)
	require.Equal(t, r.port(3), asked.Port)
	both := r.spawn("row")
	require.Equal(t, []uint16{r.port(1), r.port(2)}, both.Ports)
	_, err = r.spawnBy(newJob(), operation.Spawn{Worker: "serve"})
	require.Equal(t, errdefs.CodePortsExhausted, r.failure(err).Code)
	_, err = r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Port: r.port(0)})
	f := r.failure(err)
	require.Equal(t, errdefs.CodePortUnavailable, f.Code)
	require.Contains(t, f.Message, "it is leased to worker "+first.WorkerID)
	r.stop(both.WorkerID)
	again := r.spawn("serve")
	require.Equal(t, r.port(1), again.Port, "freed ports are leased again")
	require.NotEqual(t, both.WorkerID, again.WorkerID)
}

// A job that was cancelled before its worker was ready ends when that is gone.
func TestACancelledSpawnLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("mute", "--no-listen"))
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := r.s.Spawn(ctx, newJob(), operation.Spawn{Worker: "mute", Wait: operation.WaitReady})
		done <- err
	}()
	r.eventually("it runs", func() bool { return len(r.s.Live()) == 1 })
	pid := r.s.Live()[0].Identity.PID
	cancel(errdefs.ErrCancelled)
	require.ErrorIs(t, <-done, errdefs.ErrCancelled)
	require.False(t, alive(pid))
	require.Empty(t, r.leases())
	w := r.s.Workers()[0]
	require.Equal(t, store.WorkerStopped, w.State)
	require.Equal(t, "the job that started it was cancelled", w.Reason)
}

// A hive that closes lets its workers run, and says so to who waits.
func TestASpawnWhileHiveCloses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("slow", "--load-time", "1s"))
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, err := r.s.Spawn(ctx, newJob(), operation.Spawn{Worker: "slow", Wait: operation.WaitReady})
		done <- err
	}()
	r.eventually("it runs", func() bool { ws := r.s.Live(); return len(ws) == 1 && ws[0].State != store.WorkerSpawning })
	w := r.s.Live()[0]
	r.run.Close()
	cancel() // as the queue does then
	require.ErrorIs(t, <-done, errdefs.ErrClosing)
	require.True(t, r.close(), "one is left")
	require.True(t, alive(w.Identity.PID))
	r.open()
	require.Equal(t, 1, r.recovery.Adopted)
	require.Equal(t, w.Identity, r.becomes(w.WorkerID, store.WorkerReady).Identity, "what it waited for goes on")
}

// One name, one living worker; the name is claimed while its worker is being started, and
// keeps its port.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	slow := serving("slow")
	slow.BeforeStart = []string{"sh", "-c", "echo 1 >" + dir + "/begun; while [ ! -e " + dir + "/go ]; do sleep 0.01; done; exit 1"}
	r := newRig(t, 3, serving("serve"), slow)
	j, done := newJob(), make(chan error, 1)
	go func() {
		_, err := r.s.Spawn(r.bounded(), j, operation.Spawn{Worker: "slow", Name: "chat", Wait: operation.WaitReady})
		done <- err
	}()
	r.written(dir + "/begun")
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Name: "chat"})
	f := r.failure(err)
	require.Equal(t, errdefs.CodeNameInUse, f.Code)
	require.Contains(t, f.Message, "is being started by "+j.id)
	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	require.Error(t, <-done)

	named, err := r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Name: "chat"})
	require.NoError(t, err, "a spawn that failed has not kept the name")
	require.Equal(t, named.WorkerID, r.worker("chat").WorkerID)
	_, err = r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Name: "chat"})
	require.Contains(t, r.failure(err).Message, "worker "+named.WorkerID+` has the name "chat"`)
	r.stop("chat")
	require.Equal(t, named.WorkerID, r.worker("chat").WorkerID, "the last one that had it")
	r.spawn("serve")
	again, err := r.spawnBy(newJob(), operation.Spawn{Worker: "serve", Name: "chat"})
	require.NoError(t, err)
	require.Equal(t, named.Port, again.Port)
	require.Equal(t, again.WorkerID, r.worker("chat").WorkerID)
}

// Who has a worker's id or PID from an event finds it, although it is among the living only
// once its program runs.
func TestAPendingWorkerIsAwaited(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	j, recorded, goOn := newJob(), make(chan string, 1), make(chan struct{})
	j.begin = func(workerID string) { recorded <- workerID; <-goOn }
	go func() {
		_, _ = r.s.Spawn(r.bounded(), j, operation.Spawn{Worker: "serve", Wait: operation.WaitStarted})
	}()
	target := operation.Target{Ref: <-recorded}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.s.AwaitPending(short, target), context.DeadlineExceeded)
	require.NoError(t, r.s.AwaitPending(r.bounded(), operation.Target{Ref: "another"}))
	close(goOn)
	require.NoError(t, r.s.AwaitPending(r.bounded(), target))
	require.Len(t, r.s.Live(), 1)
	require.Equal(t, target.Ref, r.s.Live()[0].WorkerID)
}

// The self-test leaves nothing, and says which of its steps failed.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	res, err := r.s.Check(r.bounded(), newJob(), operation.Check{})
	require.NoError(t, err)
	checked := res.(operation.Checked)
	require.True(t, checked.OK)
	var steps []string
	for _, s := range checked.Steps {
		steps = append(steps, s.Name)
	}
	require.Equal(t, []string{"store write", "port probe", "spawn", "stop"}, steps)
	require.Empty(t, r.leases())
	require.Empty(t, r.s.Live())
	r.spawn("serve")
	_, err = r.s.Check(r.bounded(), newJob(), operation.Check{})
	f := r.failure(err)
	require.Equal(t, errdefs.CodePortsExhausted, f.Code)
	require.Contains(t, f.Message, "port probe: ")
}
