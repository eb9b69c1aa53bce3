package catalog_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// presetNames is every preset; each is also a type of its own name.
var presetNames = []string{
	"comfyui", "llama-server", "rbee-llm", "rbee-sd", "reference", "sd-server", "sglang", "tabbyapi", "tei", "vllm", "whisper-server",
}

// command is what a spawn of a type would run, as one text.
func command(t *testing.T, typ *catalog.Type, v catalog.Values) string {
	t.Helper()
	v.Port, v.HiveURL = 8081, "http://127.0.0.1:7835"
	if v.WorkerID == "" {
		v.WorkerID = typ.Name + "-8081-abc123"
	}
	spec, err := typ.Render(v)
	require.NoError(t, err)
	return strings.Join(spec.Argv, " ")
}

func TestEachPresetIsATypeOfItsName(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	for _, name := range presetNames {
		typ, ok := c.Type(name)
		require.True(t, ok, name)
		require.Equal(t, catalog.SourcePreset, typ.Source)
		require.Equal(t, name, typ.Preset)
		require.NotEmpty(t, typ.Description)
		require.Equal(t, name == "comfyui" || name == "tabbyapi", typ.Unavailable() != "", "%s: a preset of a script is no type before an entry names it", name)
		require.Equal(t, 200, typ.Ready.Status)
		require.Equal(t, 5*time.Minute, typ.Ready.Stall)
	}
}

