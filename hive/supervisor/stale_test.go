package supervisor_test

import (
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// reload makes these the worker types and has all workers compared with them.
func (r *rig) reload(entries ...catalog.Entry) {
	r.Helper()
	r.setTypes(entries...)
	var ids []string
	for _, w := range r.s.Live() {
		ids = append(ids, w.WorkerID)
	}
	r.s.Compare(r.bounded(), ids)
}

// A worker that is not as its type says is stale, with the keys that have changed, until the
// type is as it was.
func TestStale(t *testing.T) {
	t.Parallel()
	is := serving("serve")
	other := serving("serve", "--model", "another")
	other.Env = []string{"TOKEN=x"}
	other.Stop.Grace = ref(time.Second)
	r := newRig(t, 1, is)
	w := r.spawn("serve")
	r.reload(other)
	stale := r.worker(w.WorkerID)
	require.True(t, stale.Stale)
	require.Equal(t, []string{"command", "env", "stop.grace"}, stale.Changed)
	require.Equal(t, store.WorkerReady, stale.State)
	require.Equal(t, w.Identity, stale.Identity)
	stored, err := r.stored(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, stale, stored)
	require.Contains(t, r.messages(w.WorkerID), w.WorkerID+" is stale: changed in its type serve: command, env, stop.grace")
	r.reload(is)
	require.Equal(t, w, r.worker(w.WorkerID))
	require.Contains(t, r.messages(w.WorkerID), w.WorkerID+" is not stale any more")
	r.reload()
	gone := r.worker(w.WorkerID)
	require.True(t, gone.Stale)
	require.Empty(t, gone.Changed, "its type is no longer configured")
	r.stop(w.WorkerID)
	require.False(t, r.worker(w.WorkerID).Stale, "of a process that is gone")
	require.Empty(t, r.stale, "nobody asked for a restart")
}

// What a reload would do can be asked before it is done.
func TestChangesArePreviewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, serving("serve"), serving("same"), serving("stopped"))
	w, same := r.spawn("serve"), r.spawn("same")
	r.stop(r.spawn("stopped").WorkerID)
	next := serving("serve", "--model", "another")
	next.Reload = "restart"
	current := r.types.Load()
	r.setTypes(next, serving("same"))
	changes := r.s.Changes(t.Context(), r.types.Load())
	r.types.Store(current)
	require.Len(t, changes, 2, "of the living")
	require.Equal(t, w.WorkerID, changes[0].Worker.WorkerID)
	require.True(t, changes[0].Stale)
	require.True(t, changes[0].Restart)
	require.False(t, changes[0].Recorded)
	require.Equal(t, "changed in its type serve: command", changes[0].Why)
	require.Equal(t, same.WorkerID, changes[1].Worker.WorkerID)
	require.False(t, changes[1].Stale)
	require.True(t, changes[1].Recorded)
	require.Equal(t, w, r.worker(w.WorkerID), "nothing is done")
}

// With reload: restart a job is asked to restart the worker; not for one that hive has found
// when it was started, nor while workers are being stopped.
func TestReloadRestart(t *testing.T) {
	t.Parallel()
	entry := func(model string) catalog.Entry {
		e := serving("serve", "--model", model)
		e.Reload = "restart"
		return e
	}
	r := newRig(t, 1, entry("one"))
	w := r.spawn("serve")
	asked := func() (workerID string) {
		select {
		case workerID = <-r.stale:
		case <-r.bounded().Done():
		}
		return workerID
	}
	r.reload(entry("two"))
	require.Equal(t, w.WorkerID, asked())
	r.close()
	r.setTypes(entry("three"))
	r.open()
	// As hive does before it takes reloads: by then each has been compared for the first time.
	r.s.AwaitFirstProbes(r.bounded())
	require.True(t, r.worker(w.WorkerID).Stale)
	require.Empty(t, r.stale, "a start of hive leaves workers alone")
	r.reload(entry("four"))
	require.Equal(t, w.WorkerID, asked(), "a reload does not")
	r.run.Drain()
	r.reload(entry("five"))
	require.NoError(t, r.s.StopAll(r.bounded()))
	require.Empty(t, r.stale)
}

// Another hive has started it: what the record says is compared, and what has changed
// since in what it does not say.
func TestStaleOfAnAdoptedWorker(t *testing.T) {
	t.Parallel()
	secret := func(value string) catalog.Entry {
		e := serving("serve")
		e.Env = []string{"TOKEN=" + value}
		return e
	}
	r := newRig(t, 1, secret("one"))
	w := r.spawn("serve")
	r.close()
	r.open()
	r.becomes(w.WorkerID, store.WorkerReady)
	require.False(t, r.worker(w.WorkerID).Stale)
	r.reload(secret("two"))
	require.Equal(t, []string{"env"}, r.worker(w.WorkerID).Changed)
	r.close()
	r.open()
	r.becomes(w.WorkerID, store.WorkerReady)
	require.Equal(t, []string{"env"}, r.worker(w.WorkerID).Changed, "it had changed before, and the record does not hold it")
	more := secret("two")
	more.Stop.Grace = ref(time.Second)
	r.reload(more)
	require.Equal(t, []string{"env", "stop.grace"}, r.worker(w.WorkerID).Changed)
}

// A worker without a process is not stale: its next start is by the type as it is.
func TestAWorkerThatWaitsIsNotStale(t *testing.T) {
	t.Parallel()
	crash := func(code string) catalog.Entry {
		e := restarting(serving("crash", "--exit-code", code), "always", 5)
		e.Restart.Backoff, e.Restart.MaxBackoff = ref(time.Hour), ref(time.Hour)
		return e
	}
	r := newRig(t, 1, crash("3"))
	w := r.begin("crash")
	r.becomes(w.WorkerID, store.WorkerBackoff)
	r.reload(crash("4"))
	require.False(t, r.worker(w.WorkerID).Stale)
	r.reload()
	require.True(t, r.worker(w.WorkerID).Stale, "it will not be started at all")
}

// Each worker once kept the types of two reloads as a whole, with all their templates, 390 KB
// each: that of its start and the last that concerned it. Reloaded often, a hive of 200
// workers grew by 50 MB in five minutes.
func TestAWorkerDoesNotKeepAllTypes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"), serving("other"))
	w := r.spawn("serve")
	first := weak.Make(r.types.Load())
	r.reload(serving("serve", "--model", "another"), serving("other"))
	require.True(t, r.worker(w.WorkerID).Stale)
	second := weak.Make(r.types.Load())
	r.setTypes(serving("serve", "--model", "third"), serving("other")) // does not concern it: stale it is
	r.eventually("the types of its start are gone", func() bool { runtime.GC(); return first.Value() == nil })
	r.eventually("those that it was compared with are gone", func() bool { runtime.GC(); return second.Value() == nil })
	r.reload(serving("serve"), serving("other"))
	require.False(t, r.worker(w.WorkerID).Stale, "it still knows what it was started as")
}

// The same of a worker that this hive has not started, of which it knows the type only from then on.
func TestAnAdoptedWorkerDoesNotKeepAllTypes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w := r.spawn("serve")
	r.close()
	r.open()
	first := weak.Make(r.types.Load())
	r.reload(serving("serve", "--model", "another"))
	require.True(t, r.worker(w.WorkerID).Stale)
	r.eventually("the types of its adoption are gone", func() bool { runtime.GC(); return first.Value() == nil })
	r.reload(serving("serve"))
	require.False(t, r.worker(w.WorkerID).Stale)
}
