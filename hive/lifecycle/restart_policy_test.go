package lifecycle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/lifecycle"
	"rbeehive/store"
)

func TestNextStart(t *testing.T) {
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
		wait, again := lifecycle.NextStart(c.policy, c.before, c.wasReady, c.exit, now, 0)
		require.Equal(t, c.want != 0, again, name)
		require.Equal(t, c.want, wait, name)
		spread, _ := lifecycle.NextStart(c.policy, c.before, c.wasReady, c.exit, now, 0.999)
		require.GreaterOrEqual(t, spread, c.want*4/5, name)
		require.LessOrEqual(t, spread, c.want, name)
	}
}