func TestPresetCommands(t *testing.T) {
	c, err := catalog.New([]catalog.Entry{
		{Name: "comfyui", Params: plain(map[string]string{"main": "/opt/c/main.py"})},
		{Name: "tabbyapi", Dir: "/opt/tabby"},
		{Name: "comfyui-a", Preset: "comfyui", Params: plain(map[string]string{"main": "/opt/c/main.py", "base_directory": "/srv/a"})},
	}, self)
	require.NoError(t, err)
	m := func(model string) catalog.Values { return catalog.Values{Model: model} }
	on := func(model, device string) catalog.Values { return catalog.Values{Model: model, Device: device} }
	with := func(model, key, value string) catalog.Values {
		return catalog.Values{Model: model, Params: map[string]string{key: value}}
	}
	for _, tc := range []struct {
		typ  string
		v    catalog.Values
		want string
	}{
		{"llama-server", m("/m/q.gguf"), "llama-server --host 127.0.0.1 --port 8081 -m /m/q.gguf --alias /m/q.gguf"},
		{"llama-server", m("q.gguf"), "llama-server --host 127.0.0.1 --port 8081 -m q.gguf --alias q.gguf"},
		{"llama-server", m("models/q.GGUF"), "llama-server --host 127.0.0.1 --port 8081 -m models/q.GGUF --alias models/q.GGUF"},
		{"llama-server", m("./user/repo"), "llama-server --host 127.0.0.1 --port 8081 -m ./user/repo --alias ./user/repo"},
		{"llama-server", m("ggml-org/gemma-3-1b-it-GGUF"), "llama-server --host 127.0.0.1 --port 8081 -hf ggml-org/gemma-3-1b-it-GGUF --alias ggml-org/gemma-3-1b-it-GGUF"},
		{"llama-server", m("user/repo:Q4_K_M"), "llama-server --host 127.0.0.1 --port 8081 -hf user/repo:Q4_K_M --alias user/repo:Q4_K_M"},
		{"llama-server", m("user/repo:q4.gguf"), "llama-server --host 127.0.0.1 --port 8081 -hf user/repo --hf-file q4.gguf --alias user/repo:q4.gguf"},
		{"llama-server", catalog.Values{Model: "/m/q.gguf", ModelID: "org/q", Name: "chat"}, "llama-server --host 127.0.0.1 --port 8081 -m /m/q.gguf --alias chat"},
		{"llama-server", catalog.Values{Model: "/var/lib/hive/models/org%2Fq/q.gguf", ModelID: "org/q"}, "llama-server --host 127.0.0.1 --port 8081 -m /var/lib/hive/models/org%2Fq/q.gguf --alias org/q"},
		{"vllm", m("org/m"), "vllm serve org/m --host 127.0.0.1 --port 8081 --served-model-name org/m"},
		{"vllm", catalog.Values{Model: "org/m", Name: "chat"}, "vllm serve org/m --host 127.0.0.1 --port 8081 --served-model-name chat"},
		{"sglang", m("org/m"), "python -m sglang.launch_server --model-path org/m --host 127.0.0.1 --port 8081 --served-model-name org/m"},
		{"sglang", with("org/m", "nccl_port", "30500"), "python -m sglang.launch_server --model-path org/m --host 127.0.0.1 --port 8081 --nccl-port 30500 --served-model-name org/m"},
		{"sglang", on("org/m", "cpu"), "python -m sglang.launch_server --model-path org/m --host 127.0.0.1 --port 8081 --device cpu --served-model-name org/m"},
		{"tei", m("org/m"), "text-embeddings-router --model-id org/m --hostname 127.0.0.1 -p 8081 --uds-path " + os.TempDir() + "/hive-tei-8081-abc123 --prometheus-port 0"},
		{"tei", with("org/m", "prometheus_port", ""), "text-embeddings-router --model-id org/m --hostname 127.0.0.1 -p 8081 --uds-path " + os.TempDir() + "/hive-tei-8081-abc123"},
		{"sd-server", m("/m/sd.gguf"), "sd-server -l 127.0.0.1 --listen-port 8081 -m /m/sd.gguf"},
		{"comfyui", m(""), "python /opt/c/main.py --listen 127.0.0.1 --port 8081 --disable-auto-launch"},
		{"comfyui-a", m(""), "python /opt/c/main.py --listen 127.0.0.1 --port 8081 --base-directory /srv/a --disable-auto-launch"},
		{"comfyui", on("", "cpu"), "python /opt/c/main.py --listen 127.0.0.1 --port 8081 --disable-auto-launch --cpu"},
		{"whisper-server", m("/m/w.bin"), "whisper-server --host 127.0.0.1 --port 8081 -m /m/w.bin --inference-path /v1/audio/transcriptions"},
		{"tabbyapi", m("/m/exl3/qwen"), "python main.py --host 127.0.0.1 --port 8081 --model-dir /m/exl3 --model-name qwen"},
		{"tabbyapi", m("/m/exl3/qwen/"), "python main.py --host 127.0.0.1 --port 8081 --model-dir /m/exl3 --model-name qwen"},
		{"tabbyapi", m("qwen"), "python main.py --host 127.0.0.1 --port 8081 --model-name qwen"},
		{"rbee-llm", m("/m/q.gguf"), "llm-worker-rbee-cpu --worker-id rbee-llm-8081-abc123 --model /m/q.gguf --model-ref /m/q.gguf --port 8081 --hive-url http://127.0.0.1:7835"},
		{"rbee-llm", on("/m/q.gguf", "cpu"), "llm-worker-rbee-cpu --worker-id rbee-llm-8081-abc123 --model /m/q.gguf --model-ref /m/q.gguf --port 8081 --hive-url http://127.0.0.1:7835"},
		{"rbee-llm", on("/m/q.gguf", "1"), "llm-worker-rbee-cuda --worker-id rbee-llm-8081-abc123 --model /m/q.gguf --port 8081 --hive-url http://127.0.0.1:7835"},
		{"rbee-sd", m(""), "sd-worker-cpu --worker-id rbee-sd-8081-abc123 --sd-version v1-5 --port 8081 --callback-url http://127.0.0.1:7835"},
		{"rbee-sd", on("/m/sd", "0"), "sd-worker-cuda --worker-id rbee-sd-8081-abc123 --sd-version v1-5 --port 8081 --callback-url http://127.0.0.1:7835 --model-path /m/sd"},
		{"reference", m("test"), self + " worker --port 8081 --host 127.0.0.1 --model=test --worker-id reference-8081-abc123"},
	} {
		typ, ok := c.Type(tc.typ)
		require.True(t, ok, tc.typ)
		require.Equal(t, tc.want, command(t, typ, tc.v))
	}
}

