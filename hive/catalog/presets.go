package catalog

import (
	"regexp"
	"time"
)

// referenceName is the preset, and the type, of the reference worker.
const referenceName = "reference"

// unbuffered makes Python write each line to its log at once: output is how
// hive sees that a server which loads for minutes is getting on.
const unbuffered = "PYTHONUNBUFFERED=1"

// safePath keeps the working directory out of Python's module path, where it comes
// first for `python -m` and `python -c`: also for what the servers start by these
// themselves, and for the version probe. Python knows it since 3.11. It is not for
// programs that are a script: the script's own directory would be left out, too.
const safePath = "PYTHONSAFEPATH=1"

// What the programs do on a stop was read in their sources, which the presets name: whether
// a second signal ends what the first waits for, and whether that wait is of use.

// presets is every preset by name. What each program binds when, and what it
// does when its port is taken, is in the tests: hive/presets_test.go has a
// stand-in for each that behaves like it.
func presets() map[string]*preset {
	all := map[string]*preset{}
	for _, p := range []*preset{
		llamaServer(), vllm(), sglang(), tei(), sdServer(), comfyUI(), whisperServer(), tabbyAPI(),
		rbeeLLM(), rbeeSD(), reference(),
	} {
		all[p.name] = p
	}
	return all
}

// llamaServer must have a model: without one llama-server becomes a router that
// starts servers of its own, which hive would know nothing about.
//
// SIGTERM stops its queue and then waits for open connections: a stream gets no further
// token, and holds the server until its client goes. A second signal ends it at once, with
// code 1 (llama.cpp, tools/server/server.cpp, signal_handler: "Received second interrupt,
// terminating immediately"). So waiting long after the first is of no use to anybody.
func llamaServer() *preset {
	return &preset{
		name: "llama-server", description: "llama.cpp's server; the model is a GGUF file, or user/repo:quant of the Hugging Face hub",
		command: []string{
			"llama-server", "--host", "{{.Host}}", "--port", "{{.Port}}",
			"{{if hubRepo .Model}}-hf{{else}}-m{{end}}", "{{or (hubRepo .Model) .Model}}",
			"{{if hubFile .Model}}--hf-file{{end}}", "{{hubFile .Model}}",
		},
		naming:      naming{"--alias", []string{"-a", "LLAMA_ARG_ALIAS"}},
		certificate: []string{"--ssl-cert-file", "LLAMA_ARG_SSL_CERT_FILE"},
		path:        "/health", pins: true, openAI: true,
		signals: []string{"SIGTERM", "SIGTERM"}, grace: 2 * time.Second,
		// With a GPU it reports its devices first.
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^version: (.+)`)},
	}
}

// vllm serves the model under the worker's name, so that clients can go on
// asking for that name when the model behind it changes.
//
// SIGTERM ends its engine, and with that every request, so it needs no second signal
// (vllm/entrypoints/launcher.py, serve_http: signal_handler cancels the server, which is
// shut down once the engine is gone). Both signals do the same, the second does nothing.
func vllm() *preset {
	return &preset{
		name: "vllm", description: "vLLM's OpenAI server; the model is a directory or a repository of the hub",
		command: []string{"vllm", "serve", "{{.Model}}", "--host", "{{.Host}}", "--port", "{{.Port}}"},
		naming:  naming{flag: "--served-model-name"}, certificate: []string{"--ssl-certfile"},
		path: "/health", env: []string{unbuffered, safePath}, pins: true, openAI: true,
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^v?(\d+\.\d\S*)$`)},
	}
}

// sglang takes an NCCL port of its own choice unless it is given one; two of
// them that start at once can choose the same.
//
// It looks for a SIGTERM every 5 s, waits for the requests that it has and then ends all
// its processes (python/sglang/srt/managers/tokenizer_manager.py, sigterm_watchdog): a
// stream goes on until the grace is over. No second signal ends it in order; SIGQUIT is for its
// own children that have failed.
func sglang() *preset {
	return &preset{
		name: "sglang", description: "SGLang's server; the model is a directory or a repository of the hub",
		command: []string{
			"python", "-m", "sglang.launch_server", "--model-path", "{{.Model}}", "--host", "{{.Host}}", "--port", "{{.Port}}",
			"{{if .Params.nccl_port}}--nccl-port{{end}}", "{{.Params.nccl_port}}",
			// Without a GPU it ends unless it is told so.
			`{{if eq .Device "cpu"}}--device{{end}}`, `{{if eq .Device "cpu"}}cpu{{end}}`,
		},
		naming: naming{flag: "--served-model-name"}, certificate: []string{"--ssl-certfile"},
		params: map[string]Param{"nccl_port": free("", port)},
		path:   "/health", env: []string{unbuffered, safePath}, pins: true, openAI: true,
		// Importing sglang takes seconds; its metadata does not.
		version: VersionProbe{
			Args: []string{"-c", "import importlib.metadata as m; print(m.version('sglang'))"},
			Line: regexp.MustCompile(`^(\d\S*)$`), Proves: true,
		},
	}
}

