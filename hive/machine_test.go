package hive

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

var (
	allStates = []store.WorkerState{
		store.WorkerSpawning, store.WorkerRunning, store.WorkerLoading, store.WorkerReady, store.WorkerUnhealthy,
		store.WorkerStopping, store.WorkerBackoff, store.WorkerUnverified, store.WorkerStopped, store.WorkerFailed,
	}
	allEvents = map[event]string{
		evOpened: "opened", evListens: "listens", evServes: "serves", evSilent: "silent", evGiveUp: "give up", evStop: "stop",
		evRestart: "restart", evGone: "gone", evLeft: "left", evDue: "due", evCannot: "cannot", evUnsure: "unsure", evSure: "sure",
	}
	allAfters = []after{thenFail, thenStop, thenRetry, thenStart}
)

// The whole table: every state, every event, everything that can follow. What is
// not listed cannot happen.
func TestDecideIsThisTable(t *testing.T) {
	end := map[after]move{
		thenFail:  {store.WorkerFailed, doFree},
		thenStop:  {store.WorkerStopped, doFree},
		thenRetry: {store.WorkerBackoff, doWait},
		thenStart: {store.WorkerSpawning, doStart},
	}
	stopping := move{store.WorkerStopping, doEnd}
	quarantined := move{store.WorkerFailed, doQuarantine}
	unverified := move{store.WorkerUnverified, doJudge}
	ready := move{store.WorkerReady, doNothing}
	// The events that mean the same in each state with a process.
	living := func(more map[event]any) map[event]any {
		m := map[event]any{
			evServes: ready, evGiveUp: stopping, evStop: stopping, evRestart: stopping,
			evGone: end, evLeft: quarantined, evUnsure: unverified,
		}
		for ev, to := range more {
			m[ev] = to
		}
		return m
	}
	loading := move{store.WorkerLoading, doLook}
	unhealthy := move{store.WorkerUnhealthy, doLook}
	table := map[store.WorkerState]map[event]any{
		store.WorkerSpawning: living(map[event]any{
			evOpened: move{store.WorkerRunning, doLook}, evSure: move{store.WorkerRunning, doLook}, evListens: loading, evCannot: end,
		}),
		store.WorkerRunning:   living(map[event]any{evSure: move{store.WorkerRunning, doLook}, evListens: loading, evSilent: unhealthy}),
		store.WorkerLoading:   living(map[event]any{evSure: loading, evListens: loading, evSilent: unhealthy}),
		store.WorkerReady:     living(map[event]any{evSure: move{store.WorkerReady, doLook}, evSilent: unhealthy}),
		store.WorkerUnhealthy: living(map[event]any{evSure: unhealthy, evSilent: unhealthy}),
		store.WorkerStopping: {
			evStop: move{store.WorkerStopping, doNothing}, evRestart: move{store.WorkerStopping, doNothing},
			evGone: end, evLeft: quarantined, evUnsure: unverified, evSure: stopping,
		},
		store.WorkerBackoff: {
			evDue: move{store.WorkerSpawning, doStart}, evRestart: move{store.WorkerSpawning, doStart},
			evStop: move{store.WorkerStopped, doFree}, evCannot: end,
		},
		store.WorkerUnverified: {
			evSure: map[after]move{
				thenFail: {store.WorkerRunning, doLook}, thenStop: stopping, thenRetry: {store.WorkerRunning, doLook}, thenStart: {store.WorkerRunning, doLook},
			},
			evUnsure: unverified, evGone: end, evLeft: quarantined,
		},
		store.WorkerStopped: {evRestart: move{store.WorkerSpawning, doStart}},
		store.WorkerFailed:  {evRestart: move{store.WorkerSpawning, doStart}},
	}
	require.Len(t, table, len(allStates))
	for _, state := range allStates {
		for ev, name := range allEvents {
			for _, then := range allAfters {
				var want move
				possible := true
				switch to := table[state][ev].(type) {
				case nil:
					possible = false
				case move:
					want = to
				case map[after]move:
					want = to[then]
				}
				got, ok := decide(state, ev, then)
				require.Equal(t, possible, ok, "%s, %s", state, name)
				require.Equal(t, want, got, "%s, %s, then %d", state, name, then)
			}
		}
	}
}

