package workertype_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/workertype"
	"rbeehive/store"
)

// llama is a program that tells its version as llama-server does.
const llama = "echo 'version: 7 (x)'"

func (r *rig) install(id string) (any, error) {
	return r.Install(r.t.Context(), &job{}, operation.Install{WorkerID: id})
}

func (r *rig) remove(id string) (any, error) {
	return r.Remove(r.t.Context(), &job{}, operation.Remove{WorkerID: id})
}

// file is the file of an installed type.
func (r *rig) file(name string) string {
	return filepath.Join(r.dir, workertype.TypesDir, name+".yaml")
}

// installed are the names of the files of types.d.
func (r *rig) installed() (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.dir, workertype.TypesDir))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(r.t, err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestInstallAndRemove(t *testing.T) {
	path := inPath(t, "llama-server", llama)
	r := newRig(t)
	j := &job{}
	got, err := r.Install(t.Context(), j, operation.Install{WorkerID: "llama-server"})
	require.NoError(t, err)
	require.True(t, j.finalized, "it is not cancelled any more once something is written")
	v, ok := got.(operation.InstalledProgram)
	require.True(t, ok)
	require.Equal(t, []any{"llama-server", path, catalog.SourceInstalled, "7 (x)"}, []any{v.ID, v.Path, v.Source, *v.Version})
	text, err := os.ReadFile(r.file("llama-server"))
	require.NoError(t, err)
	require.Equal(t, "# Written by worker_install; worker_remove removes it. An entry of this name in hive.yaml wins.\nname: \"llama-server\"\npreset: \"llama-server\"\n", string(text))
	info, err := os.Stat(filepath.Dir(r.file("llama-server")))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, info.Mode())
	_, err = r.install("llama-server")
	require.NoError(t, err, "again is no mistake")

	removed, err := r.remove("llama-server")
	require.NoError(t, err)
	require.Equal(t, operation.Removed{WorkerID: "llama-server", Status: "removed"}, removed)
	require.Empty(t, r.installed())
	typ, ok := r.types.Type("llama-server")
	require.True(t, ok)
	require.Equal(t, catalog.SourcePreset, typ.Source)
	require.NoError(t, r.store.View(func(tx *store.Tx) error {
		rec, err := tx.Job("job-1")
		require.Equal(t, store.JobRunning, rec.State, "killed behind the removal it does not begin again")
		return err
	}))
}

// A program that a preset knows by another name is told its port as that preset says.
func TestInstallAProgramOfAPreset(t *testing.T) {
	path := inPath(t, "llm-worker-rbee-cuda", "echo llm-worker-rbee 0.1.0")
	r := newRig(t)
	_, err := r.install("llm-worker-rbee-cuda")
	require.NoError(t, err)
	text, err := os.ReadFile(r.file("llm-worker-rbee-cuda"))
	require.NoError(t, err)
	require.Contains(t, string(text), "name: \"llm-worker-rbee-cuda\"\npreset: \"rbee-llm\"\nprogram: \""+path+"\"\n")
}

func TestWhatIsNotInstalled(t *testing.T) {
	inPath(t, "some-program", "exit 0")
	python := script(t, filepath.Join(filepath.SplitList(os.Getenv("PATH"))[0], "python"), "exit 1")
	r := newRig(t)
	r.configure(catalog.Entry{Name: "tei", Command: []string{"/bin/true"}})
	for id, c := range map[string]struct{ code, want string }{
		"tei":           {errdefs.CodeConflict, "there is a worker type tei already (configuration), which would win over an installed one; spawn it, or take its entry out of hive.yaml first"},
		"some-program":  {errdefs.CodeUnsupportedOperation, "/some-program is here, but no preset says how it is told its port; write an entry with its command into hive.yaml"},
		"nothing-there": {errdefs.CodeProgramNotFound, "nothing-there is neither a preset nor a program in hive's PATH; what can be installed: "},
		"sd-server":     {errdefs.CodeProgramNotFound, "worker_install neither downloads nor builds programs: install it, so that it is in hive's PATH"},
		"comfyui":       {errdefs.CodeUnsupportedOperation, "no script is configured for comfyui"},
		"tabbyapi":      {errdefs.CodeUnsupportedOperation, "no script is configured for tabbyapi"},
		"sglang":        {errdefs.CodeProgramNotFound, "sglang: " + python + " has no sglang installed; worker_install neither"},
	} {
		_, err := r.install(id)
		require.Contains(t, requireFailure(t, err, c.code), c.want, id)
	}
	require.NoDirExists(t, filepath.Join(r.dir, workertype.TypesDir), "nothing was written")
}

// A path that YAML or a template would read otherwise goes into no file.
func TestAPathThatNoFileCanHold(t *testing.T) {
	for _, name := range []string{"{{.Port}}", "\xff"} {
		dir := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		script(t, filepath.Join(dir, "llama-server"), llama)
		t.Setenv("PATH", dir)
		r := newRig(t)
		_, err := r.install("llama-server")
		require.Contains(t, requireFailure(t, err, errdefs.CodeUnsupportedOperation), "holds what no file of types.d can; write an entry into hive.yaml")
		require.Empty(t, r.installed())
	}
}

