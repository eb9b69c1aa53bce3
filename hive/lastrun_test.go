package hive_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Who finds hive started again learns whether it was killed; one that ends by itself leaves
// nothing behind that says so.
func TestHowTheLastHiveEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	last := func() (run store.Run) {
		r.edit(func(tx *store.Tx) (err error) {
			run, err = tx.LastRun()
			return err
		})
		return run
	}
	r.open()
	r.close()
	require.Zero(t, last(), "it has ended by itself")

	boot, err := proc.BootID()
	require.NoError(t, err)
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	killed := "the last hive (PID 4711, since 2026-03-01T12:00:00Z) was killed or has crashed"
	for _, was := range []struct {
		run  store.Run
		want []string
	}{
		{store.Run{PID: 4711, BootID: boot, StartedAt: since, OOMKills: math.MaxUint64}, []string{killed}},
		{store.Run{PID: 4711, BootID: "another", StartedAt: since}, []string{"the machine went down while the last hive ran (PID 4711, since 2026-03-01T12:00:00Z)"}},
		{store.Run{}, nil},
	} {
		var before uint64
		r.edit(func(tx *store.Tx) error {
			require.NoError(t, tx.SetRun(&was.run))
			bounds, err := tx.EventBounds()
			before = bounds.Newest
			return err
		})
		r.open()
		r.close()
		require.Zero(t, last())
		var told []string
		r.edit(func(tx *store.Tx) error {
			events, err := tx.Events(before, 0)
			for _, ev := range events {
				told = append(told, ev.Message)
			}
			return err
		})
		require.Equal(t, append(was.want, "hive started: 0 adopted, 0 freed"), told)
	}
}
