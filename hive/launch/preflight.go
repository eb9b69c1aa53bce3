package launch

import (
	"cmp"
	"context"
	"errors"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// PreflightTimeout is how long a preflight may take; those of a reload together, too.
const PreflightTimeout = 5 * time.Second

// Preflight returns what a start of a worker would fail for at once: a program, model,
// directory, user or env_file that is missing. Nothing is changed. It blocks for the file
// system, PreflightTimeout at most: one that does not answer is what a start would fail for,
// too.
func (l *Launcher) Preflight(ctx context.Context, types *catalog.Catalog, rec store.Worker) error {
	typ, err := TypeIn(types, rec.Type)
	if err != nil {
		return err
	}
	rec.Asked.Port = cmp.Or(rec.Asked.Port, typ.Port)
	defer l.HoldModel(typ, rec)()
	ctx, cancel := context.WithTimeout(ctx, PreflightTimeout)
	defer cancel()
	// In a goroutine that may be left behind: to look for a program takes as long as its
	// file system likes.
	_, err = proc.AsUser(ctx, "", func() (struct{}, error) {
		own := rec
		_, err := l.Prepare(ctx, typ, &own)
		return struct{}{}, err
	})
	if errors.Is(err, proc.ErrHangs) {
		return errdefs.Fail(errdefs.CodeExecFailed, "a file system that worker type %q needs does not answer", rec.Type)
	}
	return err
}

// TypeIn returns a worker type by its name. The error is *errdefs.Failure if there is none.
func TypeIn(types *catalog.Catalog, name string) (*catalog.Type, error) {
	typ, ok := types.Type(name)
	if !ok {
		return nil, errdefs.Fail(errdefs.CodeProgramNotFound, "worker type %q is no longer configured", name)
	}
	return typ, nil
}
