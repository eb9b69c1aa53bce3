package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/hive/services"
	"rbeehive/store"
)

// machine plays the workers and the queue of jobs.
type machine struct {
	t       *testing.T
	run     *run.State
	s       *services.Services
	catalog *catalog.Catalog

	mu        sync.Mutex
	live      map[string]store.WorkerState
	stopped   map[string]bool
	preflight map[string]error
	outcome   func(name string, n int) error // of the n-th job of a service
	load      time.Duration                  // how long a job takes
	jobs      map[string]*job
	begun     []string          // the services of the jobs, in order
	waiting   map[string]string // by job
	maxGoing  int
	going     int
	log       strings.Builder
}

type job struct {
	store.Job
	done chan struct{}
}

func (m *machine) Missing(typ string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, lives := m.live[typ]
	return !lives && !m.stopped[typ]
}

func (m *machine) Live() (list []store.Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for typ, state := range m.live {
		list = append(list, store.Worker{Type: typ, Name: typ, State: state})
	}
	return list
}

func (m *machine) Waiting(jobID string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting[jobID]
}

func (m *machine) Preflight(ctx context.Context, op operation.Spawn) error {
	if op.Worker == "hangs" {
		<-ctx.Done() // a mount that does not answer, and nobody who bounds it
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.preflight[op.Worker]
}

func (m *machine) Submit(_ context.Context, by access.Caller, key string, op operation.Operation, raw json.RawMessage) (store.Job, error) {
	require.Equal(m.t, access.Hive(), by)
	require.Empty(m.t, key)
	s := op.(operation.Spawn)
	require.Equal(m.t, operation.WaitReady, s.Wait)
	require.JSONEq(m.t, fmt.Sprintf(`{"operation":"worker_spawn","worker":%q,"name":%[1]q}`, s.Worker), string(raw))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = append(m.begun, s.Worker)
	n := 0
	for _, name := range m.begun {
		if name == s.Worker {
			n++
		}
	}
	m.going++
	m.maxGoing = max(m.maxGoing, m.going)
	j := &job{Job: store.Job{JobID: fmt.Sprintf("job-%d", len(m.begun))}, done: make(chan struct{})}
	m.jobs[j.JobID] = j
	m.run.Go(func() {
		time.Sleep(m.load)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.going--
		j.State = store.JobSucceeded
		if err := m.outcome(s.Worker, n); err != nil {
			j.State = store.JobFailed
			f, ok := errors.AsType[*errdefs.Failure](err)
			require.True(m.t, ok)
			j.Error = &f.JobError
		} else {
			m.live[s.Worker] = store.WorkerReady
		}
		close(j.done)
	})
	return j.Job, nil
}

func (m *machine) Wait(ctx context.Context, id string) (store.Job, error) {
	m.mu.Lock()
	j := m.jobs[id]
	m.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return j.Job, nil
}

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *machine) submitted() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.begun, " ")
}

// entry is an autostart entry that is tried again after 1 s to 4 s.
func entry(name string, after ...string) catalog.Entry {
	second, most := time.Second, 4*time.Second
	return catalog.Entry{
		Name: name, Command: []string{"/bin/x", "{{.Port}}"}, Autostart: true, StartAfter: after,
		Restart: catalog.RestartEntry{Backoff: &second, MaxBackoff: &most},
	}
}

// in runs a test in a bubble of its own clock, with services that run.
func in(t *testing.T, entries []catalog.Entry, test func(*testing.T, *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, err := catalog.New(entries, "/usr/bin/hive")
		require.NoError(t, err)
		m := &machine{
			t: t, run: run.New(), catalog: c, live: map[string]store.WorkerState{}, stopped: map[string]bool{}, preflight: map[string]error{},
			outcome: func(string, int) error { return nil }, load: time.Second, jobs: map[string]*job{},
		}
		log := logrus.New()
		log.SetOutput(io.Writer(&m.log))
		m.s = services.New(services.Options{
			Run: m.run, Types: func() *catalog.Catalog { return m.catalog }, Parallel: func() int { return 2 },
			Check: func(s operation.Spawn) (operation.Spawn, error) { s.Name = s.Worker; return s, nil }, Workers: m, Jobs: m, Log: log,
		})
		m.run.Go(m.s.Run)
		defer func() { m.run.Close(); m.run.Wait() }()
		test(t, m)
	})
}

// after lets time pass, and everything that is due happen.
func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

func states(list []services.Wanted) string {
	var texts []string
	for _, v := range list {
		texts = append(texts, v.Name+" "+string(v.State))
	}
	return strings.Join(texts, ", ")
}

func fail(code, text string) error { return errdefs.Fail(code, "%s", text) }

