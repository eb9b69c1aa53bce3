package hive_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
)

// refused decodes a spawn that must not be taken, and requires that the field is named.
func (r *rig) refused(field string, op map[string]any) {
	r.Helper()
	op["operation"] = "worker_spawn"
	raw, err := json.Marshal(op)
	require.NoError(r, err)
	_, err = r.h.Decode(raw)
	require.ErrorIs(r, err, errdefs.ErrBadRequest, "%s", raw)
	var input *errdefs.InputError
	require.ErrorAs(r, err, &input)
	require.Equal(r, field, input.Field, "%v", err)
}

// What was seen: a caller named the script that comfyui and tabbyapi run, and it ran as
// root; the message of a failed one showed the first line of a file.
func TestNobodyNamesTheScriptOfAPreset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	evil, ran, secret := filepath.Join(dir, "evil.py"), filepath.Join(dir, "ran"), filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(evil, []byte("echo ran > "+ran+"\n"), 0o600))
	require.NoError(t, os.WriteFile(secret, []byte("s3cret\n"), 0o600))
	var entries []catalog.Entry
	for _, preset := range []string{"comfyui", "tabbyapi"} {
		entries = append(entries, catalog.Entry{
			Name: "my-" + preset, Preset: preset, Program: "/bin/sh", Params: plain(map[string]string{"main": filepath.Join(dir, "main.py")}),
		})
	}
	r := newRig(t, 2, entries...)
	r.open()
	for _, preset := range []string{"comfyui", "tabbyapi"} {
		for _, file := range []string{evil, secret, "main.py"} {
			op := map[string]any{"worker": preset, "model": "m", "params": map[string]string{"main": file}}
			// Nobody has said where the script is: there is nothing to be named.
			op["operation"] = "worker_spawn"
			job := r.do(op)
			require.Equal(t, errdefs.CodeProgramNotFound, job.Error.Code)
			require.Contains(t, job.Error.Message, "no script is configured for "+preset)
			require.Empty(t, job.Error.Log)

			r.refused("params.main", map[string]any{"worker": "my-" + preset, "model": "m", "params": map[string]string{"main": file}})
			_, err := r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "my-" + preset, Model: "m", Params: map[string]string{"main": file}}, false)
			require.ErrorIs(t, err, errdefs.ErrBadRequest, "nor does a question look for the file")
		}
	}
	r.refused("params.base_directory", map[string]any{"worker": "my-comfyui", "params": map[string]string{"base_directory": dir}})
	require.NoFileExists(t, ran)
	require.Empty(t, r.leases())
}

// A worker that an older hive has started with what a caller may not say any more is not
// started so again.
func TestAnOldWorkersParameters(t *testing.T) {
	t.Parallel()
	entry := func(p catalog.ParamEntry) catalog.Entry {
		return catalog.Entry{Name: "x", Preset: "reference", Params: map[string]catalog.ParamEntry{"p": p}}
	}
	r := newRig(t, 1, entry(catalog.ParamEntry{Pattern: ref(".*")}))
	r.open()
	w := r.spawn("x", map[string]any{"params": map[string]string{"p": "/etc"}})
	r.close()
	r.types(entry(catalog.ParamEntry{Fixed: ref(true)}))
	r.open()
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Contains(t, job.Error.Message, `parameter not allowed by worker type x: p is fixed: only the configuration sets it`)
	require.True(t, alive(w.PID), "the restart fails before the worker is touched")
}

// What was seen: a flag came out of the middle of a model.
func TestNoModelIsAFlag(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1,
		catalog.Entry{Name: "tabby", Preset: "tabbyapi", Dir: "/opt"},
		catalog.Entry{Name: "own", Command: []string{"p", "{{base .Model}}", "{{.Params.p}}", "{{.Name}}-x"}, Params: map[string]catalog.ParamEntry{"p": {Pattern: ref(".*")}}})
	r.open()
	r.refused("model", map[string]any{"worker": "tabby", "model": "x/--trust-remote"})
	r.refused("model", map[string]any{"worker": "own", "model": "x/-v", "name": "n"})
	r.refused("", map[string]any{"worker": "own", "model": "m"})
	_, err := r.h.Decode([]byte(`{"operation":"worker_spawn","worker":"own","model":"m","name":"n"}`))
	require.NoError(t, err)
	_, err = r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "tabby", Model: "x/--trust-remote"}, false)
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
}

func TestPrivilegedPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1,
		catalog.Entry{Name: "web", Command: []string{"web"}, Port: 80}, catalog.Entry{Name: "row", Command: []string{"web"}, Port: 1020, Ports: 8},
		catalog.Entry{Name: "any", Command: []string{"web"}, Ports: 2})
	r.open()
	for worker, ports := range map[string][]int{"web": {1, 79, 81, 443, 1023}, "row": {1, 1019, 1021, 1023}, "any": {1, 22, 80, 1022, 1023}, "cpu": {80}, "cuda": {80}} {
		for _, port := range ports {
			r.refused("port", map[string]any{"worker": worker, "port": port})
		}
	}
	for _, s := range []operation.Spawn{{Worker: "web", Port: 80}, {Worker: "web", Port: 1024}, {Worker: "web"}, {Worker: "row", Port: 1020}, {Worker: "any", Port: 1024}, {Worker: "cpu", Port: 65535}} {
		raw, err := json.Marshal(map[string]any{"operation": "worker_spawn", "worker": s.Worker, "port": s.Port})
		require.NoError(t, err)
		if s.Port == 0 {
			raw, err = json.Marshal(map[string]any{"operation": "worker_spawn", "worker": s.Worker})
			require.NoError(t, err)
		}
		_, err = r.h.Decode(raw)
		require.NoError(t, err, "%s", raw)
		_, err = r.h.TypeInfo(t.Context(), s, false)
		require.NoError(t, err)
	}
}

// A model of hive's catalog is a path for the worker, and may be named by anybody: also
// where something in the worker's directory is called so, which is not what it gets.
func TestModelsOfTheCatalogAreEverybodys(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "org"), 0o700))
	r, _, _ := newModelRig(t, 1000, catalog.Entry{Name: "l", Preset: "llama-server", Dir: dir})
	r.open()
	spawn := operation.Spawn{Worker: "l", Model: "org/name:m.gguf"}
	require.ErrorIs(t, r.h.CheckModel(spawn, false), errdefs.ErrForbidden)
	m := r.model(download("org/name:m.gguf"))
	require.NoError(t, r.h.CheckModel(spawn, false))
	require.ErrorIs(t, r.h.CheckModel(operation.Spawn{Worker: "l", Model: m.Path}, false), errdefs.ErrForbidden)
}
