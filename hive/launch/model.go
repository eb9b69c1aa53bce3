package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/models"
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
	if m, release, ok := l.Models.Hold(modelOf(typ, v.Model)); ok {
		release() // whoever starts a worker holds it longer
		v.Model, v.ModelID = m.Path, m.ID
	}
	return v
}

// ambiguous refuses a model of which the catalog has several: the program would get the
// name, and look for it on the hub.
func (l *Launcher) ambiguous(typ *catalog.Type, rec store.Worker) error {
	if _, err := l.Models.Find(modelOf(typ, rec.Asked.Model)); err != nil {
		return errdefs.Fail(errdefs.CodeModelAmbiguous, "%s", strings.TrimPrefix(err.Error(), models.ErrAmbiguous.Error()+": "))
	}
	return nil
}

// readable finds out whether the user of a worker can read the model of the catalog
// that it is to have: its program would only say that it cannot be loaded.
func (l *Launcher) readable(ctx context.Context, typ *catalog.Type, rec store.Worker) error {
	// It runs as hive's user, to whom the catalog belongs.
	if rec.Spec.User == "" {
		return nil
	}
	m, release, ok := l.Models.Hold(modelOf(typ, rec.Asked.Model))
	if !ok {
		return nil
	}
	release() // whoever starts a worker holds it longer
	// The model may lie on a network file system that does not answer.
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	_, err := lookAtModel.As(ctx, rec.Spec.User, m.Path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return errdefs.Fail(errdefs.CodeExecFailed, "model %s: user %s, whom the worker runs as, must be able to read it, and to enter the directories it is in: %v", m.ID, rec.Spec.User, err)
	case err != nil:
		return errdefs.Fail(errdefs.CodeExecFailed, "model %s: %v", m.ID, err)
	}
	return nil
}

var lookAtModel = proc.NewLook("model", func(path string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // with the rights of the worker's user
	if err == nil {
		_ = f.Close()
	}
	return err == nil, err
})
