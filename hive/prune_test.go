package hive_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// Old records are removed in the course of time, unfinished jobs and what a
// quarantined port needs are not.
func TestPruning(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 50 * time.Millisecond
	old := time.Now().Add(-400 * time.Hour).UTC()
	r.edit(func(tx *store.Tx) error {
		for _, j := range []store.Job{
			{JobID: "job-0", Operation: "infer", Request: []byte(`{}`), State: store.JobFailed, CreatedAt: old, FinishedAt: &old},
			{JobID: "job-1", Operation: "infer", Request: []byte(`{}`), State: store.JobFailed, CreatedAt: old, FinishedAt: ref(time.Now().UTC())},
		} {
			if err := tx.PutJob(j); err != nil {
				return err
			}
			if _, err := tx.AppendEvent(store.Event{JobID: j.JobID, Type: store.EventEnd, At: old}); err != nil {
				return err
			}
		}
		_, err := tx.AppendEvent(store.Event{Type: store.EventAudit, At: old, Message: "of nobody"})
		return err
	})
	r.open()
	r.eventually("the old job is gone", func() bool { _, err := r.h.Job("job-0"); return err != nil })
	_, err := r.h.Job("job-0")
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	_, err = r.h.Job("job-1")
	require.NoError(t, err, "it ended a moment ago")
	r.close()
	r.edit(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10)
		require.NoError(t, err)
		for _, ev := range evs {
			require.NotEqual(t, "of nobody", ev.Message)
		}
		return nil
	})
}

// A damaged event is found when what is old is removed. It has nothing to do
// with the workers, and must not end hive: it did, at every audit of every start.
func TestADamagedEventDoesNotEndHive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.cfg.AuditInterval = 20 * time.Millisecond
	r.open()
	w := r.spawn("cpu")
	r.close()
	whole := r.flipFirstEvent(nil)
	r.open()
	r.never("hive stops serving", 300*time.Millisecond, func() bool { return !r.h.Status().Serving })
	r.stopWorker(w.WorkerID)
	r.close() // Run has not ended by itself
	r.flipFirstEvent(whole)
}

// flipFirstEvent damages the oldest event, or puts back a value; it returns the
// value that was there.
func (r *rig) flipFirstEvent(put []byte) (was []byte) {
	r.Helper()
	db, err := bbolt.Open(filepath.Join(r.cfg.DataDir, "hive.db"), 0o600, nil)
	require.NoError(r, err)
	require.NoError(r, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("events"))
		k, v := b.Cursor().First()
		was = append(was, v...)
		bad := append([]byte{}, v...)
		bad[len(bad)-2] ^= 1
		if put != nil {
			bad = put
		}
		return b.Put(k, bad)
	}))
	require.NoError(r, db.Close())
	return was
}