// What holds of every move, whatever the table says.
func TestEveryMoveKeepsThePromises(t *testing.T) {
	for _, state := range allStates {
		for ev, name := range allEvents {
			for _, then := range allAfters {
				m, ok := decide(state, ev, then)
				if !ok {
					continue
				}
				what := fmt.Sprintf("%s, %s -> %s", state, name, m.to)
				require.Equal(t, m.to.Ended(), m.do == doFree || m.do == doQuarantine, "ports go with the end, and only then: %s", what)
				require.Equal(t, ev == evLeft, m.do == doQuarantine, what)
				require.False(t, m.do == doStart && m.to != store.WorkerSpawning, what)
				require.False(t, m.do == doStart && (state == store.WorkerReady || state == store.WorkerUnverified) && ev != evGone,
					"a new process only when the old one is proven gone: %s", what)
				require.False(t, m.to == store.WorkerReady && ev != evServes && state != store.WorkerReady, "ready only on evidence: %s", what)
				if state == store.WorkerUnverified {
					require.NotEqual(t, doFree, map[bool]action{true: doNothing, false: m.do}[ev == evGone], "nothing is freed that may live: %s", what)
				}
			}
		}
	}
}

func TestRetry(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ago := func(list ...time.Duration) (times []time.Time) {
		for _, d := range list {
			times = append(times, now.Add(-d))
		}
		return times
	}
	zero, one := 0, 1
	on := store.Restart{Policy: store.RestartOnFailure, Max: 5, Window: 10 * time.Minute, Backoff: time.Second, MaxBackoff: 30 * time.Second}
	always, never := on, on
	always.Policy, never.Policy = store.RestartAlways, store.RestartNever
	many := make([]time.Time, 999)
	for i := range many {
		many[i] = now
	}
	four := ago(8*time.Minute, 6*time.Minute, 4*time.Minute, time.Minute)
	for name, c := range map[string]struct {
		policy   store.Restart
		before   []time.Time
		wasReady bool
		exit     *store.Exit
		want     time.Duration // 0: no new start
	}{
		"never":                        {policy: never, exit: &store.Exit{Code: &one}},
		"no policy (an old record)":    {exit: &store.Exit{Code: &one}},
		"first failure":                {policy: on, exit: &store.Exit{Code: &one}, want: time.Second},
		"exit 0 before it was ready":   {policy: on, exit: &store.Exit{Code: &zero}, want: time.Second},
		"exit 0 after it was ready":    {policy: on, wasReady: true, exit: &store.Exit{Code: &zero}},
		"the same, always":             {policy: always, wasReady: true, exit: &store.Exit{Code: &zero}, want: time.Second},
		"killed":                       {policy: on, wasReady: true, exit: &store.Exit{Signal: "SIGKILL"}, want: time.Second},
		"an unknown exit is a failure": {policy: on, wasReady: true, exit: &store.Exit{}, want: time.Second},
		"no process at all":            {policy: on, want: time.Second},
		"second":                       {policy: on, before: ago(time.Minute), want: 2 * time.Second},
		"fourth":                       {policy: on, before: four[1:], want: 8 * time.Second},
		"fifth":                        {policy: on, before: four, want: 16 * time.Second},
		"sixth is one too many":        {policy: on, before: append(ago(9*time.Minute), four...)},
		"too many, also always":        {policy: always, before: append(ago(9*time.Minute), four...)},
		"old ones do not count":        {policy: on, before: append(ago(time.Hour, 11*time.Minute), four...), want: 16 * time.Second},
		"the longest wait":             {policy: store.Restart{Policy: store.RestartAlways, Max: 100, Window: time.Hour, Backoff: time.Second, MaxBackoff: 5 * time.Second}, before: four, want: 5 * time.Second},
		"a wait beyond all numbers":    {policy: store.Restart{Policy: store.RestartAlways, Max: 1000, Window: time.Hour, Backoff: time.Hour, MaxBackoff: 1 << 62}, before: many, want: 1 << 62},
	} {
		wait, again := retry(c.policy, c.before, c.wasReady, c.exit, now, 0)
		require.Equal(t, c.want != 0, again, name)
		require.Equal(t, c.want, wait, name)
		spread, _ := retry(c.policy, c.before, c.wasReady, c.exit, now, 0.999)
		require.GreaterOrEqual(t, spread, c.want*4/5, name)
		require.LessOrEqual(t, spread, c.want, name)
	}
}