// An entry that says itself how its model is called has the last word: of a flag that is
// there twice not every program takes the second.
func TestTheNameThatAnEntryGivesItsModelWins(t *testing.T) {
	for name, e := range map[string]catalog.Entry{
		"args":              {Preset: "llama-server", Args: []string{"--alias", "mine"}},
		"the short flag":    {Preset: "llama-server", Args: []string{"-c", "4096", "-a", "mine"}},
		"with =":            {Preset: "vllm", Args: []string{"--served-model-name=mine"}},
		"several names":     {Preset: "sglang", Args: []string{"--served-model-name", "mine", "too"}},
		"a variable":        {Preset: "llama-server", Env: []string{"LLAMA_ARG_ALIAS=mine"}},
		"one that is named": {Preset: "llama-server", Env: []string{"LLAMA_ARG_ALIAS"}},
	} {
		e.Name = "x"
		got := command(t, one(t, e), catalog.Values{Model: "m", Name: "chat"})
		require.NotContains(t, got, "chat", name)
		require.True(t, strings.HasSuffix(got, strings.Join(e.Args, " ")), "%s: %s", name, got)
	}
	e := catalog.Entry{Name: "x", Preset: "llama-server", Args: []string{"--aliases", "y"}, Env: []string{"ALIAS=z"}}
	require.Contains(t, command(t, one(t, e), catalog.Values{Model: "m", Name: "chat"}), "--alias chat --aliases y")
}

// A preset whose entry gives its program a certificate serves TLS: its probes got an EOF. What
// the entry says of ready.scheme comes first.
func TestAPresetWithACertificateServesTLS(t *testing.T) {
	for name, e := range map[string]catalog.Entry{
		"llama-server":             {Args: []string{"--ssl-key-file", "k", "--ssl-cert-file", "c"}},
		"llama-server, variables":  {Preset: "llama-server", Env: []string{"LLAMA_ARG_SSL_KEY_FILE=k", "LLAMA_ARG_SSL_CERT_FILE=c"}},
		"llama-server, handed on":  {Preset: "llama-server", Env: []string{"LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE"}},
		"vllm":                     {Args: []string{"--ssl-keyfile", "k", "--ssl-certfile", "c"}},
		"vllm, key in certificate": {Preset: "vllm", Args: []string{"--ssl-certfile=c"}},
		"sglang":                   {Args: []string{"--ssl-keyfile", "k", "--ssl-certfile", "c"}},
		"comfyui":                  {Args: []string{"--tls-keyfile", "k", "--tls-certfile", "c"}},
	} {
		e.Name = "x"
		if e.Preset == "" {
			e.Preset = name
		}
		require.True(t, one(t, e).Ready.TLS, name)
		e.Ready.Scheme = "http"
		require.False(t, one(t, e).Ready.TLS, "%s: the entry says otherwise", name)
	}
	for name, e := range map[string]catalog.Entry{
		"nothing":                   {Preset: "vllm"},
		"a key alone":               {Preset: "llama-server", Args: []string{"--ssl-key-file", "k"}},
		"of another program":        {Preset: "llama-server", Args: []string{"--ssl-certfile", "c"}},
		"a value":                   {Preset: "vllm", Args: []string{"--x=--ssl-certfile"}},
		"a command of the entry's":  {Command: []string{"vllm", "{{.Port}}"}, Args: []string{"--ssl-certfile", "c"}},
		"a program without any TLS": {Preset: "tei", Args: []string{"--ssl-certfile", "c"}},
	} {
		e.Name = "x"
		require.False(t, one(t, e).Ready.TLS, name)
		e.Ready.Scheme = "https"
		require.True(t, one(t, e).Ready.TLS, "%s: the entry says otherwise", name)
	}
}

// Each of rbee's LLM programs refuses the flags of the others.
func TestTheNameOfAnRbeeProgramDecidesItsFlags(t *testing.T) {
	for program, want := range map[string]string{
		"/opt/llm-worker-rbee":       "/opt/llm-worker-rbee --worker-id w --model m --model-ref m --backend cuda --device 0 --port 8081 --hive-url http://127.0.0.1:7835 --local-mode",
		"/opt/llm-worker-rbee-cpu":   "/opt/llm-worker-rbee-cpu --worker-id w --model m --model-ref m --port 8081 --hive-url http://127.0.0.1:7835",
		"/opt/llm-worker-rbee-cuda":  "/opt/llm-worker-rbee-cuda --worker-id w --model m --port 8081 --hive-url http://127.0.0.1:7835",
		"/opt/llm-worker-rbee-metal": "/opt/llm-worker-rbee-metal --worker-id w --model m --port 8081 --hive-url http://127.0.0.1:7835",
	} {
		typ := one(t, catalog.Entry{Name: "llm", Preset: "rbee-llm", Program: program})
		require.Equal(t, want, command(t, typ, catalog.Values{Model: "m", Device: "3", WorkerID: "w"}))
	}
}

