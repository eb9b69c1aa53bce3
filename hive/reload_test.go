package hive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// with is an entry of the reference worker with something changed.
func with(name string, edit func(*catalog.Entry), args ...string) catalog.Entry {
	e := fault(name, args...)
	if edit != nil {
		edit(&e)
	}
	return e
}

// next is what a reload of these entries would bring, the rest being as it is.
func (r *rig) next(entries ...catalog.Entry) hive.ReloadConfig {
	r.Helper()
	self, err := os.Executable()
	require.NoError(r, err)
	types, err := catalog.New(entries, self)
	require.NoError(r, err)
	return hive.ReloadConfig{Catalog: types}
}

func (r *rig) reload(entries ...catalog.Entry) hive.Plan {
	r.Helper()
	plan, err := r.h.Reload(context.Background(), r.next(entries...), false)
	require.NoError(r, err)
	return plan
}

// story is the messages of a worker's events.
func (r *rig) story(id string) string {
	r.Helper()
	events, err := r.h.WorkerEvents(id, 0, 1000)
	require.NoError(r, err)
	var lines []string
	for _, ev := range events {
		lines = append(lines, ev.Message)
	}
	return strings.Join(lines, "\n")
}

func planned(plan hive.Plan) (actions []string) {
	for _, w := range plan.Workers {
		actions = append(actions, fmt.Sprintf("%s %s: %s", w.Type, w.Action, w.Reason))
	}
	return actions
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, with("web", nil), with("old", nil))
	r.open()
	res := r.spawn("web")
	next := r.next(with("web", func(e *catalog.Entry) { e.Reload = "restart" }, "--model", "two"), with("new", func(e *catalog.Entry) { e.Autostart = true }))
	next.Settings.Jobs.MaxQueued = 7
	next.Applied, next.NeedStart = []string{"log_level"}, []string{"listen"}
	plan, err := r.h.Reload(t.Context(), next, true)
	require.NoError(t, err)
	require.Equal(t, hive.Plan{
		DryRun: true,
		Types: []hive.TypeChange{
			{Name: "new", Change: hive.TypeAdded, Keys: []string{}},
			{Name: "old", Change: hive.TypeRemoved, Keys: []string{}},
			{Name: "web", Change: hive.TypeChanged, Keys: []string{"command", "reload"}},
		},
		Workers: []hive.WorkerChange{{
			WorkerID: res.WorkerID, Type: "web", Port: res.Port, Action: hive.ActionRestart, Reason: "changed in its type web: command",
		}},
		Autostart: []string{"new"}, Applied: []string{"jobs.max_queued", "log_level"}, NeedStart: []string{"listen"},
	}, plan)
	require.False(t, r.worker(res.WorkerID).Stale)
	require.NotContains(t, r.story(res.WorkerID), "stale")
	_, err = r.h.Decode([]byte(`{"operation": "worker_spawn", "worker": "new"}`))
	require.ErrorIs(t, err, errdefs.ErrUnknownWorkerType)
	r.spawn("old")
	require.Len(t, r.h.Workers(), 2, "nothing was started or restarted")
}

func TestTypesAreAddedChangedAndRemoved(t *testing.T) {
	t.Parallel()
	first := []catalog.Entry{with("web", nil), with("gone", nil)}
	r := newRig(t, 4, first...)
	r.open()
	web, gone := r.spawn("web"), r.spawn("gone")

	plan := r.reload(with("web", func(e *catalog.Entry) { e.Env = []string{"TOKEN=secret"} }), with("new", nil))
	require.Equal(t, []string{"web stale: changed in its type web: env", "gone stale: its type gone is no longer configured"}, planned(plan))
	for _, res := range []result{web, gone} {
		rec := r.worker(res.WorkerID)
		require.True(t, rec.Stale)
		require.Equal(t, store.WorkerReady, rec.State)
		require.Equal(t, res.PID, rec.Identity.PID, "it goes on")
	}
	require.Contains(t, r.story(web.WorkerID), web.WorkerID+" is stale: changed in its type web: env")
	require.NotContains(t, r.story(web.WorkerID), "secret")
	r.stopWorker(r.spawn("new").WorkerID)

	t.Run("what is not configured any more cannot be started again", func(t *testing.T) {
		job := r.do(map[string]any{"operation": "worker_restart", "worker_id": gone.WorkerID})
		require.Equal(t, store.JobFailed, job.State)
		require.Equal(t, errdefs.CodeProgramNotFound, job.Error.Code)
		require.Contains(t, job.Error.Message, `"gone" is no longer configured`)
		require.Equal(t, gone.PID, r.worker(gone.WorkerID).Identity.PID, "and is not ended for it")
	})

	plan = r.reload(first...)
	require.Equal(t, []string{"web current: its type is what it was started as", "gone current: its type is what it was started as"}, planned(plan))
	require.False(t, r.worker(web.WorkerID).Stale)
	require.False(t, r.worker(gone.WorkerID).Stale)
	require.Contains(t, r.story(web.WorkerID), web.WorkerID+" is not stale any more")
	require.Empty(t, r.reload(first...).Workers)
}

func TestAStaleWorkerIsRestartedOnRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, with("web", nil))
	r.open()
	res := r.spawn("web")
	same := r.do(map[string]any{"operation": "worker_restart", "worker_id": res.WorkerID, "if_stale": true})
	require.Equal(t, store.JobSucceeded, same.State)
	require.Equal(t, res.PID, r.worker(res.WorkerID).Identity.PID, "it was not stale")

	r.reload(catalog.Entry{Name: "web", Command: []string{"/nonexistent/web", "{{.Port}}"}})
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": res.WorkerID})
	require.Equal(t, errdefs.CodeProgramNotFound, job.Error.Code)
	require.Equal(t, res.PID, r.worker(res.WorkerID).Identity.PID, "a mistake in the file does not cost the worker that runs")

	r.reload(with("web", nil, "--model", "two"))
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": res.WorkerID, "if_stale": true})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	rec := r.worker(res.WorkerID)
	require.False(t, rec.Stale)
	require.NotEqual(t, res.PID, rec.Identity.PID)
	require.Equal(t, res.Port, rec.Port)
	require.Contains(t, rec.Spec.Argv, "two")

	_, err := r.h.Decode([]byte(`{"operation": "worker_restart", "worker_id": "x", "if_stale": "yes"}`))
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.ErrorContains(t, err, "if_stale: is \"yes\"; expected true or false")

	r.stopWorker(res.WorkerID)
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": res.WorkerID, "if_stale": true})
	require.Equal(t, errdefs.CodeNotFound, job.Error.Code, "what was stopped stays so")
}

func TestReloadRestart(t *testing.T) {
	t.Parallel()
	edit := func(e *catalog.Entry) { e.Reload = "restart" }
	r := newRig(t, 4, with("web", edit), with("kept", nil))
	r.open()
	workers := []result{r.spawn("web"), r.spawn("web"), r.spawn("web"), r.spawn("kept")}
	plan := r.reload(with("web", edit, "--model", "two"), with("kept", nil))
	require.Len(t, plan.Workers, 3)
	for _, res := range workers[:3] {
		r.eventually("it is restarted", func() bool {
			rec := r.worker(res.WorkerID)
			return rec.State == store.WorkerReady && rec.Restarts == 1 && !rec.Stale
		})
		rec := r.worker(res.WorkerID)
		require.Equal(t, res.Port, rec.Port)
		require.Contains(t, rec.Spec.Argv, "two")
	}
	require.Equal(t, workers[3].PID, r.worker(workers[3].WorkerID).Identity.PID)

	plan = r.reload(with("web", edit, "--model", "two"), with("kept", nil, "--model", "two"))
	require.Equal(t, []string{"kept stale: changed in its type kept: command"}, planned(plan))
	plan = r.reload(with("web", edit, "--model", "two"), with("kept", edit, "--model", "two"))
	require.Equal(t, []string{"kept restart: changed in its type kept: command"}, planned(plan), "it was stale before")
	r.eventually("it is restarted", func() bool { return !r.worker(workers[3].WorkerID).Stale })
}

