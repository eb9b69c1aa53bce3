package workertype_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/hive/workertype"
	"rbeehive/test/skip"
)

// A type is shown as it is configured, with where its program was found.
func TestAViewIsTheTypeAsConfigured(t *testing.T) {
	dir := t.TempDir()
	program := script(t, filepath.Join(dir, "web"), "exit 0")
	r := newRig(t, catalog.Entry{
		Name: "web", Command: []string{program, "--model", "{{.Model}}", "--size", "{{.Params.size}}"}, Model: "org/m", Device: "cpu", Dir: dir, EnvFile: "/etc/web.env", Autostart: true,
		Params: map[string]catalog.ParamEntry{"size": {Default: ref("4096")}}, Env: []string{"API_KEY=s3cret"},
	})
	v := r.view("web", false)
	require.Equal(t, "4096", v.Params["size"].Default)
	v.Params = nil
	require.Equal(t, workertype.View{
		Name: "web", Source: catalog.SourceConfiguration, Description: "from the configuration", Model: "org/m", Device: "cpu", Dir: dir, EnvFile: "/etc/web.env", Autostart: true, NeedsModel: true,
		Template: []string{program, "--model", "{{.Model}}", "--size", "{{.Params.size}}"}, Program: program,
	}, v)
	delete(r.view("web", false).Params, "size")
	require.Contains(t, r.view("web", false).Params, "size", "a view is the caller's own")
	require.NoError(t, os.Remove(program))
	v = r.view("web", false)
	require.Equal(t, []string{"", program + " does not exist"}, []string{v.Program, v.Missing})
}

func TestTypesAreListedByName(t *testing.T) {
	r := newRig(t, catalog.Entry{Name: "zz", Command: []string{"/bin/true"}}, catalog.Entry{Name: "aa", Command: []string{"/bin/true"}})
	var names []string
	for _, v := range r.List(t.Context(), false) {
		names = append(names, v.Name)
		require.Nil(t, v.Plan)
	}
	require.Equal(t, r.types.Names(), names)
	require.IsIncreasing(t, names)
}

// An interpreter is there, and what it is to run is not.
func TestAScriptThatIsMissing(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, catalog.Entry{Name: "x", Preset: "comfyui", Program: "/bin/sh", Dir: dir, Params: map[string]catalog.ParamEntry{"main": {Default: ref(filepath.Join(dir, "main.py"))}}})
	require.Contains(t, r.view("x", false).Missing, "/bin/sh is to run "+filepath.Join(dir, "main.py")+": ")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.py"), nil, 0o600))
	require.Equal(t, "/bin/sh", r.view("x", false).Program)
}

// A plan is what a spawn would do: the command, and each variable with who sets it, without
// the values that may be secrets.
func TestAPlan(t *testing.T) {
	program := script(t, filepath.Join(t.TempDir(), "vllm"), "exit 0")
	r := newRig(t, catalog.Entry{Name: "x", Preset: "vllm", Program: program, Env: []string{"API_KEY=s3cret", "HF_TOKEN"}})
	v, err := r.Info(t.Context(), operation.Spawn{Worker: "x", Model: "org/m", Device: "0,1", Name: "chat", Port: 18188}, false)
	require.NoError(t, err)
	require.Empty(t, v.NoPlan)
	require.Equal(t, []string{program, "serve", "org/m", "--host", "127.0.0.1", "--port", "18188", "--served-model-name", "chat"}, v.Plan.Spec.Argv)
	require.Equal(t, []any{uint16(18188), "x-18188-xxxxxx", false}, []any{v.Plan.Port, v.Plan.WorkerID, v.Plan.NoNewPrivs})
	env := map[string]catalog.Variable{}
	for _, e := range v.Plan.Env {
		require.NotContains(t, env, e.Name, "each name once")
		env[e.Name] = e
	}
	for _, want := range []catalog.Variable{
		{Name: proc.KeepEnv, Value: "1", From: workertype.FromHive},
		{Name: proc.StampState, Value: "state", From: workertype.FromHive},
		{Name: proc.StampLease, From: workertype.FromSpawn},
		{Name: proc.StampWorker, From: workertype.FromSpawn},
		{Name: proc.StampProof, From: workertype.FromSpawn},
		{Name: "CUDA_VISIBLE_DEVICES", Value: "0,1", From: catalog.FromDevice},
		{Name: "HF_TOKEN", From: catalog.FromEnvironment},
	} {
		require.Equal(t, want, env[want.Name])
	}
	require.NotContains(t, env["API_KEY"].Value, "s3cret")
	require.NotContains(t, v.Plan.Removed, "HF_TOKEN")

	own := newRig(t, catalog.Entry{Name: "x", Command: []string{"/bin/true"}, Port: 18001, Env: []string{proc.KeepEnv + "=0"}})
	v, err = own.Info(t.Context(), operation.Spawn{Worker: "x"}, false)
	require.NoError(t, err)
	require.Equal(t, uint16(18001), v.Plan.Port, "its own port")
	require.Len(t, v.Plan.Env, 5)
	for _, e := range v.Plan.Env {
		if e.Name == proc.KeepEnv {
			require.Equal(t, catalog.FromEntry, e.From, "an entry may set it itself")
		}
	}
}