// What a reload does not take leaves nothing behind: hive would not start with it.
func TestAnInstallationThatIsNotTaken(t *testing.T) {
	inPath(t, "llama-server", llama)
	refused := &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "no, thanks"}
	for name, c := range map[string]struct {
		err  error
		want func(err error)
	}{
		"a mistake": {refused, func(err error) {
			require.Equal(t, "take over the worker type: no, thanks", requireFailure(t, err, errdefs.CodeConflict))
		}},
		"no space": {syscall.ENOSPC, func(err error) {
			require.Contains(t, requireFailure(t, err, errdefs.CodeDiskFull), "is full: free some space there")
		}},
		"another": {errors.New("broken"), func(err error) { require.Contains(t, requireFailure(t, err, errdefs.CodeInternal), "broken") }},
	} {
		r := newRig(t)
		r.reload = func() error { return c.err }
		_, err := r.install("llama-server")
		c.want(err)
		require.Empty(t, r.installed(), name)
		require.NoError(t, os.WriteFile(r.file("llama-server"), []byte("as it was"), 0o600))
		_, err = r.install("llama-server")
		c.want(err)
		text, err := os.ReadFile(r.file("llama-server"))
		require.NoError(t, err)
		require.Equal(t, "as it was", string(text), name)
	}
}

func TestARemovalThatIsNotTaken(t *testing.T) {
	inPath(t, "llama-server", llama)
	r := newRig(t)
	_, err := r.install("llama-server")
	require.NoError(t, err)
	before, err := os.ReadFile(r.file("llama-server"))
	require.NoError(t, err)
	r.reload = func() error { return &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "no, thanks"} }
	_, err = r.remove("llama-server")
	require.Equal(t, "remove the worker type: no, thanks", requireFailure(t, err, errdefs.CodeConflict))
	after, err := os.ReadFile(r.file("llama-server"))
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, os.Remove(r.file("llama-server")))
	_, err = r.remove("llama-server")
	require.Contains(t, requireFailure(t, err, errdefs.CodeInternal), "read "+r.file("llama-server")+": ")
}

func TestWhatIsNotRemoved(t *testing.T) {
	inPath(t, "llama-server", llama)
	r := newRig(t)
	_, err := r.install("llama-server")
	require.NoError(t, err)
	r.live = []store.Worker{{WorkerID: "a", Type: "llama-server"}, {WorkerID: "b", Type: "cpu"}, {WorkerID: "c", Type: "llama-server"}}
	for id, c := range map[string]struct{ code, want string }{
		"nobody":       {errdefs.CodeNotFound, "no worker type nobody"},
		"vllm":         {errdefs.CodeConflict, "worker type vllm was not installed by worker_install (preset)"},
		"llama-server": {errdefs.CodeConflict, "worker type llama-server is used by a, c; stop them first"},
	} {
		_, err := r.remove(id)
		require.Equal(t, c.want, requireFailure(t, err, c.code))
	}
	require.Equal(t, []string{"llama-server.yaml"}, r.installed())
	r.live = r.live[1:2]
	_, err = r.remove("llama-server")
	require.NoError(t, err)
}

// Up to the point where something is written a job can be cancelled.
func TestACancelledInstallation(t *testing.T) {
	inPath(t, "llama-server", llama)
	r := newRig(t)
	_, err := r.Install(t.Context(), &job{cancelled: errdefs.ErrCancelled}, operation.Install{WorkerID: "llama-server"})
	require.ErrorIs(t, err, errdefs.ErrCancelled)
	require.Empty(t, r.installed())
	_, err = r.install("llama-server")
	require.NoError(t, err)
	_, err = r.Remove(t.Context(), &job{cancelled: errdefs.ErrCancelled}, operation.Remove{WorkerID: "llama-server"})
	require.ErrorIs(t, err, errdefs.ErrCancelled)
	require.Equal(t, []string{"llama-server.yaml"}, r.installed())
}

// A caller who goes away once the file is written does not leave it without its type.
func TestTheReloadIsNotTheCallers(t *testing.T) {
	inPath(t, "llama-server", llama)
	r := rigWithout(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.open(func(of context.Context) error {
		cancel()
		require.NoError(t, of.Err())
		return r.readTypes()
	})
	_, err := r.Install(ctx, &job{}, operation.Install{WorkerID: "llama-server"})
	require.NoError(t, err)
}

// Without somebody to read types.d nothing is written there.
func TestInstallWithoutReload(t *testing.T) {
	inPath(t, "llama-server", llama)
	r := rigWithout(t)
	r.open(nil)
	_, err := r.install("llama-server")
	require.Equal(t, "this hive has a fixed set of worker types", requireFailure(t, err, errdefs.CodeUnsupportedOperation))
	_, err = r.remove("llama-server")
	require.Equal(t, "this hive has a fixed set of worker types", requireFailure(t, err, errdefs.CodeUnsupportedOperation))
	require.NoDirExists(t, filepath.Join(r.dir, workertype.TypesDir))
}
