package lifecycle_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/lifecycle"
	"rbeehive/store"
)

var (
	allStates = []store.WorkerState{
		"", store.WorkerSpawning, store.WorkerRunning, store.WorkerLoading, store.WorkerReady, store.WorkerUnhealthy,
		store.WorkerStopping, store.WorkerBackoff, store.WorkerUnverified, store.WorkerStopped, store.WorkerFailed,
	}
	allEvents = map[lifecycle.Event]string{
		lifecycle.Created: "created", lifecycle.Started: "started", lifecycle.Opened: "opened", lifecycle.Listens: "listens",
		lifecycle.Serves: "serves", lifecycle.Silent: "silent", lifecycle.Ending: "ending", lifecycle.Gone: "gone",
		lifecycle.Unsure: "unsure", lifecycle.Verified: "verified", lifecycle.StopDropped: "stop dropped", lifecycle.Salvaged: "salvaged",
	}
	allThens = []lifecycle.Then{lifecycle.Fail, lifecycle.Stop, lifecycle.Retry, lifecycle.Start}
)

// to is the state that an event makes of one; a map where it depends on what follows.
type to = map[lifecycle.Event]any

// The whole table: every state, every event, everything that can follow. What is
// not listed cannot happen.
func TestTransitionIsThisTable(t *testing.T) {
	end := map[lifecycle.Then]store.WorkerState{
		lifecycle.Fail: store.WorkerFailed, lifecycle.Stop: store.WorkerStopped,
		lifecycle.Retry: store.WorkerBackoff, lifecycle.Start: store.WorkerFailed,
	}
	verified := func(state store.WorkerState) map[lifecycle.Then]store.WorkerState {
		return map[lifecycle.Then]store.WorkerState{
			lifecycle.Fail: state, lifecycle.Stop: store.WorkerStopping, lifecycle.Retry: state, lifecycle.Start: state,
		}
	}
	// The events that mean the same in each state with a process.
	living := func(found store.WorkerState, more to) to {
		m := to{
			lifecycle.Serves: store.WorkerReady, lifecycle.Ending: store.WorkerStopping, lifecycle.Gone: end,
			lifecycle.Unsure: store.WorkerUnverified, lifecycle.Verified: verified(found), lifecycle.StopDropped: store.WorkerRunning,
		}
		for ev, state := range more {
			m[ev] = state
		}
		return m
	}
	table := map[store.WorkerState]to{
		"": {lifecycle.Created: store.WorkerSpawning},
		store.WorkerSpawning: living(store.WorkerRunning, to{
			lifecycle.Opened: store.WorkerRunning, lifecycle.Listens: store.WorkerLoading,
		}),
		store.WorkerRunning:   living(store.WorkerRunning, to{lifecycle.Listens: store.WorkerLoading, lifecycle.Silent: store.WorkerUnhealthy}),
		store.WorkerLoading:   living(store.WorkerLoading, to{lifecycle.Listens: store.WorkerLoading, lifecycle.Silent: store.WorkerUnhealthy}),
		store.WorkerReady:     living(store.WorkerReady, to{lifecycle.Silent: store.WorkerUnhealthy}),
		store.WorkerUnhealthy: living(store.WorkerUnhealthy, to{lifecycle.Silent: store.WorkerUnhealthy}),
		store.WorkerStopping: {
			lifecycle.Started: store.WorkerSpawning, lifecycle.Ending: store.WorkerStopping, lifecycle.Gone: end,
			lifecycle.Unsure: store.WorkerUnverified, lifecycle.Verified: verified(store.WorkerStopping), lifecycle.StopDropped: store.WorkerRunning,
		},
		store.WorkerBackoff: {lifecycle.Started: store.WorkerSpawning, lifecycle.Gone: end, lifecycle.Unsure: store.WorkerUnverified},
		store.WorkerUnverified: {
			lifecycle.Gone: end, lifecycle.Unsure: store.WorkerUnverified, lifecycle.Verified: verified(store.WorkerRunning), lifecycle.StopDropped: store.WorkerRunning,
		},
		store.WorkerStopped: {lifecycle.Started: store.WorkerSpawning},
		store.WorkerFailed:  {lifecycle.Started: store.WorkerSpawning},
	}
	for _, state := range allStates {
		table[state][lifecycle.Salvaged] = store.WorkerRunning
		for ev, name := range allEvents {
			for _, then := range allThens {
				t.Run(fmt.Sprintf("%s/%s/%d", state, name, then), func(t *testing.T) {
					rec := store.Worker{State: state}
					ok := lifecycle.Transition(&rec, ev, then)
					want, can := table[state][ev]
					if byThen, depends := want.(map[lifecycle.Then]store.WorkerState); depends {
						want = byThen[then]
					}
					require.Equal(t, can, ok)
					if !can {
						want = state
					}
					require.Equal(t, want, rec.State)
				})
			}
		}
	}
}

// Whatever happens, a worker can always be found to have ended.
func TestEveryLiveStateCanEnd(t *testing.T) {
	for _, state := range allStates[1:] {
		rec := store.Worker{State: state}
		require.Equal(t, !state.Ended(), lifecycle.Transition(&rec, lifecycle.Gone, lifecycle.Fail), state)
	}
}

func TestPublicState(t *testing.T) {
	require.Equal(t, "starting", lifecycle.PublicState(store.WorkerSpawning))
	require.Equal(t, "starting", lifecycle.PublicState(store.WorkerRunning))
	require.Equal(t, "ready", lifecycle.PublicState(store.WorkerReady))
}