func TestStartsInTheOrderOfTheFileSomeAtOnce(t *testing.T) {
	in(t, []catalog.Entry{entry("d"), entry("c"), entry("b"), entry("a")}, func(t *testing.T, m *machine) {
		m.set(func() { m.stopped["b"] = true }) // on request
		m.s.Begin()
		synctest.Wait()
		require.Equal(t, "d c", m.submitted(), "the others wait for their turn")
		require.Equal(t, "d starting, c starting, a queued", states(m.s.Wanted()), "b was stopped, so it is not wanted")
		require.Contains(t, m.s.Wanted()[2].Reason, "2 others are being started")
		require.Equal(t, "job-1", m.s.Wanted()[0].JobID)
		after(time.Second)
		require.Equal(t, "d c a", m.submitted())
		after(time.Second)
		require.Empty(t, m.s.Wanted(), "what has come up is the supervisor's")
		require.Equal(t, 2, m.maxGoing)
		// One that ends later is restarted by its policy, not by this.
		m.set(func() { delete(m.live, "d") })
		after(time.Hour)
		require.Equal(t, "d c a", m.submitted())
	})
}

func TestAFailedStartIsTriedAgainWithoutEnd(t *testing.T) {
	in(t, []catalog.Entry{entry("web")}, func(t *testing.T, m *machine) {
		m.load = 0
		m.outcome = func(_ string, n int) error {
			if n <= 20 {
				return fail(errdefs.CodePortUnavailable, "port 5800 is held by nc")
			}
			return nil
		}
		begun := time.Now()
		m.s.Begin()
		synctest.Wait()
		v := m.s.Wanted()[0]
		require.Equal(t, services.Backoff, v.State)
		require.Equal(t, "port 5800 is held by nc", v.Reason)
		require.Equal(t, 1, v.Failed)
		require.WithinRange(t, v.NextTry, begun.Add(800*time.Millisecond), begun.Add(time.Second))
		after(time.Minute)
		v = m.s.Wanted()[0]
		require.GreaterOrEqual(t, v.Failed, 15, "after 4 s at most")
		require.LessOrEqual(t, v.Failed, 20)
		require.LessOrEqual(t, time.Until(v.NextTry), 4*time.Second)
		after(30 * time.Second)
		require.Empty(t, m.s.Wanted())
		require.Equal(t, store.WorkerReady, m.live["web"])
		require.Equal(t, 1, strings.Count(m.log.String(), "port 5800 is held by nc"), "said once: %s", m.log.String())
	})
}

func TestWhatIsNotTriedAgain(t *testing.T) {
	never := entry("never")
	never.Restart.Policy = "never"
	in(t, []catalog.Entry{never, entry("ran")}, func(t *testing.T, m *machine) {
		m.outcome = func(name string, _ int) error {
			if name == "ran" {
				return fail(errdefs.CodeExitedEarly, "given up after 5 new starts")
			}
			return fail(errdefs.CodeProgramNotFound, "/bin/x does not exist")
		}
		m.s.Begin()
		after(time.Hour)
		require.Equal(t, "never ran", m.submitted())
		require.Equal(t, "never failed, ran failed", states(m.s.Wanted()))
		require.Equal(t, "/bin/x does not exist", m.s.Wanted()[0].Reason)
		// A reload may have mended it.
		m.set(func() { m.outcome = func(string, int) error { return nil } })
		m.s.Begin()
		after(time.Minute)
		require.Empty(t, m.s.Wanted())
	})
}

// A file that stays missing must not fill the list of jobs.
func TestWhatFailsAtOnceCostsOneJob(t *testing.T) {
	in(t, []catalog.Entry{entry("web")}, func(t *testing.T, m *machine) {
		missing := fail(errdefs.CodeProgramNotFound, "/mnt/x does not exist")
		m.preflight["web"] = missing
		m.outcome = func(string, int) error { return m.preflight["web"] }
		m.s.Begin()
		after(time.Hour)
		require.Equal(t, "web", m.submitted())
		v := m.s.Wanted()[0]
		require.Equal(t, services.Backoff, v.State)
		require.Greater(t, v.Failed, 500)
		m.set(func() { m.preflight["web"] = nil })
		after(6 * time.Second)
		require.Empty(t, m.s.Wanted())
		require.Equal(t, "web web", m.submitted())
	})
}

// A start that waits for a port is shown like one that has failed, with who has the port.
func TestAStartThatWaitsForAPort(t *testing.T) {
	in(t, []catalog.Entry{entry("web")}, func(t *testing.T, m *machine) {
		m.s.Begin()
		after(10 * time.Millisecond)
		require.Equal(t, services.Starting, m.s.Wanted()[0].State)
		job := m.s.Wanted()[0].JobID
		m.set(func() { m.waiting = map[string]string{job: "port 8080 is held by curl"} })
		require.Equal(t, []string{"backoff", "port 8080 is held by curl"}, []string{string(m.s.Wanted()[0].State), m.s.Wanted()[0].Reason})
		m.set(func() { m.waiting = nil })
		require.Equal(t, services.Starting, m.s.Wanted()[0].State)
		require.Empty(t, m.s.Wanted()[0].Reason)
		after(10 * time.Second)
		require.Empty(t, m.s.Wanted())
	})
}

