package audit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/audit"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// ended records a worker that has ended, with the tombstone of its lease.
func (r *rig) ended(id string, n int) store.Worker {
	r.t.Helper()
	rec := r.record(id, store.WorkerReady, r.port(n))
	r.update(func(tx *store.Tx) error {
		rec.State = store.WorkerStopped
		if _, err := tx.EndLease(rec.Port, rec.LeaseID); err != nil {
			return err
		}
		return tx.PutWorker(rec)
	})
	return rec
}

// What an ended lease has left behind is ended when that is wanted, at the second sight, and
// only where the file knows the lease as ended.
func TestWhatIsLeftBehindIsEnded(t *testing.T) {
	for name, c := range map[string]struct{ kill, relocated, ends bool }{
		"kill": {kill: true, ends: true}, "keep": {}, "the first start with a copied file": {kill: true, relocated: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			r.kill, r.relocated = c.kill, c.relocated
			r.open()
			rec := r.ended("w", 0)
			first, second := r.program(r.stamps("w", rec.LeaseID)), r.program(r.stamps("w", rec.LeaseID))
			unknown := r.program(r.stamps("cpu-1-x", "unknown"))
			forged := r.program(r.stamps("w", rec.LeaseID)[:3])
			require.Len(t, r.audit(), 3)
			require.True(t, first.alive() && second.alive(), "nothing is done at the first sight")
			require.Len(t, r.audit(), 3)
			if c.ends {
				<-first.done
				<-second.done
				require.Len(t, r.audit(), 1)
				last := r.events()[len(r.events())-1]
				require.Regexp(t, fmt.Sprintf(`^ended what worker w had left behind: \S+ \(pid (%d|%d)\)$`, first.PID, second.PID), last)
			}
			require.Equal(t, !c.ends, first.alive())
			require.Equal(t, !c.ends, second.alive())
			require.True(t, unknown.alive(), "a lease that is merely unknown proves nothing")
			require.True(t, forged.alive(), "ids that anybody can read prove nothing")
		})
	}
}

// A process that is being spawned is recorded a moment after it is made: only who is there
// for longer is an orphan.
func TestTheSweepLeavesOrphansAlone(t *testing.T) {
	r := newRig(t, 1)
	begun := time.Now()
	n, ok := r.Sweep(t.Context())
	require.True(t, ok)
	require.Zero(t, n)
	require.Less(t, time.Since(begun), 2*time.Second, "nobody waits where there are none")

	p := r.program(r.stamps("cpu-1-x", "unknown"))
	n, ok = r.Sweep(t.Context())
	require.True(t, ok)
	require.Equal(t, 1, n)
	require.True(t, p.alive())
	require.Len(t, r.logs.AllEntries(), 1)
	entry := r.logs.LastEntry()
	require.Equal(t, "a process carries this hive's stamp and has no record; it is left alone", entry.Message)
	require.Equal(t, []any{p.PID, "cpu-1-x"}, []any{entry.Data["pid"], entry.Data["worker"]})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, ok = r.Sweep(ctx)
	require.False(t, ok, "that there are none is not known then")
	require.Zero(t, n)
	require.Len(t, r.logs.AllEntries(), 1, "a hive that closes is no trouble")
}

// The contention test found it: with workers being spawned all the time each of
// the sweep's two looks saw one that was not recorded yet, never the same, and
// hive said that a process without a record was there.
func TestSweepCountsOnlyWhoIsSeenTwice(t *testing.T) {
	lasting, spawning, next := proc.Orphan{PID: 7, Start: 70}, proc.Orphan{PID: 8, Start: 80}, proc.Orphan{PID: 9, Start: 90}
	reused := proc.Orphan{PID: 8, Start: 85}
	require.Equal(t, []proc.Orphan{lasting}, audit.InBoth([]proc.Orphan{spawning, lasting}, []proc.Orphan{lasting, reused, next}))
	require.Empty(t, audit.InBoth([]proc.Orphan{spawning}, []proc.Orphan{next}))
	require.Empty(t, audit.InBoth([]proc.Orphan{spawning}, nil))
}
