package hive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// gathered is one scrape: the value of each series, of a histogram its count.
type gathered map[string]float64

func (r *rig) gather() gathered {
	r.Helper()
	registry := prometheus.NewPedanticRegistry() // also holds what is collected against Describe
	require.NoError(r, registry.Register(r.h.Collector()))
	families, err := registry.Gather()
	require.NoError(r, err)
	all := gathered{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := strings.Join(append([]string{strings.TrimPrefix(f.GetName(), "hive_")}, labels...), " ")
			all[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// counted are the series of a metric that are not 0.
func (g gathered) counted(name string) gathered {
	some := gathered{}
	for k, v := range g {
		if rest, ok := strings.CutPrefix(k, name+" "); ok && v != 0 {
			some[rest] = v
		}
	}
	return some
}

func TestMetricsBeforeAnythingHappened(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, fault("serve"))
	r.open()
	g := r.gather()
	require.InDelta(t, 3, g["ports state=free"], 0)
	for _, series := range []string{
		"ports state=foreign", "leases kind=ttl state=quarantined", "workers state=unhealthy type=serve", "jobs state=queued",
		"jobs_ended_total operation=worker_spawn state=failed", "worker_restarts_total reason=liveness type=serve",
		"spawn_duration_seconds until=ready", "audit_findings code=foreign_listener", "store_disk_short",
	} {
		v, there := g[series]
		require.True(t, there, "%s is there from the start: what is not there cannot be alarmed on", series)
		require.Zero(t, v, series)
	}
	require.InDelta(t, 1, g["recovery_duration_seconds"], 0)

	r.spawn("serve")
	g = r.gather()
	require.Positive(t, g["store_commits_total"])
	require.InDelta(t, g["store_commits_total"], g["store_commit_size"], 0)
	require.InDelta(t, g["store_commits_total"], g["store_commit_duration_seconds"], 0)
}

func TestJobsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("serve"), fault("slow", "--unhealthy"))
	r.open()
	w := r.spawn("serve")
	slow := r.submit(map[string]any{"operation": "worker_spawn", "worker": "slow"})
	r.eventually("it runs", func() bool { return r.gather()["jobs state=running"] == 1 })
	_, err := r.h.Cancel(t.Context(), access.Hive(), slow.JobID)
	require.NoError(t, err)
	r.do(map[string]any{"operation": "worker_stop", "worker_id": "nobody"})
	r.do(map[string]any{"operation": "worker_process_list"})
	r.do(map[string]any{"operation": "infer"})
	r.do(map[string]any{"operation": "rhai_script_made_up"})
	want := gathered{
		"operation=worker_spawn state=succeeded": 1, "operation=worker_spawn state=cancelled": 1, "operation=worker_stop state=failed": 1,
		"operation=worker_process_list state=succeeded": 1, "operation=other state=failed": 2,
	}
	g := r.gather()
	require.Equal(t, want, g.counted("jobs_ended_total"))
	require.Zero(t, g["jobs state=running"])
	require.Equal(t, gathered{"until=ready": 1, "until=started": 2}, g.counted("spawn_duration_seconds"))
	require.Equal(t, gathered{"kind=worker state=held": 1}, g.counted("leases"))
	require.InDelta(t, 1, g["ports state=leased"], 0)

	// A hive that has only adopted a worker knows nothing of how long its start took.
	r.close()
	r.open()
	r.eventually("it is ready", func() bool { return r.worker(w.WorkerID).State == store.WorkerReady })
	g = r.gather()
	require.Empty(t, g.counted("spawn_duration_seconds"))
	require.Empty(t, g.counted("jobs_ended_total"))
	require.Empty(t, g.counted("worker_restarts_total"))
}

func TestJobsThatRecoveryEndsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	r.close()
	now := time.Now().UTC()
	r.edit(func(tx *store.Tx) error {
		return tx.PutJob(store.Job{
			JobID: "job-1", Operation: "hive_check", Request: []byte(`{"operation":"hive_check"}`),
			State: store.JobRunning, CreatedAt: now, StartedAt: &now,
		})
	})
	r.open()
	require.Equal(t, gathered{"operation=hive_check state=failed": 1}, r.gather().counted("jobs_ended_total"))
}

// restarts are the numbers of new starts by reason.
func (r *rig) restarts(typ string) gathered {
	r.Helper()
	by := gathered{}
	for k, v := range r.gather().counted("worker_restarts_total") {
		reason, ok := strings.CutSuffix(strings.TrimPrefix(k, "reason="), " type="+typ)
		require.True(r, ok, k)
		by[reason] = v
	}
	return by
}

func TestRestartsAreCountedByReason(t *testing.T) {
	t.Parallel()
	entry := func(edit func(*catalog.Entry), args ...string) catalog.Entry {
		return restarting(with("serve", edit, args...), "on-failure", 5)
	}
	r := newRig(t, 2, entry(nil))
	r.open()
	w := r.spawn("serve")
	restarted := func(n int) {
		t.Helper()
		r.eventually("it is ready again", func() bool {
			rec := r.worker(w.WorkerID)
			return rec.Restarts == n && rec.State == store.WorkerReady
		})
	}
	kill9(t, w.PID)
	restarted(1)
	require.Equal(t, gathered{"exited": 1}, r.restarts("serve"))
	require.Equal(t, gathered{"until=ready": 2, "until=started": 2}, r.gather().counted("spawn_duration_seconds"))

	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	r.stopWorker(w.WorkerID)
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID}) // of one that has ended
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	restarted(3)
	require.Equal(t, gathered{"exited": 1, "requested": 2}, r.restarts("serve"))

	r.reload(entry(func(e *catalog.Entry) { e.Reload = "restart" }, "--model", "two"))
	restarted(4)
	require.Equal(t, gathered{"exited": 1, "requested": 2, "reload": 1}, r.restarts("serve"))

	pid := r.worker(w.WorkerID).Identity.PID
	r.close()
	kill9(t, pid)
	r.eventually("it is dead", func() bool { return !alive(pid) })
	r.open()
	restarted(5)
	require.Equal(t, gathered{"recovery": 1}, r.restarts("serve"))
}

func TestRestartsOfTheUnhealthyAreCounted(t *testing.T) {
	t.Parallel()
	sick := filepath.Join(t.TempDir(), "sick")
	live := portUserEntry(t, "serve", "--sick", sick)
	live.Live = catalog.LiveEntry{Path: ref("/live"), Interval: ref(500 * time.Millisecond), Failures: 2, Action: "restart"}
	live.Restart.Backoff, live.Restart.MaxBackoff = ref(10*time.Millisecond), ref(10*time.Millisecond)
	slow := restarting(fault("slow", "--unhealthy"), "on-failure", 1)
	slow.Ready.Timeout = ref(100 * time.Millisecond)
	r := newRig(t, 2, live, slow)
	r.open()
	w := r.spawn("serve")
	require.NoError(t, os.WriteFile(sick, []byte(fmt.Sprint(w.PID)), 0o600))
	r.eventually("it is ready again", func() bool {
		rec := r.worker(w.WorkerID)
		return rec.Restarts == 1 && rec.State == store.WorkerReady
	})
	require.Equal(t, gathered{"liveness": 1}, r.restarts("serve"))

	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "slow"})
	require.Equal(t, store.JobFailed, job.State)
	require.Equal(t, gathered{"reason=liveness type=serve": 1, "reason=not_ready type=slow": 1}, r.gather().counted("worker_restarts_total"))
}
