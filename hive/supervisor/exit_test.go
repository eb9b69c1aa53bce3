package supervisor_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// While all workers are being stopped none comes back; that is no reason to say of one that
// ends just then that it was given up after so many new starts.
func TestAWorkerThatEndsWhileHiveDrainsIsNotGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "always", 5))
	w := r.spawn("serve")
	for n := 1; n <= 2; n++ {
		kill9(t, r.worker(w.WorkerID).Identity.PID)
		r.eventually("it is started again", func() bool {
			now := r.worker(w.WorkerID)
			return now.State == store.WorkerReady && now.Restarts == n
		})
	}
	r.run.Drain()
	kill9(t, r.worker(w.WorkerID).Identity.PID)
	ended := r.becomes(w.WorkerID, store.WorkerFailed)
	require.Equal(t, "killed by SIGKILL", ended.Reason)
	require.Equal(t, store.DesiredRunning, ended.Desired, "the next hive may start it")
	require.Empty(t, r.leases())
}

// The same of one that ends so that its policy does not want a new start.
func TestAWorkerThatHasDoneItsWorkIsNotGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := restarting(script("works", `[ -e `+dir+`/failed ] || { echo 1 >`+dir+`/failed; exit 3; }; `+serveUntil(dir+"/done", 0)), "on-failure", 1)
	r := newRig(t, 1, entry)
	w := r.begin("works")
	r.becomes(w.WorkerID, store.WorkerReady)
	require.NoError(t, os.WriteFile(dir+"/done", nil, 0o600))
	ended := r.becomes(w.WorkerID, store.WorkerFailed)
	require.Equal(t, 1, ended.Restarts)
	require.NotNil(t, ended.ReadyAt)
	require.Equal(t, "exited with code 0", ended.Reason)
}

// serveUntil is a script that serves its first argument, and ends with this code once the
// file is there: after a while it might end before it is ready, on a busy machine.
func serveUntil(file string, code int) string {
	return fmt.Sprintf(`"$0" worker --port $1 & while [ ! -e %s ]; do sleep 0.02; done; exit %d`, file, code)
}

// A worker that crashes at every start: growing waits, then failed; the failure has the last
// lines of its log, and its port is free.
func TestACrashLoopEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("crash", "--exit-code", "3"), "on-failure", 4))
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "crash"})
	f := r.failure(err)
	require.Equal(t, errdefs.CodeExitedEarly, f.Code)
	require.Equal(t, "exited with code 3 before it was ready; given up after 4 new starts within 1m0s (restart.max)", f.Message)
	require.Contains(t, strings.Join(f.Log, "\n"), "exiting with code 3")
	w := r.s.Workers()[0]
	require.Equal(t, store.WorkerFailed, w.State)
	require.Equal(t, f.Message, w.Reason)
	require.Equal(t, 4, w.Restarts)
	require.Equal(t, 3, *w.Exit.Code)
	require.Nil(t, w.NextTry)
	require.Empty(t, r.leases())
	require.Equal(t, []supervisor.Reason{"exited", "exited", "exited", "exited"}, r.metrics.reasons())
	var waits []time.Duration
	for _, m := range r.messages(w.WorkerID) {
		n := strconv.Itoa(len(waits) + 1)
		if _, wait, ok := strings.Cut(m, "before it was ready; start "+n+" of 4 in "); ok {
			d, err := time.ParseDuration(wait)
			require.NoError(t, err)
			waits = append(waits, d)
		}
	}
	require.Len(t, waits, 4, "each wait has its event")
	log, err := os.ReadFile(w.Log)
	require.NoError(t, err)
	var doubled []time.Duration
	for line := range strings.Lines(string(log)) {
		if _, wait, ok := strings.Cut(strings.TrimSpace(line), "the next start is in "); ok {
			d, err := time.ParseDuration(wait)
			require.NoError(t, err)
			doubled = append(doubled, d)
		}
	}
	require.Len(t, doubled, 4)
	// Up to a fifth earlier, never later than 20, 40, 80, 80 ms.
	for i, most := range []time.Duration{20, 40, 80, 80} {
		require.LessOrEqual(t, doubled[i], most*time.Millisecond)
		require.GreaterOrEqual(t, doubled[i], most*time.Millisecond*4/5)
	}
}

