package hive

import (
	"context"
	"slices"

	"rbeehive/hive/proc"
)

// straysAgain looks a second time, and returns only those that were seen before:
// while workers come and go there is nearly always one that is being spawned or
// that has just ended, each time another.
func (h *Hive) straysAgain(ctx context.Context, before []proc.Stray) ([]proc.Stray, error) {
	now, err := h.strays(ctx)
	return inBoth(before, now), err
}

// inBoth returns the processes of now that are in before too.
func inBoth(before, now []proc.Stray) []proc.Stray {
	return slices.DeleteFunc(slices.Clone(now), func(s proc.Stray) bool {
		return !slices.ContainsFunc(before, func(b proc.Stray) bool { return b.PID == s.PID && b.Start == s.Start })
	})
}
