package catalog_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
)

func TestDevicesBecomeVariables(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for _, name := range presetNames {
		typ, _ := c.Type(name)
		unpinned := typ.Environ("")
		if name == "reference" {
			require.Empty(t, typ.Environ("1"), "no GPU program")
			continue
		}
		require.Equal(t, append(unpinned, "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=1", "HIP_VISIBLE_DEVICES=1"), typ.Environ("1"), name)
		require.Equal(t, append(unpinned, "CUDA_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES="), typ.Environ("cpu"), name)
	}
	vllm, _ := c.Type("vllm")
	require.Equal(t, []string{"PYTHONUNBUFFERED=1", "PYTHONSAFEPATH=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=0,1", "HIP_VISIBLE_DEVICES=0,1"}, vllm.Environ("0,1"))
}

func TestTheEntrysVariablesComeLast(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "l", Preset: "llama-server", Env: []string{"CUDA_VISIBLE_DEVICES=7", "HF_TOKEN"}})
	require.Equal(t, []string{
		"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=0", "HIP_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=7", "HF_TOKEN",
	}, typ.Environ("0"))

	bare := one(t, catalog.Entry{Name: "web", Command: []string{"web"}, Env: []string{"A=1"}})
	require.Equal(t, []string{"A=1"}, bare.Environ("0"), "only a preset pins")
}

func TestDevicesOfAPreset(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "l", Preset: "llama-server"})
	for _, good := range []string{"", "0", "0,1", "10,3", "cpu", "GPU-8f1c2a3b-0000-1111-2222-333344445555", "MIG-a,MIG-b"} {
		require.NoError(t, typ.CheckDevice(good), good)
	}
	for _, bad := range []string{"cuda:0", "gpu0", "0, 1", "0,", ",0", "CPU", "all", "cpu,0", "none"} {
		require.ErrorIs(t, typ.CheckDevice(bad), catalog.ErrBadDevice, bad)
		_, err := typ.Render(catalog.Values{Port: 8080, Model: "m", Device: bad})
		require.ErrorIs(t, err, catalog.ErrBadDevice, bad)
	}
}

// A command is told the device as it is: it takes any word, and what its entry says.
func TestDevicesOfACommand(t *testing.T) {
	typ := one(t, catalog.Entry{Name: "web", Command: []string{"docker", "run", "--gpus=device={{.Device}}"}, Device: "/dev/dri/renderD128"})
	for _, good := range []string{"", "0,1", "cuda:0", "all", "Vulkan0", "MIG-GPU-8f1c/1/0", "/dev/dri/renderD128"} {
		require.NoError(t, typ.CheckDevice(good), good)
	}
	for _, bad := range []string{"/dev/sda", "../dev/sda", "a/../../dev/sda", "-v", "0 --privileged", `0",capabilities="all`, "all,driver=x", "$(id)", "0\n1", "@f", ".", "0;1"} {
		err := typ.CheckDevice(bad)
		require.ErrorIs(t, err, catalog.ErrBadDevice, bad)
		var v *catalog.ValueError
		require.ErrorAs(t, err, &v)
		require.Equal(t, "device", v.Field)
	}
}

func TestPlan(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name: "v", Preset: "vllm", Program: "/venv/bin/vllm", Host: "0.0.0.0",
		Env: []string{"HF_TOKEN", "API_KEY=s3cret", "HIP_VISIBLE_DEVICES=s3cret"},
	})
	plan, err := typ.Plan(catalog.Values{Port: 8080, Model: "org/m", Device: "1", WorkerID: "w"})
	require.NoError(t, err)
	require.Equal(t, []string{"/venv/bin/vllm", "serve", "org/m", "--host", "0.0.0.0", "--port", "8080", "--served-model-name", "org/m"}, plan.Spec.Argv)
	require.Equal(t, []catalog.Variable{
		{Name: "PYTHONUNBUFFERED", Value: "1", From: catalog.FromPreset},
		{Name: "PYTHONSAFEPATH", Value: "1", From: catalog.FromPreset},
		{Name: "CUDA_DEVICE_ORDER", Value: "PCI_BUS_ID", From: catalog.FromDevice},
		{Name: "CUDA_VISIBLE_DEVICES", Value: "1", From: catalog.FromDevice},
		{Name: "HF_TOKEN", From: catalog.FromEnvironment},
		{Name: "API_KEY", From: catalog.FromEntry},
		{Name: "HIP_VISIBLE_DEVICES", From: catalog.FromEntry},
	}, plan.Env)

	_, err = typ.Plan(catalog.Values{Port: 8080})
	require.ErrorIs(t, err, catalog.ErrModelRequired)
}

