package hive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/store"
	"rbeehive/test/skip"
)

var idle = catalog.Entry{Name: "idle", Command: []string{"sleep", "600"}, Stop: catalog.StopEntry{Signal: []string{"SIGKILL"}}}

// stamped finds living processes by the stamp of a state file: pid -> worker id.
func stamped(t *testing.T, state string) map[int]string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	found := map[int]string{}
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		pid, _ := strconv.Atoi(filepath.Base(d))
		if err != nil || !bytes.Contains(env, []byte("RBEEHIVE_STATE="+state)) || !alive(pid) {
			continue
		}
		for kv := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(kv, "RBEEHIVE_WORKER="); ok {
				found[pid] = id
			}
		}
	}
	return found
}

// SIGTERM while spawns are between their commit and their execve: the record of
// a program that runs must say so. A hive that took its own closing for a failed
// execve left an orphan in one of two rounds.
func TestCloseWhileSpawning(t *testing.T) {
	r := newRig(t, 100, idle)
	r.open()
	state := r.h.Info().StateID
	r.close()
	for range 10 {
		r.open()
		for range 8 {
			r.submit(map[string]any{"operation": "worker_spawn", "worker": "idle", "wait": "started"})
		}
		<-time.After(rand.N(12 * time.Millisecond))
		r.close()
		r.edit(func(tx *store.Tx) error {
			for pid, id := range stamped(t, state) {
				rec, err := tx.Worker(id)
				require.NoError(t, err)
				require.False(t, rec.State.Ended(), "pid %d of %s runs, and its record says %s: %s", pid, id, rec.State, rec.Reason)
			}
			for l, err := range tx.Leases() {
				require.NoError(t, err)
				require.NotEqual(t, store.LeaseQuarantined, l.State)
			}
			return nil
		})
		r.open()
		require.NoError(t, r.h.StopWorkers(t.Context()))
		r.close()
		require.Empty(t, stamped(t, state))
	}
}

func TestStopWorkersWhileSpawning(t *testing.T) {
	r := newRig(t, 60, idle)
	r.open()
	state := r.h.Info().StateID
	for range 40 {
		r.submit(map[string]any{"operation": "worker_spawn", "worker": "idle", "wait": "started"})
	}
	require.NoError(t, r.h.StopWorkers(t.Context()))
	require.Empty(t, r.processes())
	require.Empty(t, stamped(t, state))
	op, err := r.h.Decode([]byte(`{"operation":"hive_check"}`))
	require.NoError(t, err)
	_, err = r.h.Submit(t.Context(), op, []byte(`{"operation":"hive_check"}`))
	require.ErrorIs(t, err, errdefs.ErrClosed)
}

// A restart comes while a cancelled spawn waits for its worker to end.
func TestCancelledSpawnDoesNotSucceedAfterARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, catalog.Entry{
		Name: "deaf", Command: []string{"sh", "-c", `trap "" TERM; echo armed; exec sleep 600`},
		Ready: catalog.ReadyEntry{Path: ref("/health")}, Stop: catalog.StopEntry{Grace: ref(time.Second)},
	})
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "deaf"})
	r.eventually("it runs and ignores SIGTERM", func() bool { return r.logHas("armed") })
	done := make(chan struct{})
	go func() { defer close(done); _, _ = r.h.Cancel(t.Context(), access.Hive(), job.JobID) }()
	r.eventually("it is being stopped", func() bool { return r.h.Workers()[0].State == store.WorkerStopping })
	r.close()
	<-done
	r.open()
	rec, err := r.h.Job(job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobFailed, rec.State)
	require.Equal(t, errdefs.CodeInterrupted, rec.Error.Code)
	r.eventually("the stop goes on", func() bool { return len(r.leases()) == 0 })
}

// logHas reports whether the log of the first worker holds a text.
func (r *rig) logHas(text string) bool {
	for _, w := range r.h.Workers() {
		raw, err := os.ReadFile(w.Log)
		return err == nil && strings.Contains(string(raw), text)
	}
	return false
}

// A copied or restored file may name somebody else's workers: the first start
// with it ends nothing but on request.
func TestNothingIsEndedInTheFirstStartWithACopiedFile(t *testing.T) {
	if testing.Short() {
		t.Skip("long: watches for 3 s twice that nothing happens")
	}
	t.Parallel()
	r := newRig(t, 2, fault("stubborn", "--ignore-term"))
	r.open()
	w := r.spawn("stubborn")
	r.submit(map[string]any{"operation": "worker_stop", "worker_id": w.WorkerID})
	r.eventually("it is being stopped", func() bool { return r.h.Workers()[0].State == store.WorkerStopping })
	before := r.h.Info().StateID
	r.close()
	db := filepath.Join(r.cfg.DataDir, "hive.db")
	raw, err := os.ReadFile(db)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(db+".copy", raw, 0o600))
	require.NoError(t, os.Rename(db+".copy", db))
	r.open()
	require.NotEqual(t, before, r.h.Info().StateID)
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	r.never("longer than its grace", 3*time.Second, func() bool { return !alive(w.PID) })
	require.Equal(t, store.LeaseHeld, r.leases()[0].State)
	r.close()
	r.open() // the same file as before, and still nobody has asked
	r.never("longer than its grace", 3*time.Second, func() bool { return !alive(w.PID) })
	r.stopWorker(w.WorkerID) // but on request
	require.False(t, alive(w.PID))
}