// tei has two more addresses, with defaults that a second one on this machine
// would share: a socket in /tmp, and port 9000 for Prometheus, which is in the
// middle of hive's range. Port 0 lets the kernel choose one outside of it;
// /metrics is on the main port too.
//
// SIGTERM has it answer the requests that it has, which are short; further signals are not
// listened to (router/src/shutdown.rs, shutdown_signal).
func tei() *preset {
	return &preset{
		name: "tei", description: "text-embeddings-inference; the model is a directory or a repository of the hub",
		command: []string{
			"text-embeddings-router", "--model-id", "{{.Model}}", "--hostname", "{{.Host}}", "-p", "{{.Port}}",
			"--uds-path", "{{tempDir}}/hive-{{.WorkerID}}",
			"{{if .Params.prometheus_port}}--prometheus-port{{end}}", "{{.Params.prometheus_port}}",
		},
		params: map[string]Param{"prometheus_port": free("0", port)},
		path:   "/health", pins: true, openAI: true,
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^text-embeddings-router (\S+)`)},
	}
}

// sdServer has no /health; it answers nothing before the model is loaded. It listens to no
// signal, so SIGTERM ends it at once (stable-diffusion.cpp, examples/server/main.cpp).
func sdServer() *preset {
	return &preset{
		name: "sd-server", description: "stable-diffusion.cpp's server; the model is a file",
		command: []string{"sd-server", "-l", "{{.Host}}", "--listen-port", "{{.Port}}", "-m", "{{.Model}}"},
		path:    "/v1/models", pins: true, openAI: true,
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^stable-diffusion\.cpp version (.+)`)},
	}
}

// comfyUI takes its models from its base directory, where it also writes: two
// copies need two. What it finds there as a custom node is code, so the directory is
// fixed as the script is. It listens to SIGINT only, so SIGTERM ends it at once (ComfyUI,
// main.py).
func comfyUI() *preset {
	return &preset{
		name: "comfyui", description: "ComfyUI; its entry says main (its main.py) and base_directory (each copy needs its own)",
		command: []string{
			"python", "{{.Params.main}}", "--listen", "{{.Host}}", "--port", "{{.Port}}",
			"{{if .Params.base_directory}}--base-directory{{end}}", "{{.Params.base_directory}}",
			"--disable-auto-launch",
			// Without a GPU it ends unless it is told so.
			`{{if eq .Device "cpu"}}--cpu{{end}}`,
		},
		params: map[string]Param{"main": fixed("main.py"), "base_directory": fixed("")}, script: 1,
		certificate: []string{"--tls-certfile"},
		path:        "/system_stats", env: []string{unbuffered}, pins: true,
	}
}

// whisperServer answers where OpenAI's clients ask. SIGTERM has it finish the
// transcriptions that it has, which are answered as a whole and so worth the grace; older
// versions listen to no signal (whisper.cpp, examples/server/server.cpp,
// setup_signal_handler).
func whisperServer() *preset {
	return &preset{
		name: "whisper-server", description: "whisper.cpp's server; the model is a file",
		command: []string{
			"whisper-server", "--host", "{{.Host}}", "--port", "{{.Port}}", "-m", "{{.Model}}",
			"--inference-path", "/v1/audio/transcriptions",
		},
		path: "/health", pins: true, openAI: true,
	}
}

