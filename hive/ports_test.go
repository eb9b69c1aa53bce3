package hive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// stranger serves 200 on a port, on one address, until the test ends.
func stranger(t *testing.T, host string, port uint16, reusePort bool) *http.Server {
	t.Helper()
	s := portUser{reusePort: reusePort, host: host}
	l, err := s.listen(int(port))
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a stranger") })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return srv
}

// portEvent is the message of the job's event that says which port it took.
func (r *rig) portEvent(jobID string) string {
	r.Helper()
	events, err := r.h.JobEvents(context.Background(), jobID, 0)
	require.NoError(r, err)
	for ev, err := range events {
		require.NoError(r, err)
		if ev.Type == store.EventPort {
			return ev.Message
		}
	}
	r.Fatal("no port event")
	return ""
}

// A stranger holds the first port, on whatever address: the worker gets the next.
func TestStrangersAreNamedAndPassedOver(t *testing.T) {
	t.Parallel()
	self := filepath.Base(os.Args[0])
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "::1", "127.0.0.2", "::"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2)
			r.open()
			stranger(t, host, r.port(0), false)
			job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
			require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
			require.Equal(t, fmt.Sprintf("%d is held by %.15s (pid %d, user %s); took %d", r.port(0), self, os.Getpid(), userName(t), r.port(1)), r.portEvent(job.JobID))
			view, err := r.h.Ports(t.Context())
			require.NoError(t, err)
			require.Equal(t, []int{1, 1}, []int{view.Foreign, view.Leased})
		})
	}
}

func userName(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	require.NoError(t, err)
	return u.Username
}

// A program that is bound and does not listen yet (vLLM, for minutes) is a
// stranger all the same.
func TestAStrangerThatIsOnlyBound(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	fd, err := bind("127.0.0.1", int(r.port(0)))
	require.NoError(t, err)
	defer unix.Close(fd)
	require.Equal(t, r.port(1), r.spawn("cpu").Port)
}

// vLLM itself: bound early, listening late, with SO_REUSEPORT.
func TestAWorkerThatBindsEarlyAndListensLate(t *testing.T) {
	t.Parallel()
	listen := filepath.Join(t.TempDir(), "listen")
	r := newRig(t, 2, portUserEntry(t, "vllm", "--bound", listen))
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "vllm"})
	r.eventually("it is bound", func() bool {
		view, err := r.h.Ports(t.Context())
		require.NoError(t, err)
		return len(view.Holders) == 1
	})
	require.Equal(t, r.port(1), r.spawn("cpu").Port, "nobody else gets it meanwhile")
	require.Equal(t, "starting", r.processes()[0]["state"])
	require.NoError(t, os.WriteFile(listen, nil, 0o600))
	done, err := r.h.WaitJob(t.Context(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)
}

// A stranger takes the port between the probe and the worker's own bind. What
// each program makes of that, and what hive makes of the program.
func TestThePortIsTakenBeforeTheWorkerBinds(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"exits 1":             {"--if-held", "exit1"},
		"exits 0":             {"--if-held", "exit0"},
		"takes the next port": {"--if-held", "next"},
		"shares the port":     {"--reuse-port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := filepath.Join(t.TempDir(), "start")
			r := newRig(t, 6, portUserEntry(t, "late", append(args, "--wait-for", start)...))
			r.open()
			job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "late"})
			r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
			srv := stranger(t, "127.0.0.1", r.port(0), true)
			require.NoError(t, os.WriteFile(start, nil, 0o600))

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done, err := r.h.WaitJob(ctx, job.JobID)
			require.NoError(t, err)
			var ready []store.Worker
			for _, w := range r.h.Workers() {
				if w.ReadyAt != nil {
					ready = append(ready, w)
				}
				require.False(t, w.Port == r.port(0) && w.ReadyAt != nil, "the stranger's port is never a worker's")
			}
			if name == "takes the next port" && done.State == store.JobFailed {
				require.Equal(t, errdefs.CodeWrongPort, done.Error.Code, "its own port was not free when it was looked for")
				return
			}
			require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)
			require.Len(t, ready, 1)
			body := get(t, endpoint.URL(ready[0]))
			require.Contains(t, body, "port-user "+strconv.Itoa(ready[0].Identity.PID))
			require.NoError(t, srv.Close())
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url) //nolint:gosec // the test's own server
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// A port that was asked for by number is not exchanged for another.
func TestTheAskedForPortIsTakenBeforeTheWorkerBinds(t *testing.T) {
	t.Parallel()
	start := filepath.Join(t.TempDir(), "start")
	r := newRig(t, 3, portUserEntry(t, "late", "--wait-for", start, "--if-held", "exit0"))
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "late", "port": r.port(1)})
	r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
	stranger(t, "127.0.0.1", r.port(1), false)
	require.NoError(t, os.WriteFile(start, nil, 0o600))
	done, err := r.h.WaitJob(t.Context(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, errdefs.CodeForeignListener, done.Error.Code)
	// Whichever comes first: that it exits with 0, or that the stranger is seen.
	require.Regexp(t, fmt.Sprintf(`^(exited with code 0 before it was ready: )?port %d is held by `, r.port(1)), done.Error.Message)
	require.Len(t, r.h.Workers(), 1)
}

func TestEntriesWithPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 6)
	fixed, pair := portUserEntry(t, "fixed"), portUserEntry(t, "pair", "--extra", "{{index .Ports 1}}")
	fixed.Port, pair.Ports = int(r.port(0)), 2
	r.types(fixed, pair)
	r.open()
	require.Equal(t, r.port(1), r.spawn("cpu").Port, "the fixed port is not for others")
	require.Equal(t, r.port(0), r.spawn("fixed").Port)
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "fixed"})
	require.Equal(t, errdefs.CodePortUnavailable, job.Error.Code)
	require.Contains(t, job.Error.Message, "leased to worker fixed-")

	two := r.spawn("pair")
	require.Equal(t, r.port(2), two.Port)
	var ports []uint16
	for _, l := range r.leases() {
		if l.LeaseID == two.LeaseID {
			ports = append(ports, l.Port)
		}
	}
	require.Equal(t, []uint16{r.port(2), r.port(3)}, ports)
	w, err := r.h.Worker(two.WorkerID)
	require.NoError(t, err)
	require.Equal(t, ports, w.Ports)
	require.Contains(t, get(t, endpoint.URL(w)), "port-user")
	require.Equal(t, r.port(4), r.spawn("cpu").Port)

	r.close()
	r.open()
	require.Equal(t, 4, r.h.Info().Recovery.Adopted)
	r.stopWorker(two.WorkerID)
	require.Equal(t, r.port(2), r.spawn("pair").Port, "both are free again")
	job = r.do(map[string]any{"operation": "worker_spawn", "worker": "pair", "port": r.port(4)})
	require.Equal(t, errdefs.CodePortUnavailable, job.Error.Code)

	// Killed while hive is down: both ports are freed, in one transaction.
	two = r.spawnedPair()
	r.close()
	kill9(t, two.PID)
	r.eventually("it is dead", func() bool { return !alive(two.PID) })
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Freed)
	require.Equal(t, r.port(2), r.spawn("pair").Port)
}

// spawnedPair is the live worker of type pair.
func (r *rig) spawnedPair() result {
	r.Helper()
	for _, w := range r.h.Workers() {
		if w.Type == "pair" && !w.State.Ended() {
			return result{WorkerID: w.WorkerID, PID: w.Identity.PID, Port: w.Port, LeaseID: w.LeaseID}
		}
	}
	r.Fatal("no pair")
	return result{}
}

// listener: any is for clients of a container runtime: somebody else listens.
func TestAnyListener(t *testing.T) {
	t.Parallel()
	entry := portUserEntry(t, "client", "--wait-for", "/nonexistent")
	entry.Listener = "any"
	r := newRig(t, 2, entry)
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "client"})
	r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
	runtime := stranger(t, "127.0.0.1", r.port(0), false)
	done, err := r.h.WaitJob(t.Context(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)
	var res result
	require.NoError(t, json.Unmarshal(done.Result, &res))
	require.Equal(t, r.port(0), res.Port)
	require.NoError(t, runtime.Close())
	r.stopWorker(res.WorkerID)
	require.Empty(t, r.leases())
}

func TestQuarantineTimeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.cfg.Ports.Quarantine = time.Hour
	r.open()
	named := r.spawn("cpu", map[string]any{"name": "n"})
	r.stopWorker("n")
	require.Equal(t, r.port(1), r.spawn("cpu").Port)
	require.Equal(t, named.Port, r.spawn("cpu", map[string]any{"name": "n"}).Port)
}

// A range that was changed while workers outside of it run.
func TestTheRangeIsChangedUnderWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	first := r.cfg.Ports.Range.First
	r.open()
	w := r.spawn("cpu")
	r.close()
	r.cfg.Ports.Range = alloc.Range{First: first + 2, Last: first + 3}
	r.cfg.Ports.Policy = alloc.Sequential // another policy over a restart, too
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	view, err := r.h.Ports(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{3, 2, 1, 1}, []int{view.Total, view.Free, view.Leased, view.Outside})
	r.spawn("cpu")
	r.spawn("cpu")
	r.stopWorker(w.WorkerID)
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
	require.Equal(t, errdefs.CodePortsExhausted, job.Error.Code, "the old port is not given out again")
	require.True(t, strings.Contains(job.Error.Message, r.cfg.Ports.Range.String()))
}