func TestPresetsThatNeedAModel(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	without := map[string]bool{"comfyui": true, "rbee-sd": true, "reference": true}
	for _, name := range presetNames {
		typ, _ := c.Type(name)
		require.Equal(t, !without[name], typ.UsesModel(), name)
		if !without[name] && name != "tabbyapi" { // which has no script here
			_, err := typ.Render(catalog.Values{Port: 8081})
			require.ErrorIs(t, err, catalog.ErrModelRequired, name)
		}
	}
}

func TestProbesAndStopsOfPresets(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	paths := map[string]string{"sd-server": "/v1/models", "comfyui": "/system_stats"}
	for _, name := range presetNames {
		typ, _ := c.Type(name)
		want, signals, grace := paths[name], []string{"SIGTERM"}, 10*time.Second
		if want == "" {
			want = "/health"
		}
		switch {
		case strings.HasPrefix(name, "rbee-"):
			signals = []string{"SIGINT", "SIGTERM"}
		case name == "llama-server": // a second one ends what an open stream holds up
			signals, grace = []string{"SIGTERM", "SIGTERM"}, 2*time.Second
		case name == "tabbyapi": // uvicorn's
			signals, grace = []string{"SIGTERM", "SIGINT"}, 5*time.Second
		}
		require.Equal(t, want, typ.Ready.Path, name)
		require.Equal(t, signals, typ.Stop.Signals, name)
		require.Equal(t, grace, typ.Stop.Grace, name)
		require.False(t, typ.Stop.Tree, name)
	}
}

func TestAnEntryOverridesItsPreset(t *testing.T) {
	typ := one(t, catalog.Entry{
		Name: "sd", Preset: "rbee-sd", Program: "/opt/sd-worker-cuda", Model: "/m/sd", Device: "1",
		Params: plain(map[string]string{"sd_version": "xl", "steps": "20"}), Args: []string{"--use-f16"}, Env: []string{"RUST_LOG=info"}, Host: "0.0.0.0",
		Ready: catalog.ReadyEntry{Timeout: ptr(time.Minute)}, Stop: catalog.StopEntry{Grace: ptr(time.Second)},
	})
	require.Equal(t, catalog.SourceConfiguration, typ.Source)
	require.Equal(t, "rbee-sd", typ.Preset)
	require.Equal(t, "xl", typ.Params["sd_version"].Default)
	require.Equal(t, "20", typ.Params["steps"].Default)
	require.Equal(t, store.Ready{Path: "/health", Status: 200, Stall: 5 * time.Minute, Timeout: time.Minute}, typ.Ready)
	require.Equal(t, store.Stop{Signals: []string{"SIGINT", "SIGTERM"}, Grace: time.Second}, typ.Stop)
	require.Equal(t, "0.0.0.0", typ.Host())
	require.Equal(t,
		"/opt/sd-worker-cuda --worker-id w --sd-version xl --port 8081 --callback-url http://127.0.0.1:7835 --model-path /m/sd --use-f16",
		command(t, typ, catalog.Values{WorkerID: "w"}))

	other := one(t, catalog.Entry{
		Name: "sd", Preset: "rbee-sd",
		Ready: catalog.ReadyEntry{Path: ptr(""), Status: 204, Stall: ptr(time.Second)},
		Stop:  catalog.StopEntry{Signal: []string{"quit"}, Scope: "tree"},
	})
	require.Equal(t, store.Ready{Status: 204, Stall: time.Second}, other.Ready)
	require.Equal(t, store.Stop{Signals: []string{"SIGQUIT"}, Grace: 10 * time.Second, Tree: true}, other.Stop)
}

