package supervisor

import (
	"cmp"
	"context"

	"rbeehive/hive/catalog"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// Preflight returns what a start of a worker would fail for at once, before it has a port
// or a process: a program, model, directory, user or env_file that is missing. Nothing is
// changed. It blocks for the file system, some seconds at most.
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
	_, err = s.launcher.Prepare(ctx, typ, &rec)
	return err
}
