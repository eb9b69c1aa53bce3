package workertype_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
)

func TestSpawnsThatAreRefused(t *testing.T) {
	r := newRig(t,
		catalog.Entry{Name: "web", Command: []string{"web", "{{.Params.size}}"}, Port: 80, Params: map[string]catalog.ParamEntry{"size": {Default: ref("1"), Pattern: ref("[0-9]+")}}},
		catalog.Entry{Name: "llm", Preset: "llama-server"})
	for _, c := range []struct {
		spawn       operation.Spawn
		kind        error
		field, want string
	}{
		{operation.Spawn{Worker: "nobody"}, errdefs.ErrUnknownWorkerType, "worker", `no worker type "nobody" (known: comfyui, cpu, cuda, llama-server, llm, `},
		{operation.Spawn{Worker: "web", Port: 443}, errdefs.ErrBadRequest, "port", "is 443; below 1024 a worker gets only the port that its own entry has (port in hive.yaml)"},
		{operation.Spawn{Worker: "llm", Port: 80, Model: "m"}, errdefs.ErrBadRequest, "port", "is 80; below 1024"},
		{operation.Spawn{Worker: "web", Params: map[string]string{"size": "x"}}, errdefs.ErrBadRequest, "params.size", "size is"},
		{operation.Spawn{Worker: "web", Params: map[string]string{"other": "1"}}, errdefs.ErrBadRequest, "params", `unknown parameter "other" of worker type web; it has size`},
		{operation.Spawn{Worker: "llm", Model: "m", Device: "gpu"}, errdefs.ErrBadRequest, "device", `unknown device "gpu"`},
		{operation.Spawn{Worker: "llm"}, errdefs.ErrBadRequest, "model", "a model is required"},
	} {
		_, err := r.CheckSpawn(c.spawn)
		require.ErrorIs(t, err, c.kind, "%+v", c.spawn)
		var in *errdefs.InputError
		require.ErrorAs(t, err, &in)
		require.Equal(t, c.field, in.Field, "%v", err)
		require.Contains(t, in.Detail, c.want)
	}
	for _, s := range []operation.Spawn{
		{Worker: "web"},
		{Worker: "web", Port: 80},
		{Worker: "web", Port: 1024, Params: map[string]string{"size": "7"}},
		{Worker: "llm", Model: "m", Device: "0,1"},
		{Worker: "cuda"}, // unavailable: a failed job, not a bad request
	} {
		as, err := r.CheckSpawn(s)
		require.NoError(t, err, "%+v", s)
		require.Equal(t, s, as)
	}
}

// An autostart entry has one worker, of its name; other names are other workers.
func TestTheWorkerOfAService(t *testing.T) {
	r := newRig(t, catalog.Entry{Name: "embed", Command: []string{"/bin/true", "{{.Port}}"}, Autostart: true},
		catalog.Entry{Name: "Qwen_2", Command: []string{"/bin/true", "{{.Port}}"}, Autostart: true})
	for _, c := range []struct{ worker, name, want string }{
		{"embed", "", "embed"}, {"embed", "other", "other"}, {"Qwen_2", "", ""}, {"cpu", "", ""},
	} {
		as, err := r.CheckSpawn(operation.Spawn{Worker: c.worker, Name: c.name})
		require.NoError(t, err)
		require.Equal(t, c.want, as.Name, "%+v", c)
	}
}

// Only who is trusted may have a worker read any file.
func TestModelsOfStrangers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Org", "qwen", "weights:q4"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	r := newRig(t,
		catalog.Entry{Name: "v", Preset: "vllm", Model: "/srv/models/default", Dir: dir}, catalog.Entry{Name: "gone", Preset: "vllm", Dir: filepath.Join(dir, "none")},
		catalog.Entry{Name: "here", Preset: "vllm"})
	check := func(worker, model string, trusted bool) error {
		return r.CheckModel(operation.Spawn{Worker: worker, Model: model}, trusted)
	}
	for _, model := range []string{"", "/srv/models/default", "other/repo", "other/repo:Q4_K_M", "other/repo:q4.gguf", "llama3", "llama3:8b", "o-_.1/r-_.2"} {
		require.NoError(t, check("v", model, false), model)
	}
	for _, model := range []string{
		"/etc/shadow", "/srv/models/other", "./x", "../x", "~/x", "a/b/c", "a/../b", "a/..", "..", ".", "a//b", "a/", "/", "file:///etc/shadow", "https://example.org/x",
		"s3://b/x", "a/b:c/d", "a/b:../c", "a/-b", "a/b:-c", "a b", "a/b c", "a\\b", "a/.b", `a"b`, "a;b", "@a", "a@b", "a/b@main", "ä/b", "a/b:",
		"Org/repo", "org/repo", "ORG/repo:q4", "qwen", "Qwen", "weights:q4", // in the worker's own directory: a program may take that first
	} {
		err := check("v", model, false)
		require.ErrorIs(t, err, errdefs.ErrForbidden, model)
		var input *errdefs.InputError
		require.ErrorAs(t, err, &input)
		require.Equal(t, "model", input.Field)
		require.NoError(t, check("v", model, true), model)
	}
	require.ErrorContains(t, check("v", "/etc/shadow", false), "which is not the name of a model; only an administrator of this hive may name files")
	require.ErrorContains(t, check("v", "org/repo", false), "which is also a path in the worker's directory")
	require.ErrorContains(t, check("gone", "org/repo", false), "which might be a path: open ")
	require.NoError(t, check("here", "org/repo", false))
	require.ErrorIs(t, check("here", "check_test.go", false), errdefs.ErrForbidden, "without dir it is hive's own directory")
	require.NoError(t, check("nobody", "/etc/shadow", false), "which is another error")
	for _, op := range []operation.Operation{operation.Check{}, operation.StopWorker{WorkerID: "x"}, operation.ModelDownload{Model: "org/m"}} {
		require.NoError(t, r.CheckModel(op, false))
	}
}

// A model of hive's catalog is a path for the worker, and may be named by anybody: also
// where something in the worker's directory is called so, which is not what it gets.
func TestAModelOfTheCatalogMayBeNamed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "org"), 0o700))
	r := newRig(t, catalog.Entry{Name: "l", Preset: "llama-server", Dir: dir})
	spawn := operation.Spawn{Worker: "l", Model: "org/name:m.gguf"}
	require.ErrorIs(t, r.CheckModel(spawn, false), errdefs.ErrForbidden)
	file := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(file, []byte("GGUF\x03\x00\x00\x00 weights"), 0o600))
	m, err := r.library.Import(t.Context(), file, spawn.Model, false)
	require.NoError(t, err)
	require.NoError(t, r.CheckModel(spawn, false))
	require.ErrorIs(t, r.CheckModel(operation.Spawn{Worker: "l", Model: m.Path}, false), errdefs.ErrForbidden)
}
