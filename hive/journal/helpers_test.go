package journal_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/journal"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

// long bounds what must happen: a test that reaches it has failed.
const long = 20 * time.Second

// rig is a journal over a real state file, which is checked when the test ends.
type rig struct {
	*journal.Journal
	t     testing.TB
	store *store.Store
	close context.CancelFunc // the hive closes
	logs  *test.Hook
}

func newRig(t testing.TB, edit ...func(*store.Options)) *rig {
	t.Helper()
	st := storetest.Open(t, edit...)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &rig{Journal: journal.New(ctx, st, "/data", log), t: t, store: st, close: cancel, logs: test.NewLocal(log)}
}

// job records a job in a state.
func (r *rig) job(id string, state store.JobState) {
	r.t.Helper()
	require.NoError(r.t, r.store.Update(r.t.Context(), func(tx *store.Tx) error {
		return tx.PutJob(store.Job{JobID: id, Operation: "hive_check", Request: []byte(`{}`), State: state, CreatedAt: tx.Now()})
	}))
}

// tell commits events of a job, or of none, one for each message.
func (r *rig) tell(jobID string, messages ...string) {
	r.t.Helper()
	require.NoError(r.t, r.Commit(r.t.Context(), func(b *journal.Batch) error {
		for _, m := range messages {
			if err := b.Event(store.EventState, jobID, "", m, nil); err != nil {
				return err
			}
		}
		return nil
	}))
}

// end records the end of a job with its last event.
func (r *rig) end(id string) {
	r.t.Helper()
	require.NoError(r.t, r.Commit(r.t.Context(), func(b *journal.Batch) error {
		j, err := b.Job(id)
		if err != nil {
			return err
		}
		j.State = store.JobSucceeded
		if err := b.PutJob(j); err != nil {
			return err
		}
		return b.Event(store.EventEnd, id, "", "end", nil)
	}))
}

// forget removes a job with its events.
func (r *rig) forget(id string) {
	r.t.Helper()
	require.NoError(r.t, r.store.Update(r.t.Context(), func(tx *store.Tx) error { return tx.DeleteJob(id) }))
}

// recorded are the messages of all events in the file.
func (r *rig) recorded() []string {
	r.t.Helper()
	list := []string{}
	require.NoError(r.t, r.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10000)
		for _, ev := range evs {
			list = append(list, ev.Message)
		}
		return err
	}))
	return list
}

// hold keeps the store's writer busy until release is called.
func (r *rig) hold() (release func()) {
	r.t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.store.Update(context.Background(), func(*store.Tx) error { close(held); <-free; return nil })
	}()
	r.soon(held, "the writer is held")
	return func() { close(free); require.NoError(r.t, <-done) }
}

// soon waits for a channel to be closed.
func (r *rig) soon(ch <-chan struct{}, what string) {
	r.t.Helper()
	select {
	case <-ch:
	case <-time.After(long):
		require.FailNow(r.t, "not in time: "+what)
	}
}

// eventually waits for a condition.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	require.Eventually(r.t, ok, long, 2*time.Millisecond, what)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// listener is somebody who follows events in a goroutine.
type listener struct {
	t    testing.TB
	got  chan string
	end  chan error // what the iteration ended with; nil: no error
	stop context.CancelFunc
}

// listen follows events; nothing may be asked of it but in the order of what comes.
func listen(t testing.TB, follow func(context.Context) iter.Seq2[store.Event, error]) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{t: t, got: make(chan string), end: make(chan error, 1), stop: cancel}
	t.Cleanup(cancel)
	events := follow(ctx)
	go func() {
		for ev, err := range events {
			if err != nil {
				l.end <- err
				return
			}
			select {
			case l.got <- ev.Message:
			case <-ctx.Done():
			}
		}
		l.end <- nil
	}()
	return l
}

// hears requires that these messages come next.
func (l *listener) hears(messages ...string) {
	l.t.Helper()
	for _, want := range messages {
		select {
		case got := <-l.got:
			require.Equal(l.t, want, got)
		case err := <-l.end:
			require.FailNow(l.t, "the iteration ended", "before %q, with %v", want, err)
		case <-time.After(long):
			require.FailNow(l.t, "nothing came", "waiting for %q", want)
		}
	}
}

// ends returns what the iteration ended with, without anything before.
func (l *listener) ends() error {
	l.t.Helper()
	select {
	case got := <-l.got:
		require.FailNow(l.t, "the iteration goes on", "with %q", got)
	case err := <-l.end:
		return err
	case <-time.After(long):
		require.FailNow(l.t, "the iteration did not end")
	}
	return nil
}

// numbered are n messages.
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("event %d", i+1)
	}
	return list
}