// tabbyAPI wants the directory of all models and the name of one.
//
// It is a uvicorn server: SIGTERM has it finish its streams, however long they are, and of
// what comes then only SIGINT ends the wait (tabbyAPI, common/signals.py, hands signals on
// to uvicorn/server.py, handle_exit: force_exit).
func tabbyAPI() *preset {
	return &preset{
		name: "tabbyapi", description: "tabbyAPI; the model is a directory, or a name in tabbyAPI's own models; its entry says main (its main.py)",
		command: []string{
			"python", "{{.Params.main}}", "--host", "{{.Host}}", "--port", "{{.Port}}",
			`{{if contains .Model "/"}}--model-dir{{end}}`, `{{if contains .Model "/"}}{{dir .Model}}{{end}}`,
			"--model-name", "{{base .Model}}",
		},
		params: map[string]Param{"main": fixed("main.py")}, script: 1,
		path: "/health", env: []string{unbuffered}, pins: true, openAI: true,
		signals: []string{"SIGTERM", "SIGINT"}, grace: 5 * time.Second,
	}
}

// rbeeLLM is four programs with different flags, of which each refuses those of
// the others: the program's name decides. The device is pinned by variables, so
// the worker's own number of it is 0, which is also the default of
// --cuda-device.
func rbeeLLM() *preset {
	const (
		program   = `{{if or (not .Device) (eq .Device "cpu")}}llm-worker-rbee-cpu{{else}}llm-worker-rbee-cuda{{end}}`
		withRef   = `{{if not (or (hasSuffix .Program "-cuda") (hasSuffix .Program "-metal"))}}`
		universal = `{{if eq (base .Program) "llm-worker-rbee"}}`
		end       = `{{end}}`
	)
	return &preset{
		programs: []string{"llm-worker-rbee", "llm-worker-rbee-cpu", "llm-worker-rbee-cuda", "llm-worker-rbee-metal"},
		name:     "rbee-llm", description: "rbee's LLM workers (llm-worker-rbee, -cpu, -cuda, -metal: the program's name decides the flags)",
		command: []string{
			program, "--worker-id", "{{.WorkerID}}", "--model", "{{.Model}}",
			withRef + "--model-ref" + end, withRef + "{{.ModelID}}" + end,
			universal + "--backend" + end, universal + `{{if or (not .Device) (eq .Device "cpu")}}cpu{{else}}cuda{{end}}` + end,
			universal + "--device" + end, universal + "0" + end,
			"--port", "{{.Port}}", "--hive-url", "{{.HiveURL}}",
			universal + "--local-mode" + end,
		},
		path: "/health", pins: true, openAI: true,
		// They finish what they are at on SIGINT, and drop it on SIGTERM.
		signals: []string{"SIGINT", "SIGTERM"},
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^\S+ v?(\d\S*)`)},
	}
}

// rbeeSD is rbee's image workers.
func rbeeSD() *preset {
	return &preset{
		programs: []string{"sd-worker-cpu", "sd-worker-cuda", "sd-worker-metal"},
		name:     "rbee-sd", description: "rbee's image workers (sd-worker-cpu, -cuda); param sd_version; a model is optional",
		command: []string{
			`{{if or (not .Device) (eq .Device "cpu")}}sd-worker-cpu{{else}}sd-worker-cuda{{end}}`,
			"--worker-id", "{{.WorkerID}}", "--sd-version", "{{.Params.sd_version}}", "--port", "{{.Port}}",
			"--callback-url", "{{.HiveURL}}",
			"{{if .Model}}--model-path{{end}}", "{{if .Model}}{{.Model}}{{end}}",
		},
		params: map[string]Param{"sd_version": free("v1-5", word)},
		path:   "/health", pins: true,
		signals: []string{"SIGINT", "SIGTERM"},
		version: VersionProbe{Args: []string{"--version"}, Line: regexp.MustCompile(`^\S+ v?(\d\S*)`)},
	}
}

// reference starts the reference worker, which is hive's own binary. It has no
// version probe: its version is hive's.
func reference() *preset {
	return &preset{
		name: referenceName, description: "the reference worker: answers on its port and echoes completions; for trying out and for tests",
		command: []string{
			hiveProgram, "worker", "--port", "{{.Port}}", "--host", "{{.Host}}",
			"{{if .Model}}--model={{.Model}}{{end}}",
			"{{if .Device}}--device={{.Device}}{{end}}",
			"--worker-id", "{{.WorkerID}}",
		},
		path: "/health", openAI: true,
	}
}

// hiveProgram is a template because a path may hold what a template would read
// as an action.
const hiveProgram = "{{.Hive}}"
