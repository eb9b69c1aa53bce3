package supervisor

import (
	"cmp"
	"context"
	"errors"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// preflightTimeout is how long a preflight may take; those of a reload together, too.
const preflightTimeout = 5 * time.Second

// Preflight returns what a start of a worker would fail for at once, before it has a port
// or a process: a program, model, directory, user or env_file that is missing. Nothing is
// changed. It blocks for the file system, preflightTimeout at most: one that does not answer
// is what a start would fail for, too.
func (s *Supervisor) Preflight(ctx context.Context, op operation.Spawn) error {
	return s.preflight(ctx, s.catalog(), store.Worker{
		Name: op.Name, Type: op.Worker, Port: s.ports.First,
		Asked: store.Asked{Model: op.Model, Device: op.Device, Params: op.Params, Port: op.Port},
	})
}

// preflight is Preflight for a worker that has a record: these mistakes must not cost the
// process that it has.
func (s *Supervisor) preflight(ctx context.Context, types *catalog.Catalog, rec store.Worker) error {
	typ, err := typeIn(types, rec.Type)
	if err != nil {
		return err
	}
	rec.Asked.Port = cmp.Or(rec.Asked.Port, typ.Port)
	defer s.launcher.HoldModel(typ, rec)()
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	// In a goroutine that may be left behind: to look for a program takes as long as its
	// file system likes.
	_, err = proc.AsUser(ctx, "", func() (struct{}, error) {
		own := rec
		_, err := s.launcher.Prepare(ctx, typ, &own)
		return struct{}{}, err
	})
	if errors.Is(err, proc.ErrHangs) {
		return errdefs.Fail(errdefs.CodeExecFailed, "a file system that worker type %q needs does not answer", rec.Type)
	}
	return err
}
