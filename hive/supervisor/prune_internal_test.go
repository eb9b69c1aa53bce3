package supervisor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// One that ended while the clock was ahead keeps no others from being pruned.
func TestAnEndOfATimeToCome(t *testing.T) {
	t.Parallel()
	types, err := catalog.New(nil, "/bin/true")
	require.NoError(t, err)
	r, now := newRegistry(), time.Now()
	for i := range minEnded + 10 {
		at := now.Add(-time.Hour)
		if i == 0 {
			at = now.Add(1000 * time.Hour)
		}
		r.addEnded([]store.Worker{{WorkerID: fmt.Sprintf("cpu-%d", i), EndedAt: &at}})
	}
	var ids []string
	for _, rec := range r.prunable(now, time.Minute, types) {
		ids = append(ids, rec.WorkerID)
	}
	require.Equal(t, []string{"cpu-1", "cpu-2", "cpu-3", "cpu-4", "cpu-5", "cpu-6", "cpu-7", "cpu-8", "cpu-9"}, ids)
}