func TestProgramNeedsNoModel(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for name, want := range map[string]string{"vllm": "vllm", "rbee-llm": "llm-worker-rbee-cpu", "cpu": self, "tei": "text-embeddings-router"} {
		typ, _ := c.Type(name)
		got, err := typ.Program(catalog.Values{})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	rbee, _ := c.Type("rbee-llm")
	got, err := rbee.Program(catalog.Values{Device: "0"})
	require.NoError(t, err)
	require.Equal(t, "llm-worker-rbee-cuda", got)
	got, err = rbee.Program(catalog.Values{Params: map[string]string{"unknown": "1"}})
	require.NoError(t, err, "it is Check that refuses")
	require.Equal(t, "llm-worker-rbee-cpu", got)

	cuda, _ := c.Type("cuda")
	_, err = cuda.Program(catalog.Values{})
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	odd := one(t, catalog.Entry{Name: "x", Command: []string{"{{if .Model}}p{{end}}"}})
	_, err = odd.Program(catalog.Values{})
	require.ErrorIs(t, err, catalog.ErrRender)
}

// Python is installed nearly everywhere; what it is to run is not. A script that no
// entry names is none: it would be any main.py of the directory hive was started in.
func TestScripts(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for _, name := range presetNames {
		typ, _ := c.Type(name)
		require.Empty(t, typ.Script(catalog.Values{}), name)
	}
	for _, preset := range []string{"comfyui", "tabbyapi"} {
		typ, _ := c.Type(preset)
		const example = "workers: [{name: %[1]s, preset: %[1]s, program: /opt/%[1]s/venv/bin/python, params: {main: /opt/%[1]s/main.py}}]"
		require.Equal(t, "no script is configured for "+preset+"; set its path in hive.yaml, for example: "+fmt.Sprintf(example, preset), typ.Unavailable())
		_, err := typ.Render(catalog.Values{Port: 8080, Model: "m"})
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		require.ErrorIs(t, typ.Check(catalog.Values{Model: "m"}), catalog.ErrUnavailable)

		relative := one(t, catalog.Entry{Name: "c", Preset: preset, Params: plain(map[string]string{"main": "main.py"})})
		require.Contains(t, relative.Unavailable(), "no script is configured for c;")
		inDir := one(t, catalog.Entry{Name: "c", Preset: preset, Dir: "/opt/x"})
		require.Empty(t, inDir.Unavailable())
		require.Equal(t, "main.py", inDir.Script(catalog.Values{}))
		named := one(t, catalog.Entry{Name: "c", Preset: preset, Params: plain(map[string]string{"main": "/opt/x/main.py"})})
		require.Empty(t, named.Unavailable())
		require.Equal(t, "/opt/x/main.py", named.Script(catalog.Values{}))
	}
}

// What programs print when they are asked for their version.
func TestVersionProbes(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for name, said := range map[string]string{
		"llama-server": "version: 6140 (eb7cf15a)",
		"vllm":         "0.11.0",
		"sglang":       "0.5.4.post1",
		"tei":          "text-embeddings-router 1.8.3",
		"sd-server":    "stable-diffusion.cpp version master-504-636d3cb, commit 636d3cb",
		"rbee-sd":      "sd-worker-cuda 0.1.0",
		"rbee-llm":     "llm-worker-rbee 0.1.0",
	} {
		typ, _ := c.Type(name)
		probe := typ.VersionProbe()
		line := probe.Line
		require.NotEmpty(t, probe.Args, name)
		require.Equal(t, name == "sglang", probe.Proves)
		require.NotNil(t, line.FindStringSubmatch(said), name)
		require.Nil(t, line.FindStringSubmatch("error: unknown argument: --version"), name)
		require.Nil(t, line.FindStringSubmatch("ggml_cuda_init: found 1 CUDA devices:"), name)
	}
	for _, name := range []string{"comfyui", "tabbyapi", "whisper-server", "reference", "cpu"} {
		typ, _ := c.Type(name)
		require.Nil(t, typ.VersionProbe().Args, name)
	}
	require.Nil(t, one(t, catalog.Entry{Name: "web", Command: []string{"web"}}).VersionProbe().Args, "an unknown program is not started to ask it")
	cpu, _ := c.Type("cpu")
	require.True(t, cpu.RunsHive())
	require.False(t, one(t, catalog.Entry{Name: "cpu", Program: "/other/hive"}).RunsHive())
}
