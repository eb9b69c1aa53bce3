package jobs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/store"
)

// onBegin has each job of the executor do something as soon as it is begun.
func (r *rig) onBegin(first func(context.Context, *jobs.Job) error) {
	r.exec.mu.Lock()
	defer r.exec.mu.Unlock()
	r.exec.first = first
}

// holdWriter keeps the writer of the state file busy until release is called.
func (r *rig) holdWriter() (release func()) {
	r.t.Helper()
	held, over, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = r.store.Update(context.Background(), func(*store.Tx) error { close(held); <-over; return nil }) // nothing is written
	}()
	<-held
	return func() { close(over); <-done }
}

// A job that has its effect at once is recorded with it, in one transaction, and nobody is
// shown it before.
func TestAJobIsRecordedWithItsFirstEffect(t *testing.T) {
	r := serving(t)
	r.SetJoinTime(time.Hour) // on a busy machine the job would come too late, and be recorded alone
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	r.onBegin(func(_ context.Context, j *jobs.Job) error {
		_, err := r.Job(j.ID())
		require.ErrorIs(t, err, errdefs.ErrNotFound)
		_, err = r.Cancel(t.Context(), access.Hive(), j.ID())
		require.ErrorIs(t, err, errdefs.ErrNotFound)
		for _, state := range []store.JobState{"", store.JobQueued, store.JobRunning} {
			list, _, err := r.List(jobs.Filter{State: state})
			require.NoError(t, err)
			for _, shown := range list {
				require.NotEqual(t, j.ID(), shown.JobID)
			}
		}
		return jn.Commit(t.Context(), func(b *journal.Batch) error {
			j.Begin("w-1", b.Now())
			return j.RecordRunning(b)
		})
	})
	for range 5 {
		before := r.store.Stats().Commits
		rec, err := r.try(t.Context(), "", spawnA)
		require.NoError(t, err)
		require.Equal(t, store.JobQueued, rec.State)
		c := r.begun(rec.JobID)
		r.eventually("it has begun", func() bool { return c.Record().State == store.JobRunning })
		require.EqualValues(t, 1, r.store.Stats().Commits-before)
		inFile, err := r.recorded(rec.JobID)
		require.NoError(t, err)
		require.Equal(t, "w-1", inFile.WorkerID)
		require.Equal(t, "worker_spawn queued by hive", r.recordedEvents(rec.JobID)[0].Message)
		c.ends(nil, nil)
		r.wait(rec.JobID)
		r.idle()
	}
}

// A job that takes its time is recorded alone, as it was submitted.
func TestAJobThatTakesItsTimeIsAccepted(t *testing.T) {
	r := serving(t)
	ready := make(chan struct{})
	r.onBegin(func(_ context.Context, j *jobs.Job) error { j.Begin("w-1", now()); <-ready; return nil })
	id := r.submit(spawnA)
	rec, err := r.recorded(id)
	require.NoError(t, err)
	require.Equal(t, store.JobQueued, rec.State)
	require.Nil(t, rec.StartedAt)
	require.Empty(t, rec.WorkerID)
	close(ready)
	r.begun(id).ends(nil, nil)
	require.Equal(t, store.JobSucceeded, r.wait(id).State)
}

// A job is accepted once it is in the file, whoever has written it and has not come to say so:
// it was told that hive shuts down, of a job that was carried out.
func TestAJobThatIsOverBeforeItsAcceptanceIsTold(t *testing.T) {
	r := serving(t)
	jn := journal.New(r.run.Context(), r.store, "/data", nil)
	late, told := make(chan struct{}), make(chan error, 1)
	r.onBegin(func(ctx context.Context, j *jobs.Job) error {
		go func() {
			told <- jn.Commit(ctx, func(b *journal.Batch) error {
				b.OnCommit(func() { <-late })
				return j.RecordRunning(b)
			})
		}()
		r.eventually("it is in the file", func() bool { _, err := r.recorded(j.ID()); return err == nil })
		return errdefs.Fail(errdefs.CodeNotFound, "over at once")
	})
	id := r.submit(spawnA)
	require.Equal(t, errdefs.CodeNotFound, r.wait(id).Error.Code)
	close(late)
	require.NoError(t, <-told)
	r.idle()
}

// A job that fails before it has an effect is recorded all the same.
func TestAJobThatFailsAtOnceIsAccepted(t *testing.T) {
	r := serving(t)
	r.onBegin(func(context.Context, *jobs.Job) error { return errdefs.Fail(errdefs.CodeNotFound, "nothing there") })
	id := r.submit(stopA)
	require.Equal(t, errdefs.CodeNotFound, r.wait(id).Error.Code)
	inFile, err := r.recorded(id)
	require.NoError(t, err)
	require.Equal(t, store.JobFailed, inFile.State)
}

// What cannot be recorded is refused, whatever comes first: then there is no job.
func TestAJobThatIsNotAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		first func(*rig) error
		want  error
	}{
		"the hive closes first": {func(r *rig) error { r.run.Close(); return errdefs.Fail(errdefs.CodeNotFound, "nothing there") }, errdefs.ErrClosed},
		"the hive closes":       {func(r *rig) error { r.run.Close(); return errdefs.ErrClosing }, errdefs.ErrClosed},
		"the store has failed":  {func(*rig) error { return fmt.Errorf("update: %w", store.ErrFailed) }, store.ErrFailed},
		"it cannot be written":  {func(r *rig) error { return r.store.Close() }, store.ErrClosed},
		"nor while it goes on":  {func(r *rig) error { err := r.store.Close(); time.Sleep(20 * time.Millisecond); return err }, store.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			var id string
			r.onBegin(func(_ context.Context, j *jobs.Job) error { id = j.ID(); return c.first(r) })
			_, err := r.try(t.Context(), "k", spawnA)
			require.ErrorIs(t, err, c.want)
			r.idle()
			require.Empty(t, r.counted())
			_, err = r.recorded(id)
			require.Error(t, err)
		})
	}
}

// Two requests with one key that come at once are one job, also when the first is recorded
// only with its effect.
func TestOneKeyBeforeItsJobIsRecorded(t *testing.T) {
	r := serving(t)
	begun, other := make(chan string, 2), make(chan struct{})
	r.onBegin(func(_ context.Context, j *jobs.Job) error { begun <- j.ID(); <-other; return nil })
	release := r.holdWriter()
	results := make(chan string, 2)
	submit := func() {
		rec, err := r.try(context.Background(), "k", spawnA)
		require.NoError(t, err)
		results <- rec.JobID
	}
	go submit()
	id := <-begun
	go submit()
	_, err := r.try(timeout(t, 50*time.Millisecond), "k", spawnB)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is not known yet what the key stands for")
	release()
	require.Equal(t, id, <-results)
	require.Equal(t, id, <-results)
	require.Empty(t, begun, "nothing was begun twice")
	_, err = r.try(t.Context(), "k", spawnB)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	close(other)
	r.begun(id).ends(nil, nil)
	r.idle()
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
