package supervisor_test

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// The states that a worker goes through, as events tell them and the file says.
func TestAWorkerThatLoads(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("slow", "--load-time", "1s"))
	w := r.begin("slow")
	require.Equal(t, store.WorkerRunning, w.State)
	loading := r.becomes(w.WorkerID, store.WorkerLoading)
	require.Equal(t, "it answers 503 Service Unavailable to /health, expected 200", loading.Reason)
	require.Nil(t, loading.ReadyAt)
	ready := r.becomes(w.WorkerID, store.WorkerReady)
	require.Empty(t, ready.Reason)
	require.NotNil(t, ready.ReadyAt)
	stored, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, ready, stored)
	r.counted(1, 1)
	messages := r.messages(w.WorkerID)
	require.Equal(t, []string{
		fmt.Sprintf("%s is loading: %s", w.WorkerID, loading.Reason),
		fmt.Sprintf("%s is ready at http://127.0.0.1:%d", w.WorkerID, w.Port),
	}, messages[len(messages)-2:])
}

// What is no use is ended, and the failure says why.
func TestWorkersThatDoNotBecomeReady(t *testing.T) {
	t.Parallel()
	quick := func(e catalog.Entry) catalog.Entry { e.Ready.Timeout = ref(500 * time.Millisecond); return e }
	stalls := serving("stalls", "--unhealthy")
	stalls.Ready.Stall = ref(1500 * time.Millisecond)
	for _, c := range []struct {
		entry   catalog.Entry
		code    string
		message string
	}{
		{quick(serving("mute", "--no-listen")), errdefs.CodeNotReady, "not ready after 500ms (ready.timeout): nothing listens on port %d"},
		{quick(serving("sick", "--unhealthy")), errdefs.CodeNotReady, "not ready after 500ms (ready.timeout): it answers 503 Service Unavailable to /health, expected 200"},
		{stalls, errdefs.CodeNotReady, "no progress for 1.5s (ready.stall): it answers 503 Service Unavailable to /health, expected 200"},
		{serving("offset", "--listen-offset", "1"), errdefs.CodeWrongPort, "instead of its port %d: does its command use {{.Port}}?"},
	} {
		t.Run(c.entry.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, c.entry)
			_, err := r.spawnBy(newJob(), operation.Spawn{Worker: c.entry.Name})
			f := r.failure(err)
			require.Equal(t, c.code, f.Code)
			if strings.Contains(c.message, "%d") {
				c.message = fmt.Sprintf(c.message, r.port(0))
			}
			require.Contains(t, f.Message, c.message)
			w := r.s.Workers()[0]
			require.Equal(t, store.WorkerFailed, w.State)
			require.Contains(t, w.Reason, c.message)
			require.False(t, alive(w.Identity.PID))
			require.Empty(t, r.leases())
		})
	}
}

// Output is progress: a worker that says something now and then is not given up.
func TestAWorkerThatGetsOnIsNotGivenUp(t *testing.T) {
	t.Parallel()
	entry := script("talks", `for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exec "$0" worker --port $1`)
	entry.Ready.Stall = ref(1500 * time.Millisecond)
	r := newRig(t, 1, entry)
	require.Equal(t, store.WorkerReady, r.spawn("talks").State)
}

// Given up it is started again, if its policy says so.
func TestAWorkerThatIsGivenUpIsStartedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := restarting(script("second", `[ -e `+dir+`/first ] && exec "$0" worker --port $1; echo 1 >`+dir+`/first; exec "$0" worker --port $1 --no-listen`), "on-failure", 1)
	entry.Ready.Timeout = ref(time.Second)
	r := newRig(t, 1, entry)
	w := r.spawn("second")
	require.Equal(t, 1, w.Restarts)
	require.Len(t, w.Failures, 1)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonNotReady}, r.metrics.reasons())
}

// sickly is a type whose workers answer 500 while a file is there, or as many times as it
// says. They are watched.
func sickly(name, file string) catalog.Entry {
	e := serving(name)
	e.Command = []string{e.Command[0], "sickly", "{{.Port}}", file}
	e.Live = catalog.LiveEntry{Interval: ref(200 * time.Millisecond), Timeout: ref(200 * time.Millisecond), Failures: 2}
	e.Restart.Backoff, e.Restart.MaxBackoff = ref(10*time.Millisecond), ref(10*time.Millisecond)
	return e
}

// sicklyMain is the program of such a worker.
func sicklyMain(port, file string, inOrder bool) int {
	if inOrder {
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGTERM)
		go func() { <-caught; os.Exit(0) }()
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		times, err := os.ReadFile(file)
		if err != nil {
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
		switch n, _ := strconv.Atoi(string(times)); n { // 0: it says nothing, and the worker stays ill
		case 0:
		case 1:
			_ = os.Remove(file)
		default:
			_ = os.WriteFile(file, []byte(strconv.Itoa(n-1)), 0o600)
		}
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+port, handler))
	return 1
}

// What is shown of a worker that loads, or serves no more, is the last answer, not the first.
func TestTheReasonIsTheLastAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("slow", "--load-time", "1h"))
	w := r.begin("slow")
	r.becomes(w.WorkerID, store.WorkerLoading)
	before := len(r.messages(w.WorkerID))
	require.NoError(t, syscall.Kill(w.Identity.PID, syscall.SIGSTOP))
	r.eventually("the reason changes", func() bool {
		return strings.Contains(r.worker(w.WorkerID).Reason, "it gives no answer within")
	})
	require.NoError(t, syscall.Kill(w.Identity.PID, syscall.SIGCONT))
	r.eventually("and back", func() bool {
		return r.worker(w.WorkerID).Reason == "it answers 503 Service Unavailable to /health, expected 200"
	})
	require.Len(t, r.messages(w.WorkerID), before, "no event for each")
}

