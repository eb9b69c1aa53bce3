package journal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/journal"
	"rbeehive/store"
)

// Whose an event is: nothing follows the end event of a job, and a job that is gone has
// no events.
func TestWhoseAnEventIs(t *testing.T) {
	r := newRig(t)
	r.job("job-queued", store.JobQueued)
	r.job("job-running", store.JobRunning)
	r.job("job-failed", store.JobFailed)
	r.job("job-cancelled", store.JobCancelled)
	for name, c := range map[string]struct {
		typ  store.EventType
		job  string
		want string
	}{
		"of a queued job":                  {store.EventState, "job-queued", "job-queued"},
		"of a running job":                 {store.EventLog, "job-running", "job-running"},
		"of a failed job":                  {store.EventState, "job-failed", ""},
		"of a cancelled job":               {store.EventLog, "job-cancelled", ""},
		"the end of a job that has ended":  {store.EventEnd, "job-failed", "job-failed"},
		"of a job that was pruned":         {store.EventState, "job-pruned", ""},
		"the end of a job that was pruned": {store.EventEnd, "job-pruned", ""},
		"of no job":                        {store.EventState, "", ""},
	} {
		require.NoError(t, r.Commit(t.Context(), func(b *journal.Batch) error {
			return b.Event(c.typ, c.job, "w-1", name, nil)
		}), name)
		evs, err := r.WorkerEvents("w-1", 0, 0)
		require.NoError(t, err, name)
		got := evs[len(evs)-1]
		require.Equal(t, name, got.Message)
		require.Equal(t, c.want, got.JobID, name)
		require.Equal(t, c.typ, got.Type, name)
	}
}

// An end event is written after the record of the job in the same transaction, whose state
// it finds: any other event is then the worker's only.
func TestAnEventSeesItsOwnTransaction(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	require.NoError(t, r.Commit(t.Context(), func(b *journal.Batch) error {
		j, err := b.Job("job-1")
		require.NoError(t, err)
		require.NoError(t, b.Event(store.EventState, "job-1", "", "before", nil))
		j.State = store.JobFailed
		require.NoError(t, b.PutJob(j))
		require.NoError(t, b.Event(store.EventState, "job-1", "", "behind", nil))
		return b.Event(store.EventEnd, "job-1", "", "end", nil)
	}))
	var own []string
	for ev, err := range r.JobEvents(t.Context(), "job-1", 0) {
		require.NoError(t, err)
		own = append(own, ev.Message)
	}
	require.Equal(t, []string{"before", "end"}, own)
	require.Equal(t, []string{"before", "behind", "end"}, r.recorded(), "none is lost")
}

// What anybody can choose, such as a name, must not change a terminal.
func TestAMessageBecomesPlainText(t *testing.T) {
	r := newRig(t)
	r.tell("", "a\x1b[2Jb\u202ec")
	got := r.recorded()
	require.Len(t, got, 1)
	require.NotContains(t, got[0], "\x1b")
	require.NotContains(t, got[0], "\u202e")
	require.Contains(t, got[0], "[2Jb")
}

func TestDataOfAnEvent(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Commit(t.Context(), func(b *journal.Batch) error {
		require.NoError(t, b.Event(store.EventPort, "", "w-1", "none", nil))
		return b.Event(store.EventPort, "", "w-1", "some", map[string]any{"port": 8080})
	}))
	evs, err := r.WorkerEvents("w-1", 0, 0)
	require.NoError(t, err)
	require.Empty(t, evs[0].Data)
	require.JSONEq(t, `{"port":8080}`, string(evs[1].Data))

	err = r.Commit(t.Context(), func(b *journal.Batch) error {
		return b.Event(store.EventPort, "", "w-1", "cannot be encoded", make(chan int))
	})
	require.ErrorContains(t, err, "encode port event")
	require.Equal(t, []string{"none", "some"}, r.recorded())
}

// Who is woken by a commit must find what memory says of it, and what memory says must be
// durable.
func TestOnCommitIsBetweenTheCommitAndTheWaking(t *testing.T) {
	r := newRig(t)
	r.job("job-1", store.JobRunning)
	woken, leave := r.Watch("job-1")
	defer leave()
	var order []string
	require.NoError(t, r.Commit(t.Context(), func(b *journal.Batch) error {
		b.OnCommit(func() {
			order = append(order, "first")
			require.Equal(t, []string{"told"}, r.recorded(), "it is durable")
			require.False(t, isClosed(woken), "nobody is woken yet")
		})
		b.OnCommit(func() { order = append(order, "second") })
		require.Empty(t, order, "not while the transaction runs")
		return b.Event(store.EventState, "job-1", "", "told", nil)
	}))
	require.Equal(t, []string{"first", "second"}, order)
	require.True(t, isClosed(woken), "woken when Commit returns")
}

// The writer of another part may try its transaction again: what the first try wanted
// did not come about.
func TestATransactionThatIsTriedAgainCountsOnce(t *testing.T) {
	r := newRig(t)
	called, tries := 0, 0
	again := func(closure func(*store.Tx) error) error {
		err := r.store.Update(t.Context(), func(tx *store.Tx) error {
			require.NoError(t, closure(tx))
			return store.ErrDiskFull
		})
		require.ErrorIs(t, err, store.ErrDiskFull)
		return r.store.Update(t.Context(), closure)
	}
	require.NoError(t, r.With(again, func(b *journal.Batch) error {
		tries++
		b.OnCommit(func() { called++ })
		return b.Event(store.EventState, "", "", "once", nil)
	}))
	require.Equal(t, 2, tries)
	require.Equal(t, 1, called)
	require.Equal(t, []string{"once"}, r.recorded())
}
