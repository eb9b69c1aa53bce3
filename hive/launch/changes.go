package launch

import (
	"context"
	"errors"
	"slices"

	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Changes returns the keys of a worker's type that are not as they were when another hive
// started it: compared with its record, as far as that goes. What the record does not hold
// (env, above all) has changed if it had when it was last compared, by rec.Changed, or has
// since: between old, which is nil if there was none, and now. It looks for the program, which
// can take as long as proc.FindProgram, or until ctx ends.
func (l *Launcher) Changes(ctx context.Context, rec store.Worker, old, now *catalog.Type) []string {
	keys := []string{"command"} // a new start would not even find its command
	if spec, err := now.Render(l.ValuesOf(now, rec)); err == nil {
		// The record has the path that was found for the program, so the new one is looked up, too.
		program, err := proc.FindProgram(ctx, spec.Argv[0], WorkDir(spec.User, spec.Dir))
		switch {
		case err == nil:
			spec.Argv[0] = program
		case errors.Is(ctx.Err(), context.Canceled):
			return rec.Changed // nobody waits for the answer
		}
		keys = catalog.SpecChanges(rec.Spec, spec)
	}
	hidden := slices.Clone(rec.Changed)
	if old != nil {
		hidden = append(hidden, old.Changes(now).Start...)
	}
	keys = append(keys, slices.DeleteFunc(hidden, catalog.InSpec)...)
	slices.Sort(keys)
	return slices.Compact(keys)
}
