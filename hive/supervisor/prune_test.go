package supervisor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// The bounds of pruning, as docs/operations.md gives them to people.
const (
	alwaysKept = 50
	mostKept   = 1000
)

// endedWorkers are records of workers that have ended, the oldest first, so long ago and a
// second apart.
func (r *rig) endedWorkers(n int, ago time.Duration, change func(i int, w *store.Worker)) (ids []string) {
	r.Helper()
	r.edit(func(tx *store.Tx) error {
		for i := range n {
			at := time.Now().Add(-ago + time.Duration(i)*time.Second).UTC()
			// Not in the order of their names, by which the file has them; and all of
			// them other ones: of 1,010 numbers of six digits by lot two are the same in
			// one run of 30. An odd factor gives each below 2^24 another.
			r.ended++
			id := fmt.Sprintf("serve-%d-%06x", r.port(0), r.ended*0x9e3779b1&0xffffff)
			w := store.Worker{
				WorkerID: id, Type: "serve", LeaseID: uuid.NewString(), Port: r.port(0), Ports: []uint16{r.port(0)},
				State: store.WorkerFailed, Desired: store.DesiredRunning, Log: filepath.Join(r.dir, "logs", id+".log"), StartedAt: at, EndedAt: &at,
			}
			w.Spec.Argv, w.Spec.Host = []string{"/bin/true"}, "127.0.0.1"
			if change != nil {
				change(i, &w)
			}
			if err := tx.PutWorker(w); err != nil {
				return err
			}
			require.NoError(r, os.WriteFile(w.Log, []byte("x\n"), 0o600))
			ids = append(ids, id)
		}
		return nil
	})
	return ids
}

func (r *rig) prune(keep time.Duration) {
	r.Helper()
	require.True(r, r.s.Prune(r.bounded(), keep))
}

// kept are the ids of the ended workers that are known, in memory and in the file.
func (r *rig) kept() map[string]bool {
	r.Helper()
	known := map[string]bool{}
	for _, w := range r.s.Workers() {
		if w.State.Ended() {
			known[w.WorkerID] = true
		}
	}
	stored := map[string]bool{}
	require.NoError(r, r.store.View(func(tx *store.Tx) error {
		for w, err := range tx.Workers() {
			if err != nil {
				return err
			}
			if w.State.Ended() {
				stored[w.WorkerID] = true
			}
		}
		return nil
	}))
	require.Equal(r, stored, known, "a start of hive shows the same")
	return known
}

func set(ids []string) map[string]bool {
	m := map[string]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// What is old goes, with its log; the last ones stay, whatever their age.
func TestOldEndedWorkersArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	r.close()
	ids := r.endedWorkers(alwaysKept+10, 400*time.Hour, nil)
	r.open()
	r.prune(500 * time.Hour)
	require.Len(t, r.kept(), alwaysKept+10, "none is that old")
	r.prune(time.Hour)
	require.Equal(t, set(ids[10:]), r.kept())
	for i, id := range ids {
		_, err := os.Stat(filepath.Join(r.dir, "logs", id+".log"))
		require.Equal(t, i >= 10, err == nil)
	}
	_, err := r.s.Worker(ids[0])
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	r.prune(time.Hour)
	require.Len(t, r.kept(), alwaysKept)
}

// So many at most, however young; and behind the surplus the old ones go as well.
func TestSurplusEndedWorkersArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	r.close()
	old := r.endedWorkers(20, 400*time.Hour, nil)
	young := r.endedWorkers(mostKept-10, time.Hour, nil)
	r.open()
	require.Len(t, r.kept(), mostKept+10)
	r.prune(500 * time.Hour)
	require.Equal(t, set(append(old[10:], young...)), r.kept(), "the surplus")
	r.prune(100 * time.Hour)
	require.Equal(t, set(young), r.kept(), "and what is old")
}

// While its port is quarantined the log of an ended worker is a proof, and the record names
// it.
func TestAWorkerWithAQuarantinedPortIsNotPruned(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	r.close()
	ids := r.endedWorkers(alwaysKept+2, 400*time.Hour, nil)
	r.edit(func(tx *store.Tx) error {
		w, err := tx.Worker(ids[0])
		require.NoError(t, err)
		return tx.PutLease(store.Lease{
			Port: w.Port, LeaseID: w.LeaseID, Kind: store.LeaseWorker, WorkerID: w.WorkerID,
			State: store.LeaseQuarantined, Reason: "somebody listens", AcquiredAt: time.Now().UTC(),
		})
	})
	r.open()
	r.prune(time.Hour)
	require.Equal(t, set(append(ids[2:], ids[0])), r.kept())
	tree := r.s.TreeOfLease(r.leases()[0])
	require.Equal(t, filepath.Join(r.dir, "logs", ids[0]+".log"), tree.Log)
}