// A worker that falls again and again is mended by the file: its next start is
// by the new type.
func TestAWorkerInBackoffTakesTheNewCommand(t *testing.T) {
	t.Parallel()
	edit := func(backoff time.Duration) func(*catalog.Entry) {
		return func(e *catalog.Entry) {
			e.Restart = catalog.RestartEntry{Policy: "on-failure", Backoff: &backoff, MaxBackoff: &backoff, Max: ref(1000)}
		}
	}
	r := newRig(t, 2, with("web", edit(300*time.Millisecond), "--exit-code", "3"))
	r.open()
	r.submit(map[string]any{"operation": "worker_spawn", "worker": "web"})
	var id string
	r.eventually("it waits for its next start", func() bool {
		all := r.h.Workers()
		if len(all) == 1 && all[0].State == store.WorkerBackoff {
			id = all[0].WorkerID
		}
		return id != ""
	})
	port := r.worker(id).Port
	r.reload(with("web", edit(300*time.Millisecond)))
	r.eventually("it is ready", func() bool { return r.worker(id).State == store.WorkerReady })
	rec := r.worker(id)
	require.Equal(t, port, rec.Port)
	require.False(t, rec.Stale)

	r.reload() // and its type goes
	kill9(t, rec.Identity.PID)
	r.eventually("it is not started again", func() bool { return r.worker(id).State == store.WorkerFailed })
	require.False(t, r.worker(id).Stale, "it has ended")
}

func TestAnAutostartEntryIsAdded(t *testing.T) {
	t.Parallel()
	auto := with("web", func(e *catalog.Entry) { e.Autostart = true })
	r := newRig(t, 3)
	r.open()
	require.Equal(t, []string{"web"}, r.reload(auto).Autostart)
	r.eventually("it is started", func() bool {
		rec, err := r.h.Worker("web")
		return err == nil && rec.State == store.WorkerReady
	})
	require.Empty(t, r.reload(auto).Autostart)
	r.stopWorker("web")
	require.Empty(t, r.reload(auto).Autostart, "what was stopped on request stays so")
	require.Len(t, r.h.Workers(), 1)
}

// Stale is in the record: it survives hive. What changed while hive was away is
// found by the record, but for env, which is not in it.
func TestStaleOverARestart(t *testing.T) {
	t.Parallel()
	secret := func(e *catalog.Entry) { e.Env = []string{"TOKEN=secret"} }
	r := newRig(t, 5, with("env", nil), with("arg", nil), with("same", nil), with("gone", nil), with("auto", func(e *catalog.Entry) { e.Reload = "restart" }))
	r.open()
	env, arg, same, gone, auto := r.spawn("env"), r.spawn("arg"), r.spawn("same"), r.spawn("gone"), r.spawn("auto")
	after := []catalog.Entry{with("env", secret), with("arg", nil), with("same", nil), with("gone", nil), with("auto", func(e *catalog.Entry) { e.Reload = "restart" })}
	r.reload(after...)
	require.True(t, r.worker(env.WorkerID).Stale)
	r.close()

	r.types(with("env", secret), with("arg", nil, "--model", "two"), with("same", secret), with("auto", func(e *catalog.Entry) { e.Reload = "restart" }, "--model", "two"))
	r.open()
	stale := func(res result) func() bool { return func() bool { return r.worker(res.WorkerID).Stale } }
	r.eventually("its command has changed", stale(arg))
	r.eventually("its type has gone", stale(gone))
	r.eventually("its command has changed", stale(auto))
	require.True(t, r.worker(env.WorkerID).Stale, "it was before")
	require.Equal(t, []string{"env"}, r.worker(env.WorkerID).Changed)
	require.False(t, r.worker(same.WorkerID).Stale, "env is not in the record")
	require.Equal(t, auto.PID, r.worker(auto.WorkerID).Identity.PID, "a start of hive restarts nobody")

	// Back to what it was: the record tells for the command, and not for env.
	r.reload(with("env", nil), with("arg", nil), with("same", secret), with("gone", nil), with("auto", func(e *catalog.Entry) { e.Reload = "restart" }))
	require.True(t, r.worker(env.WorkerID).Stale)
	require.False(t, r.worker(arg.WorkerID).Stale)
	require.False(t, r.worker(gone.WorkerID).Stale)
	require.False(t, r.worker(same.WorkerID).Stale)
	// What was adopted as it was is compared as a whole from then on.
	r.reload(with("same", nil))
	require.Equal(t, []string{"env"}, r.worker(same.WorkerID).Changed)
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": same.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.False(t, r.worker(same.WorkerID).Stale)
}

func TestAFixedPortIsKeptFromTheReloadOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	fixed := with("web", func(e *catalog.Entry) { e.Port = int(r.port(0)) })
	plan := r.reload(fixed)
	require.Equal(t, r.port(1), r.spawn("cpu").Port, "the first is promised to web")
	require.Equal(t, r.port(0), r.spawn("web").Port)
	require.Empty(t, plan.Workers)
	plan = r.reload(with("web", nil))
	require.Equal(t, []hive.TypeChange{{Name: "web", Change: hive.TypeChanged, Keys: []string{"port"}}}, plan.Types)
	require.Empty(t, plan.Workers, "a worker keeps its port over every start")
}

