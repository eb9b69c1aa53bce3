package hive_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/lease"
	"rbeehive/store"
)

// Who is so slow that events are removed before it has read them is told.
func TestAReaderThatFallsBehindThePruningIsCut(t *testing.T) {
	t.Parallel()
	const old = 600
	r := newRig(t, 1)
	r.cfg.AuditInterval = time.Hour
	r.edit(func(tx *store.Tx) error {
		for range old {
			if _, err := tx.AppendEvent(store.Event{Type: store.EventAudit, At: time.Now().Add(-400 * time.Hour)}); err != nil {
				return err
			}
		}
		return nil
	})
	r.open()
	slow := r.everything(journal.Start{})
	quick := r.everything(journal.Start{After: old})
	require.EqualValues(t, 1, slow.next().Seq)
	require.EqualValues(t, old+1, quick.next().Seq)
	r.h.Prune(t.Context())
	require.EqualValues(t, old+1, r.everything(journal.Start{Oldest: true}).next().Seq, "the oldest that is kept")

	events, _, _, err := r.h.Events(t.Context(), journal.Start{After: old - 1})
	require.Nil(t, events)
	require.ErrorIs(t, err, errdefs.ErrEventsGone)
	require.ErrorContains(t, err, fmt.Sprintf("one can go on after %d", old))
	r.submit(map[string]any{"operation": "infer"})
	require.EqualValues(t, old+2, quick.next().Seq, "who has read them misses nothing")
	for n := range 255 { // what it had read with the first one
		require.EqualValues(t, n+2, slow.next().Seq)
	}
	_, err, _ = slow.pull()
	require.ErrorIs(t, err, errdefs.ErrEventsGone)
}

// reader reads everything, one event after the other.
type reader struct {
	*testing.T
	pull func() (store.Event, error, bool)
}

// everything begins to read.
func (r *rig) everything(start journal.Start) *reader {
	r.Helper()
	events, _, _, err := r.h.Events(r.Context(), start)
	require.NoError(r, err)
	pull, stop := iter.Pull2(events)
	r.Cleanup(stop)
	return &reader{r.T, pull}
}

// next waits for the next event.
func (r *reader) next() store.Event {
	r.Helper()
	ev, err, ok := r.pull()
	require.NoError(r, err)
	require.True(r, ok)
	return ev
}

// leaseStory is the states of a lease as the events up to the last one tell them.
func (r *reader) leaseStory(id, last string) (states []string) {
	r.Helper()
	for {
		ev := r.next()
		var data struct {
			LeaseID string `json:"lease_id"`
			Kind    string `json:"kind"`
			State   string `json:"state"`
		}
		if json.Unmarshal(ev.Data, &data) != nil || data.LeaseID != id {
			continue
		}
		require.Equal(r, store.EventPort, ev.Type, ev.Message)
		states = append(states, data.Kind+" "+data.State)
		if strings.HasSuffix(states[len(states)-1], " "+last) {
			return states
		}
	}
}

// Everything that happens to the lease of another program is told.
func TestTheStoryOfALease(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.open()
	feed := r.everything(journal.Start{Latest: true})
	l := r.lease(byTTL(time.Minute))
	_, err := r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID}) // is no event
	require.NoError(t, err)
	p := program(t)
	_, err = r.h.RenewLease(t.Context(), access.Hive(), l.Port, lease.Renewal{LeaseID: l.LeaseID, Holder: lease.Holder{PID: p.Pid}})
	require.NoError(t, err)
	squatter := listenOn(t, l.Port)
	require.NoError(t, p.Kill())
	require.Equal(t, []string{"ttl held", "process held", "process quarantined"}, feed.leaseStory(l.LeaseID, "quarantined"))
	require.NoError(t, squatter.Close())
	freed, err := r.h.ReleaseLease(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	require.Equal(t, []string{"process free"}, feed.leaseStory(l.LeaseID, "free"))

	short := r.lease(byTTL(time.Second))
	require.Equal(t, []string{"ttl held", "ttl free"}, feed.leaseStory(short.LeaseID, "free"))
	gone := program(t)
	left := r.lease(byPID(gone.Pid))
	r.close()
	require.NoError(t, gone.Kill())
	r.eventually("it is gone", func() bool { return !alive(gone.Pid) })
	r.open()
	feed = r.everything(journal.Start{Oldest: true})
	require.Equal(t, []string{"process held", "process free"}, feed.leaseStory(left.LeaseID, "free"))
	started := feed.next()
	require.Equal(t, "hive started: 0 adopted, 0 freed", started.Message, "the last of what a start has found")

	_, err = r.h.Reload(t.Context(), hive.ReloadConfig{Catalog: r.cfg.Catalog}, false)
	require.NoError(t, err)
	reloaded := feed.next()
	require.Equal(t, store.EventState, reloaded.Type)
	require.Contains(t, string(reloaded.Data), `"hive":"reloaded"`)
}
