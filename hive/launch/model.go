package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// HoldModel keeps the model of a worker that is being started from being deleted.
// Once the worker is live it keeps it itself.
func (l *Launcher) HoldModel(typ *catalog.Type, rec store.Worker) (release func()) {
	if _, release, ok := l.Models.Hold(modelOf(typ, rec.Asked.Model)); ok {
		return release
	}
	// A path, or no model of the catalog: hive does not delete those.
	return func() {}
}

func modelOf(typ *catalog.Type, asked string) string {
	if asked != "" {
		return asked
	}
	return typ.Model
}

// Located replaces the id of a model of the catalog by its path, for the program.
// What a worker is said to have stays the id.
func (l *Launcher) Located(typ *catalog.Type, v catalog.Values) catalog.Values {
	id := modelOf(typ, v.Model)
	if path, release, ok := l.Models.Hold(id); ok {
		release() // whoever starts a worker holds it longer
		v.Model, v.ModelID = path, id
	}
	return v
}

// readable finds out whether the user of a worker can read the model of the catalog
// that it is to have: its program would only say that it cannot be loaded.
func (l *Launcher) readable(ctx context.Context, typ *catalog.Type, rec store.Worker) error {
	// It runs as hive's user, to whom the catalog belongs.
	if rec.Spec.User == "" {
		return nil
	}
	id := modelOf(typ, rec.Asked.Model)
	path, release, ok := l.Models.Hold(id)
	if !ok {
		return nil
	}
	release() // whoever starts a worker holds it longer
	// The model may lie on a network file system that does not answer.
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	_, err := proc.AsUser(ctx, rec.Spec.User, func() (struct{}, error) {
		f, err := os.Open(path) //nolint:gosec // a model, opened with the rights of the worker's user
		if err == nil {
			_ = f.Close()
		}
		return struct{}{}, err
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errdefs.Fail(errdefs.CodeExecFailed, "model %s: user %s, whom the worker runs as, must be able to read it, and to enter the directories it is in: %v", id, rec.Spec.User, err)
	case err != nil:
		return errdefs.Fail(errdefs.CodeExecFailed, "model %s: %v", id, err)
	}
	return nil
}
