package launch_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/models"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// The program gets the path of a model of hive's own; what the worker is said to have
// stays the id.
func TestAModelOfTheCatalogIsLocated(t *testing.T) {
	r := newRig(t)
	m := r.model("org/name:m.gguf")
	fixed := r.model("org/fixed:m.gguf")
	typ := typeOf(t, catalog.Entry{Command: []string{"/bin/true", "--model", "{{.Model}}"}, Model: fixed.ID})
	own := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(own, nil, 0o600))
	for asked, want := range map[string][2]string{
		m.ID:             {m.Path, m.ID},
		"":               {fixed.Path, fixed.ID},
		"org/other":      {"org/other", "org/other"},
		own:              {own, own},
		"org/name:other": {"org/name:other", "org/name:other"},
	} {
		rec := r.record(typ)
		rec.Asked.Model = asked
		_, err := r.Prepare(t.Context(), typ, &rec)
		require.NoError(t, err)
		require.Equal(t, []string{"/bin/true", "--model", want[0]}, rec.Spec.Argv, asked)
		require.Equal(t, want[1], rec.Spec.Model, asked)
	}
	none := func(models.Model) []string { return nil }
	require.NoError(t, r.Models.Delete(m.ID, none), "who only looks does not keep it")
}

// What was seen: the program got local/tiny and asked the hub for it.
func TestAnImportByItsNameAlone(t *testing.T) {
	r := newRig(t)
	m := r.model("local/tiny:tiny.gguf")
	typ := typeOf(t, catalog.Entry{Model: "local/tiny"})
	got := r.Located(typ, catalog.Values{})
	require.Equal(t, []string{m.Path, m.ID}, []string{got.Model, got.ModelID})
	rec := r.record(typ)
	_, err := r.Prepare(t.Context(), typ, &rec)
	require.NoError(t, err)
	r.model("local/tiny:b.gguf")
	_, err = r.Prepare(t.Context(), typ, &rec)
	f, ok := errors.AsType[*errdefs.Failure](err)
	require.True(t, ok)
	require.Equal(t, errdefs.CodeModelAmbiguous, f.Code)
	require.Contains(t, f.Message, "say local/tiny:b.gguf, local/tiny:tiny.gguf")
}

// A model is not deleted under a start; once the worker is live it keeps it itself.
func TestAStartHoldsItsModel(t *testing.T) {
	r := newRig(t)
	m := r.model("org/name:m.gguf")
	none := func(models.Model) []string { return nil }
	for _, c := range []struct {
		entry catalog.Entry
		asked string
	}{{asked: m.ID}, {entry: catalog.Entry{Model: m.ID}}} {
		release := r.HoldModel(typeOf(t, c.entry), store.Worker{Asked: store.Asked{Model: c.asked}})
		require.ErrorIs(t, r.Models.Delete(m.ID, none), models.ErrInUse)
		release()
	}
	for _, asked := range []string{"", "org/other", "/srv/m.gguf"} {
		release := r.HoldModel(typeOf(t, catalog.Entry{}), store.Worker{Asked: store.Asked{Model: asked}})
		release() // of what hive does not delete there is nothing to hold
	}
	require.NoError(t, r.Models.Delete(m.ID, none))
}

// A model that the worker's user cannot read is said to be so before anything is leased; a
// program would say no more than that it cannot be loaded.
func TestAModelThatTheUserCannotRead(t *testing.T) {
	skip.UnlessRoot(t, "only root starts workers as other users")
	r := newRig(t)
	dir := publicDir(t)
	require.NoError(t, os.Chmod(dir, 0o755)) // what holds models is nobody else's to write to
	library, err := models.New(models.Options{Dir: filepath.Join(dir, "private", "models")})
	require.NoError(t, err)
	t.Cleanup(library.Close)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "private"), 0o700))
	r.Models = library
	m := r.model("org/name:m.gguf")
	require.NoError(t, os.Chmod(m.Path, 0o644))
	entry := catalog.Entry{Command: []string{"/bin/true", "{{.Model}}"}, User: outsider}
	prepare := func(entry catalog.Entry, asked string) error {
		typ := typeOf(t, entry)
		rec := r.record(typ)
		rec.Asked.Model = asked
		_, err := r.Prepare(t.Context(), typ, &rec)
		return err
	}
	f := requireFailure(t, prepare(entry, m.ID), errdefs.CodeExecFailed)
	require.Equal(t, "model org/name:m.gguf: user "+outsider+", whom the worker runs as, must be able to read it, and to enter the directories it is in: open "+m.Path+": permission denied", f.Message)
	require.NoError(t, prepare(entry, "org/other:m.gguf"), "what is neither a path nor of the catalog is the program's to find")
	own := entry
	own.User = ""
	require.NoError(t, prepare(own, m.ID))
	// As the data directory is for the group of worker_user.
	require.NoError(t, os.Chown(filepath.Join(dir, "private"), 0, 54322))
	require.NoError(t, os.Chmod(filepath.Join(dir, "private"), 0o710))
	require.NoError(t, prepare(entry, m.ID))
}
