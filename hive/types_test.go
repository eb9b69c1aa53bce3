package hive_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/operation"
	"rbeehive/hive/workertype"
)

// view returns one type of a list.
func view(t *testing.T, list []workertype.View, name string) workertype.View {
	t.Helper()
	for _, v := range list {
		if v.Name == name {
			return v
		}
	}
	require.Failf(t, "no such type", "%s", name)
	return workertype.View{}
}

// A preset is a type without any configuration: it is found in PATH, tells its
// version and runs. (PATH is changed, so this test is not parallel.)
func TestPresetsByTheirOwnNames(t *testing.T) {
	dir := programs(t)
	t.Setenv("PATH", dir)
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("sglang", []byte("0.5.4.post1"), 0o600))
	r := newRig(t, 1)
	r.cfg.Version = "v1.2.3"
	r.open()
	versions := map[string]string{
		"llama-server": "6140 (eb7cf15a)", "vllm": "0.11.0", "sglang": "0.5.4.post1", "tei": "1.8.3", "sd-server": "master-504, commit 636d3cb",
		"whisper-server": "", "rbee-llm": "0.1.0", "rbee-sd": "0.1.0", "reference": "v1.2.3", "cpu": "v1.2.3",
	}
	// A program that takes more than two seconds to tell, which it may on a busy
	// machine, is asked again the next time: all have told when nobody is left.
	var types []workertype.View
	for told := -1; told < len(versions); {
		silent := 0
		r.eventually("one more has told its version", func() bool {
			types = r.h.Types(t.Context(), true)
			silent = 0
			for _, v := range types {
				if v.Version == "" && versions[v.Name] != "" {
					silent++
				}
			}
			return len(versions)-silent > told
		})
		told = len(versions) - silent
	}
	require.Len(t, types, 14)
	for name, version := range versions {
		v := view(t, types, name)
		require.NotEmpty(t, v.Program, name)
		require.Empty(t, v.Missing, name)
		require.Equal(t, version, v.Version, name)
		require.Nil(t, v.Plan)
	}
	require.Equal(t, filepath.Join(dir, "llama-server"), view(t, types, "llama-server").Program)
	require.Equal(t, filepath.Join(dir, "llm-worker-rbee-cpu"), view(t, types, "rbee-llm").Program)
	require.Contains(t, view(t, types, "cuda").Missing, "no worker program is configured for cuda")
	require.Contains(t, view(t, types, "comfyui").Missing, "no script is configured for comfyui; set its path in hive.yaml, for example: workers: ")

	res := r.spawn("llama-server", map[string]any{"model": modelFile(t, t.TempDir(), "q.gguf")})
	require.Equal(t, []string{filepath.Join(dir, "llama-server"), "--host", "127.0.0.1"}, report(t, res.URL).Args[:3])

	// Python without the package is not an installed sglang. Of a type with an entry that is
	// known without a question.
	require.NoError(t, os.Remove("sglang"))
	entry := standInEntry(dir, "sglang", "python")
	entry.Name = "mine"
	other := newRig(t, 1, entry)
	other.open()
	missing := filepath.Join(dir, "python") + " has no sglang installed"
	other.eventually("it is known without a question", func() bool { return view(t, other.h.Types(t.Context(), false), "mine").Missing == missing })
	v := view(t, other.h.Types(t.Context(), true), "sglang")
	require.Empty(t, v.Program)
	require.Empty(t, v.Version)
	require.Equal(t, missing, v.Missing)
}

func TestTypeInfo(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	e := standInEntry(dir, "vllm", "vllm")
	e.Env = []string{"HF_TOKEN", "API_KEY=s3cret", "VLLM_PORT=1", "SPT_NOENV=0"}
	e.Params = plain(map[string]string{"ctx": "4096"})
	e.Args = []string{"--max-model-len", "{{.Params.ctx}}"}
	r := newRig(t, 2, e)
	r.open()
	v, err := r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "x", Model: "org/m", Device: "0,1", Name: "chat", Port: 18188, Params: map[string]string{"ctx": "8192"}}, false)
	require.NoError(t, err)
	require.Empty(t, v.NoPlan)
	require.True(t, v.NeedsModel)
	require.Equal(t, "vllm", v.Preset)
	require.Equal(t, catalog.SourceConfiguration, v.Source)
	require.Equal(t, filepath.Join(dir, "vllm"), v.Program)
	require.Equal(t, uint16(18188), v.Plan.Port)
	require.Equal(t, []string{
		filepath.Join(dir, "vllm"), "serve", "org/m", "--host", "127.0.0.1", "--port", "18188", "--served-model-name", "chat", "--max-model-len", "8192",
	}, v.Plan.Spec.Argv)
	env := map[string]catalog.Variable{}
	for _, e := range v.Plan.Env {
		require.NotContains(t, env, e.Name, "each name once")
		env[e.Name] = e
		require.NotContains(t, e.Value, "s3cret")
	}
	require.Equal(t, catalog.Variable{Name: "CUDA_VISIBLE_DEVICES", Value: "0,1", From: catalog.FromDevice}, env["CUDA_VISIBLE_DEVICES"])
	require.Equal(t, catalog.Variable{Name: "HF_TOKEN", From: catalog.FromEnvironment}, env["HF_TOKEN"])
	require.Equal(t, catalog.Variable{Name: "SPT_NOENV", From: catalog.FromEntry}, env["SPT_NOENV"])
	require.Equal(t, catalog.Variable{Name: "RBEEHIVE_STATE", Value: r.h.Info().StateID, From: workertype.FromHive}, env["RBEEHIVE_STATE"])
	require.Equal(t, workertype.FromSpawn, env["RBEEHIVE_LEASE"].From)
	require.Contains(t, v.Plan.Removed, "PORT")
	require.NotContains(t, v.Plan.Removed, "VLLM_PORT", "the entry sets it")
	require.Empty(t, r.leases())
	require.Empty(t, r.h.Workers(), "nothing was spawned")

	// The plan is what a spawn does.
	res := r.spawn("x", map[string]any{"model": "org/m", "device": "0,1", "name": "chat", "params": map[string]string{"ctx": "8192"}})
	again, err := r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "x", Model: "org/m", Device: "0,1", Name: "chat", Port: res.Port, Params: map[string]string{"ctx": "8192"}}, false)
	require.NoError(t, err)
	self := report(t, res.URL)
	require.Equal(t, self.Args, again.Plan.Spec.Argv)
	for _, e := range again.Plan.Env {
		if e.Value != "" {
			require.Equal(t, e.Value, self.Env[e.Name], e.Name)
		}
	}
}
