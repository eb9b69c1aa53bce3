package supervisor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// A machine that boots with a clock of last year, say, must not leave its workers
// waiting until it is this year again.
func TestUntilTryWithAClockThatWasSet(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		next, want time.Duration
	}{
		"as recorded":   {next: 20 * time.Second, want: 20 * time.Second},
		"due":           {next: -time.Second, want: -time.Second},
		"turned ahead":  {next: -24 * time.Hour, want: -24 * time.Hour},
		"turned back":   {next: 365 * 24 * time.Hour, want: 30 * time.Second},
		"a moment back": {next: 31 * time.Second, want: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			next := now.Add(c.next)
			rec := store.Worker{NextTry: &next}
			rec.Spec.Restart = store.Restart{Backoff: time.Second, MaxBackoff: 30 * time.Second}
			require.Equal(t, c.want, untilTry(rec, now))
		})
	}
}