// The path of a model of hive's catalog is what the program gets.
func TestAPlanWithAModelOfTheCatalog(t *testing.T) {
	r := newRig(t, catalog.Entry{Name: "x", Command: []string{"/bin/true", "{{.Model}}"}})
	file := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(file, []byte("GGUF\x03\x00\x00\x00 weights"), 0o600))
	m, err := r.library.Import(t.Context(), file, "org/name:m.gguf", false)
	require.NoError(t, err)
	v, err := r.Info(t.Context(), operation.Spawn{Worker: "x", Model: m.ID}, false)
	require.NoError(t, err)
	require.Equal(t, []string{"/bin/true", m.Path}, v.Plan.Spec.Argv)
	require.Equal(t, m.ID, v.Plan.Spec.Model)
}

func TestAPlanForAnotherUser(t *testing.T) {
	skip.UnlessRoot(t, "only root starts workers as other users")
	r := newRig(t, catalog.Entry{Name: "x", Command: []string{"/bin/true"}, User: outsider}, catalog.Entry{Name: "y", Command: []string{"/bin/true"}, User: "no-such-user-here"})
	v, err := r.Info(t.Context(), operation.Spawn{Worker: "x"}, false)
	require.NoError(t, err)
	require.Equal(t, []string{outsider, "/"}, []string{v.User, v.Dir})
	require.True(t, v.Plan.NoNewPrivs)
	require.Contains(t, v.Plan.Removed, "*")
	require.NotContains(t, v.Plan.Inherited, "*")
	v, err = r.Info(t.Context(), operation.Spawn{Worker: "y"}, false)
	require.NoError(t, err)
	require.Nil(t, v.Plan)
	require.Contains(t, v.NoPlan, "unknown user")
}

func TestTypeInfoThatHasNoPlan(t *testing.T) {
	r := newRig(t)
	for name, want := range map[string]string{
		"llama-server": "a model is required: the command of worker type llama-server uses {{.Model}}",
		"cuda":         "no worker program is configured for cuda; add an entry to hive.yaml, for example: workers: [{name: cuda, preset: llama-server}]",
	} {
		v, err := r.Info(t.Context(), operation.Spawn{Worker: name}, true)
		require.NoError(t, err)
		require.Nil(t, v.Plan)
		require.Equal(t, want, v.NoPlan)
	}
	v, err := r.Info(t.Context(), operation.Spawn{Worker: "cpu"}, false)
	require.NoError(t, err)
	require.Equal(t, uint16(firstPort), v.Plan.Port, "an example")
	require.Equal(t, v.Plan.Spec.Argv[len(v.Plan.Spec.Argv)-1], v.Plan.WorkerID)
}

func TestTypeInfoRefusesWhatASpawnWould(t *testing.T) {
	r := newRig(t)
	_, err := r.Info(t.Context(), operation.Spawn{Worker: "nobody"}, false)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
	require.ErrorContains(t, err, "known: comfyui, cpu, cuda,")
	for want, s := range map[string]operation.Spawn{
		`model: is "-x"; it may not begin with '-'`: {Model: "-x"},
		`device: has control characters`:            {Model: "m", Device: "0\n"},
		`device: unknown device "gpu" of`:           {Model: "m", Device: "gpu"},
		`name: is "A"; expected`:                    {Model: "m", Name: "A"},
		`params.nccl_port: parameter not allowed by worker type sglang: nccl_port is "80"; expected a value that matches (0|102`: {Model: "m", Params: map[string]string{"nccl_port": "80"}},
		`port: is 80; below 1024 a worker gets only the port that its own entry has`:                                             {Model: "m", Port: 80},
		`params.nccl_port: is "-1"`: {Model: "m", Params: map[string]string{"nccl_port": "-1"}},
		`params: unknown parameter "ctx" of worker type sglang; it has nccl_port`: {Model: "m", Params: map[string]string{"ctx": "1"}},
	} {
		s.Worker = "sglang"
		_, err := r.Info(t.Context(), s, false)
		require.ErrorIs(t, err, errdefs.ErrBadRequest, want)
		require.ErrorContains(t, err, want)
	}
}