func TestStartAfter(t *testing.T) {
	in(t, []catalog.Entry{entry("web", "db", "cache"), entry("db"), entry("cache"), entry("last")}, func(t *testing.T, m *machine) {
		m.outcome = func(name string, n int) error {
			if name == "db" && n == 1 {
				return fail(errdefs.CodeExecFailed, "no disk")
			}
			return nil
		}
		m.s.Begin()
		after(500 * time.Millisecond)
		require.Equal(t, "db cache", m.submitted())
		require.Equal(t, "it starts after db (starting) and cache (starting)", m.s.Wanted()[0].Reason)
		after(time.Second)
		require.Equal(t, "it starts after db (backoff)", m.s.Wanted()[0].Reason)
		require.Equal(t, "db cache last", m.submitted(), "who waits for another takes no turn")
		after(10 * time.Second)
		require.Equal(t, "db cache last db web", m.submitted())
		require.Empty(t, m.s.Wanted())
	})
	// What is not to run is not waited for, and one that is not ready is.
	in(t, []catalog.Entry{entry("web", "db"), entry("db")}, func(t *testing.T, m *machine) {
		m.set(func() { m.stopped["db"] = true })
		m.s.Begin()
		after(2 * time.Second)
		require.Equal(t, store.WorkerReady, m.live["web"])
	})
	in(t, []catalog.Entry{entry("web", "db"), entry("db")}, func(t *testing.T, m *machine) {
		m.set(func() { m.live["db"] = store.WorkerUnhealthy })
		m.s.Begin()
		after(time.Minute)
		require.Equal(t, "it starts after db (unhealthy)", m.s.Wanted()[0].Reason)
		m.set(func() { m.live["db"] = store.WorkerReady })
		after(2 * time.Second)
		require.Empty(t, m.s.Wanted())
	})
}

func TestWhatOthersDo(t *testing.T) {
	in(t, []catalog.Entry{entry("a"), entry("b"), entry("c")}, func(t *testing.T, m *machine) {
		m.outcome = func(string, int) error { return fail(errdefs.CodePortUnavailable, "held") }
		m.s.Begin()
		after(1500 * time.Millisecond)
		// Started by hand meanwhile; taken out of the configuration.
		m.set(func() { m.live["a"] = store.WorkerReady })
		c, err := catalog.New([]catalog.Entry{entry("a"), entry("b")}, "/usr/bin/hive")
		require.NoError(t, err)
		m.set(func() { m.catalog = c })
		m.s.Begin()
		after(10 * time.Second)
		require.Equal(t, "b", m.s.Wanted()[0].Name)
		require.Len(t, m.s.Wanted(), 1)
	})
	// A start that was cancelled is not made again: that is what was asked for.
	in(t, []catalog.Entry{entry("a")}, func(t *testing.T, m *machine) {
		m.outcome = func(string, int) error { return fail(errdefs.CodeCancelled, "on request") }
		m.s.Begin()
		after(time.Hour)
		require.Equal(t, "a", m.submitted())
		require.Empty(t, m.s.Wanted())
	})
}

func TestBeginTriesAtOnceWhatWaits(t *testing.T) {
	slow := entry("web")
	day := 24 * time.Hour
	slow.Restart.Backoff, slow.Restart.MaxBackoff = &day, &day
	in(t, []catalog.Entry{slow}, func(t *testing.T, m *machine) {
		m.outcome = func(_ string, n int) error {
			if n == 1 {
				return fail(errdefs.CodePortUnavailable, "held")
			}
			return nil
		}
		m.s.Begin()
		after(time.Hour)
		require.Equal(t, "web backoff", states(m.s.Wanted()))
		m.s.Begin()
		m.s.Begin()
		after(2 * time.Second)
		require.Equal(t, "web web", m.submitted())
		require.Empty(t, m.s.Wanted())
	})
}

// One whose file system does not answer holds up no other.
func TestOneThatHangsDoesNotHoldUpTheOthers(t *testing.T) {
	in(t, []catalog.Entry{entry("hangs"), entry("web")}, func(t *testing.T, m *machine) {
		m.set(func() { m.stopped["web"] = true })
		m.outcome = func(name string, _ int) error {
			if name == "hangs" {
				return fail(errdefs.CodeProgramNotFound, "/mnt/x does not exist")
			}
			return nil
		}
		m.s.Begin()
		after(10 * time.Second)
		require.Equal(t, "hangs starting", states(m.s.Wanted()))
		m.set(func() { m.stopped["web"] = false })
		m.s.Begin()
		after(2 * time.Second)
		require.Equal(t, store.WorkerReady, m.live["web"])
	})
}