// A worker keeps the ports it has; a type that wants more cannot render for it.
func TestMorePortsAreForNewWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, with("web", nil))
	r.open()
	res := r.spawn("web")
	plan := r.reload(with("web", func(e *catalog.Entry) { e.Ports = 2 }, "--model", "{{len .Ports}}"))
	require.Equal(t, []string{"command", "ports"}, plan.Types[0].Keys)
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": res.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.Contains(t, r.worker(res.WorkerID).Spec.Argv, "1")
	require.Contains(t, r.worker(r.spawn("web").WorkerID).Spec.Argv, "2")
}

// The worker of the self-test is of no entry, whatever name it has.
func TestTheSelfTestsWorkerIsNotStale(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, with("cpu", func(e *catalog.Entry) { e.Reload = "restart" }, "--model", "mine"))
	r.open()
	job := r.do(map[string]any{"operation": "hive_check"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.NotContains(t, r.story(job.WorkerID), "stale")
	require.Contains(t, r.story(job.WorkerID), "is ready")
}

func TestSettingsAreSwapped(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, with("mute", nil, "--no-listen"))
	r.open()
	next := r.next(with("mute", nil, "--no-listen"))
	next.Settings.Jobs.MaxQueued = 1
	plan, err := r.h.Reload(t.Context(), next, false)
	require.NoError(t, err)
	require.Equal(t, []string{"jobs.max_queued"}, plan.Applied)
	require.Empty(t, plan.Types)
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "mute"})
	raw := json.RawMessage(`{"operation": "hive_check"}`)
	op, err := r.h.Decode(raw)
	require.NoError(t, err)
	_, err = r.h.Submit(t.Context(), op, raw)
	require.ErrorIs(t, err, errdefs.ErrQueueFull)
	_, err = r.h.Cancel(t.Context(), access.Hive(), job.JobID)
	require.NoError(t, err)
}

func TestReloadWhenItCannotBe(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	h, err := hive.Open(t.Context(), r.cfg)
	require.NoError(t, err)
	_, err = h.Reload(t.Context(), r.next(), false)
	require.ErrorIs(t, err, errdefs.ErrRecovering)
	_, err = h.Reload(t.Context(), hive.ReloadConfig{}, false)
	require.ErrorContains(t, err, "no catalog")
	require.NoError(t, h.Close())
	_, err = h.Reload(t.Context(), r.next(), false)
	require.ErrorIs(t, err, errdefs.ErrClosed)
}

// A start is by the old types or by the new ones, never by half of each: model
// and the variable are of one generation. In the end every worker that is not of
// the last one is stale.
func TestReloadsAgainstSpawns(t *testing.T) {
	t.Parallel()
	const generations, spawns = 12, 16
	dir := t.TempDir()
	entry := func(g int) catalog.Entry {
		return with("web", func(e *catalog.Entry) {
			e.Env = []string{fmt.Sprintf("GENERATION=%d", g)}
			e.BeforeStart = []string{"sh", "-c", fmt.Sprintf("echo %d $GENERATION > %s/{{.WorkerID}}", g, dir)}
		}, "--model", fmt.Sprintf("g%d", g))
	}
	r := newRig(t, spawns+2, entry(0))
	r.open()
	var wg sync.WaitGroup
	ids := make([]string, spawns)
	for i := range spawns {
		wg.Go(func() { ids[i] = r.spawn("web").WorkerID })
	}
	for half := range 2 {
		wg.Go(func() {
			for g := 1 + half; g < generations; g += 2 {
				r.reload(entry(g))
			}
		})
	}
	wg.Wait()
	r.reload(entry(generations))
	last := r.reload(entry(generations))
	require.Empty(t, last.Types)
	for _, id := range ids {
		rec := r.worker(id)
		line, err := os.ReadFile(filepath.Join(dir, id))
		require.NoError(t, err)
		var of, given int
		_, err = fmt.Sscan(string(line), &of, &given)
		require.NoError(t, err)
		require.Equal(t, of, given)
		require.Contains(t, rec.Spec.Argv, fmt.Sprintf("g%d", of))
		r.eventually("it is stale", func() bool { return r.worker(id).Stale == (of != generations) })
	}
}