func TestAnEntryOfAPresetsName(t *testing.T) {
	// With a command of its own it replaces the preset.
	own := one(t, catalog.Entry{Name: "vllm", Command: []string{"my-vllm", "{{.Port}}"}})
	require.Equal(t, []string{"my-vllm", "{{.Port}}"}, own.Command())
	require.Empty(t, own.Preset)
	require.Empty(t, own.Ready.Path)
	// Without one it changes it.
	changed := one(t, catalog.Entry{Name: "vllm", Program: "/venv/bin/vllm", Model: "org/m"})
	require.Equal(t, "vllm", changed.Preset)
	require.Equal(t, catalog.SourceConfiguration, changed.Source)
	require.Equal(t, "/venv/bin/vllm serve org/m --host 127.0.0.1 --port 8081 --served-model-name org/m", command(t, changed, catalog.Values{}))
	// And it may build on another.
	other := one(t, catalog.Entry{Name: "vllm", Preset: "reference"})
	require.Equal(t, "reference", other.Preset)
}

func TestHosts(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::1", "192.168.1.7", "localhost"} {
		typ := one(t, catalog.Entry{Name: "web", Command: []string{"web", "--bind", "{{.Host}}"}, Host: host})
		require.Equal(t, host, typ.Host())
		spec, err := typ.Render(catalog.Values{Port: 8080})
		require.NoError(t, err)
		require.Equal(t, host, spec.Host)
		require.Equal(t, []string{"web", "--bind", host}, spec.Argv)
	}
}

func TestWrongPresetEntries(t *testing.T) {
	for name, tc := range map[string]struct {
		entry catalog.Entry
		want  string
	}{
		"preset and command": {
			catalog.Entry{Name: "web", Preset: "vllm", Command: []string{"web"}},
			`workers[0] (web): preset: "vllm" and command contradict each other; choose one (program, args and params change a preset)`,
		},
		"unknown preset": {
			catalog.Entry{Name: "web", Preset: "lama-server"},
			`workers[0] (web): preset: "lama-server": expected one of ` + strings.Join(presetNames, ", "),
		},
		"neither":       {catalog.Entry{Name: "web"}, "or a preset (" + strings.Join(presetNames, ", ") + ")"},
		"host name":     {catalog.Entry{Name: "web", Preset: "vllm", Host: "gpubox.lan"}, `workers[0] (web): host: "gpubox.lan": expected an IP address, as in 127.0.0.1, 0.0.0.0 or ::1, or localhost`},
		"host and port": {catalog.Entry{Name: "web", Preset: "vllm", Host: "127.0.0.1:80"}, `host: "127.0.0.1:80": expected an IP address`},
		"host zone":     {catalog.Entry{Name: "web", Preset: "vllm", Host: "fe80::1%eth0"}, `host: "fe80::1%eth0": expected an IP address`},
		"host space":    {catalog.Entry{Name: "web", Preset: "vllm", Host: " "}, `host: " ": expected an IP address`},
		"device":        {catalog.Entry{Name: "web", Preset: "vllm", Device: "cuda:0"}, `workers[0] (web): device: unknown device "cuda:0" of worker type web: expected numbers as in 0 or 0,1, names as in GPU-8f1c..., or cpu`},
		"args":          {catalog.Entry{Name: "web", Preset: "vllm", Args: []string{"{{.Params.ctx}}"}}, `workers[0] (web): args[0]: <.Params.ctx>: map has no entry for key "ctx"`},
		"program":       {catalog.Entry{Name: "web", Preset: "vllm", Program: "{{.Prot}}"}, `workers[0] (web): program: <.Prot>: can't evaluate field Prot`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := catalog.New([]catalog.Entry{tc.entry}, self)
			require.ErrorIs(t, err, catalog.ErrEntry)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

// hive installed where rbee's keeper would end its workers: cpu and reference
// say so, the other presets work.
func TestPresetsUnderTheKeepersMark(t *testing.T) {
	c, err := catalog.New(nil, "/src/rbee-hive/bin/hive")
	require.NoError(t, err)
	for _, name := range presetNames {
		typ, _ := c.Type(name)
		require.Equal(t, name == "reference", strings.Contains(typ.Unavailable(), "rbee-hive"), name)
	}
}
