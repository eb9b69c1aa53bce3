package audit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

// The contention test found it: with workers being spawned all the time each of
// the sweep's two looks saw one that was not recorded yet, never the same, and
// hive said that a process without a record was there.
func TestSweepCountsOnlyWhoIsSeenTwice(t *testing.T) {
	lasting, spawning, next := proc.Stray{PID: 7, Start: 70}, proc.Stray{PID: 8, Start: 80}, proc.Stray{PID: 9, Start: 90}
	reused := proc.Stray{PID: 8, Start: 85}
	require.Equal(t, []proc.Stray{lasting}, inBoth([]proc.Stray{spawning, lasting}, []proc.Stray{lasting, reused, next}))
	require.Empty(t, inBoth([]proc.Stray{spawning}, []proc.Stray{next}))
	require.Empty(t, inBoth([]proc.Stray{spawning}, nil))
}