// The last worker of an autostart entry that was stopped on request says that it is to stay
// stopped: without it the entry would be started at the next start of hive.
func TestWhatSaysThatAnEntryStaysStopped(t *testing.T) {
	t.Parallel()
	auto := serving("serve")
	auto.Autostart = true
	r := newRig(t, 2, auto)
	require.True(t, r.s.Missing("serve"), "there was none yet")
	r.close()
	ids := r.endedWorkers(2, 500*time.Hour, func(_ int, w *store.Worker) { w.State, w.Desired = store.WorkerStopped, store.DesiredStopped })
	others := r.endedWorkers(alwaysKept, 400*time.Hour, func(_ int, w *store.Worker) { w.Type = "other" })
	r.open()
	require.False(t, r.s.Missing("serve"))
	require.True(t, r.s.Missing("other"), "they ended by themselves")
	r.prune(time.Hour)
	require.Equal(t, set(append(others, ids[1])), r.kept(), "only the last one says it")
	require.False(t, r.s.Missing("serve"))
	require.NoError(t, r.restart(ids[1]))
	require.False(t, r.s.Missing("serve"), "one lives")
}

// Pruning ends when its caller does.
func TestPruningEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	r.close()
	r.endedWorkers(alwaysKept+1, 400*time.Hour, nil)
	r.open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.False(t, r.s.Prune(ctx, time.Hour))
	require.Len(t, r.kept(), alwaysKept+1)
}

// What a worker has left is removed on request, once it has ended.
func TestAnEndedWorkerIsRemoved(t *testing.T) {
	t.Parallel()
	auto := serving("auto")
	auto.Autostart = true
	r := newRig(t, 4, serving("serve"), auto)
	remove := func(ref string) error { _, err := r.s.RemoveWorker(r.bounded(), ref, "a test"); return err }
	w := r.spawn("serve")
	err := remove(w.WorkerID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, "worker "+w.WorkerID+" is ready; only one that has ended can be removed: stop it first")
	require.True(t, alive(w.Identity.PID))
	r.stop(w.WorkerID)
	require.NoError(t, remove(w.WorkerID))
	require.Empty(t, r.kept())
	require.NoFileExists(t, w.Log)
	require.Contains(t, r.messages(""), "the record and the log of "+w.WorkerID+" were removed by a test")
	require.ErrorIs(t, remove(w.WorkerID), errdefs.ErrNotFound)
	require.Equal(t, errdefs.CodeNotFound, r.failure(r.restart(w.WorkerID)).Code)

	// Without the record its entry would be started by the next start of hive.
	stays := r.spawn("auto")
	r.stop(stays.WorkerID)
	err = remove(stays.WorkerID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, `is why the autostart entry "auto" stays stopped`)
	require.False(t, r.s.Missing("auto"))

	held := r.spawn("serve")
	r.stop(held.WorkerID)
	r.close()
	r.edit(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{
			Port: held.Port, LeaseID: held.LeaseID, Kind: store.LeaseWorker, WorkerID: held.WorkerID,
			State: store.LeaseQuarantined, Reason: "somebody listens", AcquiredAt: time.Now().UTC(),
		})
	})
	r.open()
	err = remove(held.WorkerID)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, "is quarantined: somebody listens")
	require.FileExists(t, held.Log)
}

// Who has decided by a record that the worker has outrun since takes nothing.
func TestWhatIsDecidedByAnOldRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	old := r.stop(w.WorkerID)
	release, err := r.s.TakeEnded(old)
	require.NoError(t, err)
	_, err = r.s.TakeEnded(old)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	release()
	require.NoError(t, r.restart(w.WorkerID))
	_, err = r.s.TakeEnded(old)
	require.ErrorIs(t, err, errdefs.ErrNotFound, "it lives")
	r.stop(w.WorkerID)
	_, err = r.s.TakeEnded(old)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.ErrorContains(t, err, "has run meanwhile")
}

// A worker that is removed and started again at the same moment is one or the other: what
// runs has its record and its log.
func TestARemovalAndANewStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w := r.spawn("serve")
	for range 20 {
		r.stop(w.WorkerID)
		started := make(chan error, 1)
		go func() { started <- r.restart(w.WorkerID) }()
		_, err := r.s.RemoveWorker(r.bounded(), w.WorkerID, "a test")
		if err == nil {
			require.Equal(t, errdefs.CodeNotFound, r.failure(<-started).Code)
			require.Empty(t, r.leases())
			w = r.spawn("serve")
			continue
		}
		require.ErrorIs(t, err, errdefs.ErrConflict)
		require.NoError(t, <-started)
		stored, err := r.stored(w.WorkerID)
		require.NoError(t, err)
		require.True(t, alive(stored.Identity.PID))
		require.FileExists(t, w.Log)
	}
}
