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
	lasting, spawning, next := proc.Orphan{PID: 7, Start: 70}, proc.Orphan{PID: 8, Start: 80}, proc.Orphan{PID: 9, Start: 90}
	reused := proc.Orphan{PID: 8, Start: 85}
	require.Equal(t, []proc.Orphan{lasting}, inBoth([]proc.Orphan{spawning, lasting}, []proc.Orphan{lasting, reused, next}))
	require.Empty(t, inBoth([]proc.Orphan{spawning}, []proc.Orphan{next}))
	require.Empty(t, inBoth([]proc.Orphan{spawning}, nil))
}