// Submitters that were admitted just before all workers are stopped.
func TestStopWorkersAgainstSubmitters(t *testing.T) {
	for range 3 {
		r := newRig(t, 60, idle)
		r.open()
		raw := []byte(`{"operation":"worker_spawn","worker":"idle","wait":"started"}`)
		op, err := r.h.Decode(raw)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					if _, err := r.h.Submit(t.Context(), op, raw); err != nil {
						if !errors.Is(err, errdefs.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		r.eventually("spawns are under way", func() bool { return len(r.processes()) > 4 })
		require.NoError(t, r.h.StopWorkers(t.Context()))
		wg.Wait()
		r.eventually("those admitted last are cancelled", func() bool {
			busy, _, err := r.h.Jobs(jobs.Filter{State: store.JobQueued})
			more, _, err2 := r.h.Jobs(jobs.Filter{State: store.JobRunning})
			return err == nil && err2 == nil && len(busy)+len(more) == 0
		})
		require.Empty(t, r.processes())
		r.close()
		r.open()
	}
}

// A worker that was being stopped could not be judged in between.
func TestARequestedStopIsNotForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, fault("stubborn", "--ignore-term"))
	r.cfg.AuditInterval = 50 * time.Millisecond
	r.open()
	w := r.spawn("stubborn")
	job := r.submit(map[string]any{"operation": "worker_stop", "worker_id": w.WorkerID})
	r.eventually("it is being stopped", func() bool { return r.h.Workers()[0].State == store.WorkerStopping })
	r.close()
	other, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(other, &syscall.SockaddrUnix{Name: fmt.Sprintf("@hive-port/%d", w.Port)}))
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Unverified)
	rec, err := r.h.Job(job.JobID)
	require.NoError(t, err)
	require.Equal(t, errdefs.CodeInterrupted, rec.Error.Code)
	require.NoError(t, syscall.Close(other))
	r.eventually("it is stopped after all", func() bool { return r.h.Workers()[0].State == store.WorkerStopped })
	require.Empty(t, r.leases())
}

// A cancel that comes between a check's spawn and its stop.
func TestCancelledCheckLeavesNothing(t *testing.T) {
	r := newRig(t, 40)
	r.open()
	for range 10 {
		job := r.submit(map[string]any{"operation": "hive_check"})
		r.eventually("its worker is ready", func() bool {
			for _, w := range r.h.Workers() {
				if w.JobID == job.JobID && w.ReadyAt != nil {
					return true
				}
			}
			return false
		})
		if _, err := r.h.Cancel(t.Context(), access.Hive(), job.JobID); err != nil {
			require.ErrorIs(t, err, errdefs.ErrConflict, "it was quicker")
		}
		rec, err := r.h.Job(job.JobID)
		require.NoError(t, err)
		require.True(t, rec.State.Ended())
		require.Empty(t, r.processes())
	}
}

// The stop of an interrupted self-test's worker is recorded with the end of its job:
// when hive was killed once more before the stop had begun, the worker stayed.
func TestAnInterruptedChecksWorkerIsStoppedForCertain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.close()
	now := time.Now().UTC()
	r.edit(func(tx *store.Tx) error {
		return tx.PutJob(store.Job{
			JobID: "job-0", Operation: "hive_check", Request: []byte(`{"operation":"hive_check"}`), State: store.JobRunning,
			WorkerID: w.WorkerID, CreatedAt: now, StartedAt: &now,
		})
	})
	h, err := hive.Open(t.Context(), r.cfg)
	require.NoError(t, err)
	h.BeginNothing() // as a kill -9 just behind the transaction
	require.NoError(t, h.Recover(t.Context()))
	require.NoError(t, h.Close())
	r.edit(func(tx *store.Tx) error {
		job, err := tx.Job("job-0")
		require.NoError(t, err)
		require.Equal(t, errdefs.CodeInterrupted, job.Error.Code)
		rec, err := tx.Worker(w.WorkerID)
		require.NoError(t, err)
		require.Equal(t, store.WorkerStopping, rec.State)
		lease, err := tx.Lease(w.Port)
		require.NoError(t, err)
		require.Equal(t, store.LeaseReleasing, lease.State)
		return nil
	})
	r.open()
	r.eventually("it is stopped", func() bool { return len(r.leases()) == 0 })
	require.False(t, alive(w.PID))
}