// A worker of which somebody has seen that it does not serve is probed again, and shown as
// unhealthy until it does. It is left alone.
func TestRecheck(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sick"
	entry := sickly("serve", file)
	entry.Live = catalog.LiveEntry{}
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.never("it is probed without being asked for", 300*time.Millisecond, func() bool { return r.worker(w.WorkerID).State != store.WorkerReady })
	r.s.Recheck("nobody")
	require.NoError(t, os.WriteFile(file, []byte("4"), 0o600))
	r.s.Recheck(w.WorkerID)
	r.eventually("it has been asked until it was well", func() bool { _, err := os.Stat(file); return err != nil })
	require.NotContains(t, strings.Join(r.messages(w.WorkerID), "\n"), "unhealthy", "four missed answers are not enough")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.s.Recheck(w.WorkerID)
	sick := r.becomes(w.WorkerID, store.WorkerUnhealthy)
	require.Equal(t, "it answers 500 Internal Server Error to /health, expected 200", sick.Reason)
	require.NoError(t, os.Remove(file))
	well := r.becomes(w.WorkerID, store.WorkerReady)
	require.Equal(t, w.ReadyAt, well.ReadyAt)
	require.Equal(t, w.Identity, well.Identity)
}

// By its type a worker that does not serve is shown as such, or started again, whatever
// restart.policy says.
func TestLiveness(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"report", "restart"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			file := t.TempDir() + "/sick"
			entry := sickly("serve", file)
			entry.Live.Action = action
			r := newRig(t, 1, entry)
			w := r.spawn("serve")
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			if action == "report" {
				sick := r.becomes(w.WorkerID, store.WorkerUnhealthy)
				require.Equal(t, "it answers 500 Internal Server Error to /health, expected 200", sick.Reason)
				require.Equal(t, w.Identity, sick.Identity)
				require.NoError(t, os.Remove(file))
				require.Equal(t, w.ReadyAt, r.becomes(w.WorkerID, store.WorkerReady).ReadyAt)
				require.Empty(t, r.metrics.reasons())
				return
			}
			r.eventually("it is ended", func() bool {
				return r.worker(w.WorkerID).State == store.WorkerBackoff || r.worker(w.WorkerID).Restarts > 0
			})
			require.NoError(t, os.Remove(file))
			r.eventually("it is started again", func() bool { now := r.worker(w.WorkerID); return now.State == store.WorkerReady && now.Restarts > 0 })
			require.Contains(t, r.metrics.reasons(), supervisor.ReasonLiveness)
			require.Contains(t, strings.Join(r.messages(w.WorkerID), "\n"), "it does not serve any more (live): it answers 500")
		})
	}
}

// Most servers end with code 0 on SIGTERM. That it was hive that ended them is no reason to
// take it for the end of their work, which no policy but always would follow by a new start.
func TestAWorkerThatEndsInOrderIsStartedAgainByItsLiveness(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sick"
	entry := sickly("serve", file)
	entry.Command = append(entry.Command, "in order")
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.eventually("it is ended", func() bool { now := r.worker(w.WorkerID); return now.Exit != nil })
	require.Equal(t, 0, *r.worker(w.WorkerID).Exit.Code)
	require.NoError(t, os.Remove(file))
	r.eventually("it is started again", func() bool { now := r.worker(w.WorkerID); return now.State == store.WorkerReady && now.Restarts > 0 })
}

// A single miss is none: only live.failures in a row count.
func TestLivenessCountsMissesInARow(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sick"
	entry := sickly("serve", file)
	entry.Live.Failures, entry.Live.Action = 1000, "report"
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.never("it is shown as unhealthy", time.Second, func() bool { return r.worker(w.WorkerID).State != store.WorkerReady })
}

// A worker that does not answer at all was shown as unhealthy after 43 s where its type says
// three misses a second apart: each probe waited for 5 s before the next began, and five
// more came behind them.
func TestAWorkerThatHangsIsUnhealthyAfterItsFailuresAndOneTimeout(t *testing.T) {
	t.Parallel()
	entry := serving("serve")
	entry.Live = catalog.LiveEntry{Interval: ref(500 * time.Millisecond), Timeout: ref(500 * time.Millisecond), Failures: 3, Action: "report"}
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	begun := time.Now()
	require.NoError(t, syscall.Kill(w.Identity.PID, syscall.SIGSTOP))
	sick := r.becomes(w.WorkerID, store.WorkerUnhealthy)
	took := time.Since(begun)
	require.GreaterOrEqual(t, took, time.Second, "three misses, not one")
	require.Less(t, took, 4*time.Second, "2 s, on a machine that does nothing else")
	require.Equal(t, "it gives no answer within 500ms to /health, expected 200", sick.Reason)
	require.NoError(t, syscall.Kill(w.Identity.PID, syscall.SIGCONT))
	r.becomes(w.WorkerID, store.WorkerReady)
	require.True(t, alive(w.Identity.PID))
}

// It is watched on once it serves again, and after it was adopted.
func TestLivenessGoesOn(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sick"
	entry := sickly("serve", file)
	entry.Live.Action = "report"
	r := newRig(t, 1, entry)
	w := r.spawn("serve")
	for range 2 {
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		r.becomes(w.WorkerID, store.WorkerUnhealthy)
		require.NoError(t, os.Remove(file))
		r.becomes(w.WorkerID, store.WorkerReady)
	}
	r.close()
	r.open()
	require.Equal(t, 1, r.recovery.Adopted)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	r.becomes(w.WorkerID, store.WorkerUnhealthy)
	require.NoError(t, os.Remove(file))
}

// never watches that a condition does not come about.
func (r *rig) never(what string, d time.Duration, bad func() bool) {
	r.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		require.False(r, bad(), what)
	}
}