// Ends that lie further back than restart.window do not count.
func TestOldEndsDoNotCount(t *testing.T) {
	t.Parallel()
	entry := restarting(serving("crash", "--exit-code", "3"), "on-failure", 2)
	entry.Restart.Window, entry.Restart.Backoff, entry.Restart.MaxBackoff = ref(time.Millisecond), ref(10*time.Millisecond), ref(10*time.Millisecond)
	r := newRig(t, 1, entry)
	w := r.begin("crash")
	r.eventually("more new starts than restart.max", func() bool { return r.worker(w.WorkerID).Restarts > 4 })
	require.LessOrEqual(t, len(r.worker(w.WorkerID).Failures), 2, "the record does not grow for ever")
	require.Equal(t, store.WorkerStopped, r.stop(w.WorkerID).State)
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy string
		ready  bool
		code   int
		again  bool
	}{
		{"never", true, 1, false},
		{"never", true, 0, false},
		{"on-failure", true, 0, false},
		{"on-failure", true, 1, true},
		{"on-failure", false, 0, true},
		{"always", true, 0, true},
	} {
		t.Run(fmt.Sprintf("%s, ready %t, exit %d", c.policy, c.ready, c.code), func(t *testing.T) {
			t.Parallel()
			end := t.TempDir() + "/end"
			text := "exit " + strconv.Itoa(c.code)
			if c.ready {
				text = serveUntil(end, c.code)
			}
			r := newRig(t, 1, restarting(script("ends", text), c.policy, 100))
			w := r.begin("ends")
			if c.ready {
				r.becomes(w.WorkerID, store.WorkerReady)
				require.NoError(t, os.WriteFile(end, nil, 0o600))
			}
			if c.again {
				r.eventually("it is started again", func() bool { return r.worker(w.WorkerID).Restarts > 0 })
				return
			}
			ended := r.becomes(w.WorkerID, store.WorkerFailed)
			require.Zero(t, ended.Restarts)
			require.Equal(t, store.DesiredRunning, ended.Desired)
			require.NotContains(t, ended.Reason, "given up")
			require.Empty(t, r.leases())
		})
	}
}

// A dead main process is not a dead worker: what it has left behind is ended before the
// port is free, and before the worker is started again.
func TestWhatADeadMainProcessLeftIsEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := restarting(script("forks", `"$0" worker --no-listen --port 1 & echo $! >>`+dir+`/children; exec "$0" worker --port $1`), "on-failure", 1)
	r := newRig(t, 1, entry)
	w := r.spawn("forks")
	child, err := strconv.Atoi(r.written(dir + "/children"))
	require.NoError(t, err)
	require.True(t, alive(child))
	kill9(t, w.Identity.PID)
	r.eventually("it is started again", func() bool { return r.worker(w.WorkerID).Restarts == 1 })
	require.False(t, alive(child), "no new start beside what is left of the last one")
	r.becomes(w.WorkerID, store.WorkerReady)
}

// Waiting does not bring back a type that is gone.
func TestAWorkerWithoutATypeIsNotStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, restarting(serving("serve"), "always", 5))
	w := r.spawn("serve")
	r.setTypes()
	kill9(t, w.Identity.PID)
	ended := r.becomes(w.WorkerID, store.WorkerFailed)
	require.Equal(t, "killed by SIGKILL", ended.Reason)
	require.Empty(t, r.leases())
}

// How the process ended is recorded, and told to who waits for the spawn.
func TestAnEarlyExitIsTheFailureOfTheSpawn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, script("shout", `echo first; echo last >&2; exit 7`), script("killed", `kill -9 $$`))
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "shout"})
	f := r.failure(err)
	require.Equal(t, errdefs.CodeExitedEarly, f.Code)
	require.Equal(t, "exited with code 7 before it was ready", f.Message)
	require.Equal(t, "last", f.Log[len(f.Log)-1])
	require.Equal(t, "first", f.Log[len(f.Log)-2])
	_, err = r.spawnBy(newJob(), operation.Spawn{Worker: "killed"})
	require.Equal(t, "killed by SIGKILL before it was ready", r.failure(err).Message)
	require.Empty(t, r.leases())
	for _, w := range r.s.Workers() {
		stored, err := r.stored(w.WorkerID)
		require.NoError(t, err)
		require.Equal(t, store.WorkerFailed, stored.State)
		require.NotNil(t, stored.EndedAt)
		require.NotNil(t, stored.Exit)
	}
}

// A program that says that its port is in use, and whoever had it has gone: the next port is
// tried, and the first is avoided for a while.
func TestAProgramThatSaysItsPortIsInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	text := `[ $1 != ` + strconv.Itoa(int(r.port(0))) + ` ] || { echo "bind: Address already in use"; exit 1; }; exec "$0" worker --port $1`
	r.setTypes(restarting(script("picky", text), "always", 5))
	w := r.spawn("picky")
	require.Equal(t, r.port(1), w.Port)
	first := r.s.Workers()[0]
	require.Equal(t, store.WorkerFailed, first.State)
	require.Contains(t, first.Reason, "its log says that its port "+strconv.Itoa(int(r.port(0)))+" was in use")
	require.Len(t, r.leases(), 1, "nobody is there: the port is free")
}

// Only so often: such a program may mean something else by it.
func TestAProgramThatAlwaysSaysItsPortIsInUseIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, script("picky", `echo "bind: Address already in use"; exit 1`), restarting(script("again", `echo EADDRINUSE; exit 1`), "always", 2))
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "picky"})
	require.Equal(t, errdefs.CodeForeignListener, r.failure(err).Code)
	require.Len(t, r.s.Workers(), 3, "three ports were tried")
	// Nobody is seen to have the port, so that is a failure like any other.
	w := r.begin("again")
	ended := r.becomes(w.WorkerID, store.WorkerFailed)
	require.Equal(t, 2, ended.Restarts)
	require.Contains(t, ended.Reason, "given up after 2 new starts")
}