// What a dead worker left behind cannot be ended within the time of a recovery:
// it is not forgotten, and no other worker's port suffers for it.
func TestTheRestThatRecoveryCannotEndIsEndedLater(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits for the end of a recovery and of a grace of 16 s")
	}
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	r := newRig(t, 4, catalog.Entry{
		Name:    "forker",
		Command: []string{"sh", "-c", `"$0" worker --no-listen --ignore-term --port 1 & exec "$0" worker --port "$1"`, self, "{{.Port}}"},
		Ready:   catalog.ReadyEntry{Path: ref("/health")}, Stop: catalog.StopEntry{Grace: ref(16 * time.Second)},
	})
	r.cfg.AuditInterval = 300 * time.Millisecond
	r.open()
	state := r.h.Info().StateID
	a, b := r.spawn("forker"), r.spawn("cpu")
	r.close()
	kill9(t, a.PID)
	kill9(t, b.PID)
	r.eventually("they are dead", func() bool { return !alive(a.PID) && !alive(b.PID) })
	r.open()
	require.Equal(t, []int{1, 1}, []int{r.h.Info().Recovery.Freed, r.h.Info().Recovery.Unverified})
	require.Len(t, r.leases(), 1, "only the port of the one that is not over")
	require.Eventually(t, func() bool { return len(r.leases()) == 0 }, time.Minute, 50*time.Millisecond, "a review ends the rest")
	require.Empty(t, stamped(t, state))
}

// A real full disk: nothing new is accepted, what has happened is recorded as
// soon as there is room, and nobody waits for ever.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	disk := filepath.Join(r.cfg.DataDir, "disk")
	require.NoError(t, os.Mkdir(disk, 0o700))
	err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=16m")
	if errors.Is(err, syscall.EPERM) {
		skip.Because(t, "mounting a small disk needs root")
	}
	require.NoError(t, err)
	outer := r.cfg.DataDir
	// A child that another test has forked just now has copies of our descriptors.
	t.Cleanup(func() { r.eventually("the disk is nobody's", func() bool { return syscall.Unmount(disk, 0) == nil }) })
	r.cfg.DataDir = disk
	r.open()
	w := r.spawn("cpu")
	second := r.spawn("cpu")

	full := filepath.Join(disk, "full")
	r.fill(full)
	// Bounded by what they write, not by time: some are still taken by the preallocated space.
	taken := 0
	for ; taken < 2000; taken++ {
		raw := []byte(`{"operation":"worker_spawn","worker":"cpu"}`)
		op, err := r.h.Decode(raw)
		require.NoError(t, err)
		job, err := r.h.Submit(t.Context(), op, raw)
		if errors.Is(err, store.ErrDiskFull) {
			break
		}
		require.NoError(t, err)
		_, err = r.h.WaitJob(t.Context(), job.JobID)
		require.NoError(t, err)
	}
	require.Less(t, taken, 2000, "nothing new is accepted")
	t.Logf("%d more jobs were taken", taken)
	r.stopAny(w.WorkerID)
	require.False(t, alive(w.PID), "a stop is carried out on a full disk")
	kill9(t, second.PID)
	r.eventually("a death is recorded on a full disk", func() bool { return r.h.Workers()[1].State == store.WorkerFailed })
	require.NoError(t, os.Remove(full))
	r.eventually("there is room again", func() bool {
		_, err := r.h.Submit(t.Context(), operation.Check{}, []byte(`{"operation":"hive_check"}`))
		return err == nil
	})
	require.NoError(t, r.h.StopWorkers(t.Context()))
	r.close()
	r.cfg.DataDir = outer
}

// fill writes a file until the disk is full.
func (r *rig) fill(path string) {
	r.Helper()
	f, err := os.Create(path)
	require.NoError(r, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(r, err, syscall.ENOSPC)
}

// stopAny stops a worker as an operator does, by the job API if it takes the
// job, else through StopWorkers.
func (r *rig) stopAny(id string) {
	r.Helper()
	raw := []byte(`{"operation":"worker_stop","worker_id":"` + id + `"}`)
	op, err := r.h.Decode(raw)
	require.NoError(r, err)
	job, err := r.h.Submit(context.Background(), op, raw)
	require.NoError(r, err, "a stop is admitted on a full disk")
	rec, err := r.h.WaitJob(context.Background(), job.JobID)
	require.NoError(r, err)
	require.Equal(r, store.JobSucceeded, rec.State)
}

// Nobody has asked for an entry's worker to stay stopped when hive stops them all at
// its end: the next start starts it.
func TestAutostartAfterAllWereStopped(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	web := catalog.Entry{Name: "web", Command: []string{self, "worker", "--port", "{{.Port}}"}, Autostart: true}
	r := newRig(t, 2, web)
	serves := func() bool {
		w, err := r.h.Worker("web")
		return err == nil && w.State == store.WorkerReady
	}
	r.open()
	r.eventually("it is started", serves)
	require.NoError(t, r.h.StopWorkers(t.Context()))
	require.Empty(t, r.leases())
	r.close()
	r.open()
	r.eventually("it is started again", serves)
	r.stopWorker("web")
	r.close()
	r.open()
	r.never("it is started after a request to stop it", 300*time.Millisecond, func() bool { return len(r.leases()) > 0 })
}
