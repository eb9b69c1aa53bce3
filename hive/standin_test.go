package hive_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Variables that a test sets for a stand-in.
const (
	standInLoad     = "STANDIN_LOAD"     // how long its model loads
	standInStranger = "STANDIN_STRANGER" // it binds only once somebody else listens on its port
)

// bindOrder is when a program is to be found on its port.
type bindOrder int

const (
	late  bindOrder = iota // the port is closed until the model is loaded
	early                  // it listens at once and answers 503 until then
	bound                  // it binds at once and listens when the model is loaded
)

// standIn behaves like one real program: it takes that program's flags and no
// others, and does what is known of it (presets.md) with its port.
type standIn struct {
	flags     map[string]bool // each with whether it takes a value
	words     int             // arguments that are no flags
	required  []string
	host      string // the flag with the address; empty: it binds all
	port      string // the flag with the port
	ready     string // the path that answers 200 when it serves
	order     bindOrder
	reusePort bool // SO_REUSEPORT
	held      int  // the exit code when the port is held
	nextPort  bool // it takes the port after one that is held, and says nothing
	talks     bool // it says that it listens before it does
	children  bool // it has one, which does not end by itself
	onTerm    bool // it ends in order on SIGTERM; else SIGTERM just ends it
	onInt     bool // the same for SIGINT
	streams   bool // an open stream holds it after the first signal, and the second ends it at once
	version   string
}

func flagsOf(withValue, without string) map[string]bool {
	flags := map[string]bool{}
	for _, f := range strings.Fields(withValue) {
		flags[f] = true
	}
	for _, f := range strings.Fields(without) {
		flags[f] = false
	}
	return flags
}

// standIns by the name of the program; a Python program by what Python is given.
func standIns() map[string]*standIn {
	return map[string]*standIn{
		"llama-server": {
			flags: flagsOf("--host --port -m --model -hf --hf-repo -hff --hf-file -c --ctx-size -ngl --alias --ssl-key-file --ssl-cert-file", "--jinja --version"),
			host:  "--host", port: "--port", ready: "/health", order: early, held: 1, onTerm: true, onInt: true, streams: true,
			version: "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\nversion: 6140 (eb7cf15a)\nbuilt with cc for x86_64-linux-gnu\n",
		},
		"vllm": {
			flags: flagsOf("--host --port --served-model-name --max-model-len --tensor-parallel-size", "--version"), words: 2,
			host: "--host", port: "--port", ready: "/health", order: bound, reusePort: true, held: 1, children: true, onTerm: true, onInt: true,
			version: "INFO 11-26 11:40:24 [__init__.py:216] Automatically detected platform cpu.\n0.11.0\n",
		},
		"sglang.launch_server": {
			flags:    flagsOf("--model-path --host --port --nccl-port --device --tp-size --served-model-name", ""),
			required: []string{"--model-path"}, host: "--host", port: "--port", ready: "/health", order: early, held: 1, onTerm: true,
		},
		"text-embeddings-router": {
			flags:    flagsOf("--model-id --hostname -p --port --uds-path --prometheus-port --dtype", "--version"),
			required: []string{"--model-id"}, host: "--hostname", port: "-p", ready: "/health", held: 1, onTerm: true, onInt: true,
			version: "text-embeddings-router 1.8.3\n",
		},
		"sd-server": {
			flags: flagsOf("-l --listen-ip --listen-port -m --model --vae -t", "--fa -v --version"),
			host:  "-l", port: "--listen-port", ready: "/v1/models", reusePort: true, held: 0, talks: true,
			version: "stable-diffusion.cpp version master-504, commit 636d3cb\n",
		},
		"comfyui": {
			flags: flagsOf("--listen --port --base-directory --output-directory", "--disable-auto-launch --cpu"),
			host:  "--listen", port: "--port", ready: "/system_stats", held: 1,
		},
		"whisper-server": {
			flags: flagsOf("--host --port -m --model --inference-path --request-path -t -l", "--convert"),
			host:  "--host", port: "--port", ready: "/health", reusePort: true, held: 1,
		},
		"tabbyapi": {
			flags: flagsOf("--host --port --model-dir --model-name --max-seq-len", ""),
			host:  "--host", port: "--port", ready: "/health", nextPort: true, onTerm: true, onInt: true,
		},
		"llm-worker-rbee":      rbeeStandIn("--worker-id --model --model-ref --backend --device --port --hive-url", "--local-mode"),
		"llm-worker-rbee-cpu":  rbeeStandIn("--worker-id --model --model-ref --port --hive-url", ""),
		"llm-worker-rbee-cuda": rbeeStandIn("--worker-id --model --port --hive-url", "", "--cuda-device"),
		"sd-worker-cpu":        rbeeStandIn("--worker-id --sd-version --port --callback-url", "", "--model-path"),
		"sd-worker-cuda":       rbeeStandIn("--worker-id --sd-version --port --callback-url", "", "--cuda-device", "--model-path"),
	}
}

func rbeeStandIn(required, without string, optional ...string) *standIn {
	return &standIn{
		flags:    flagsOf(required+" "+strings.Join(optional, " "), without+" --version"),
		required: strings.Fields(required), port: "--port", ready: "/health", held: 1, onInt: true,
		version: "rbee-worker 0.1.0\n",
	}
}

// asStandIn runs the stand-in that this process was started as, if it was.
func asStandIn() (code int, ok bool) {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	switch {
	case name == "standin-child":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		for {
			_ = unix.Pause()
		}
	case name == "python" && len(args) > 1 && args[0] == "-c":
		return python(args[1]), true
	case name == "python" && len(args) > 1 && args[0] == "-m":
		name, args = args[1], args[2:]
	case name == "python" && len(args) > 0:
		name, args = filepath.Base(filepath.Dir(args[0])), args[1:] // .../comfyui/main.py
	}
	s, ok := standIns()[name]
	if !ok {
		return 0, false
	}
	given, err := s.parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return 2, true
	}
	if _, asked := given["--version"]; asked {
		fmt.Print(s.version)
		return 0, true
	}
	if err := s.run(given); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		if errors.Is(err, syscall.EADDRINUSE) {
			return s.held, true
		}
		return 1, true
	}
	return 0, true
}

// python answers what the presets ask it: it has sglang if a file of that name
// lies beside it.
func python(script string) int {
	version, err := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), "sglang"))
	if !strings.Contains(script, "sglang") || err != nil {
		fmt.Fprintln(os.Stderr, "importlib.metadata.PackageNotFoundError: No package metadata was found for sglang")
		return 1
	}
	fmt.Println(string(version))
	return 0
}

// parse refuses what the program would refuse.
func (s *standIn) parse(args []string) (map[string]string, error) {
	given := map[string]string{}
	words := 0
	for i := 0; i < len(args); i++ {
		arg := args[i]
		takesValue, known := s.flags[arg]
		switch {
		case !strings.HasPrefix(arg, "-"):
			words++
		case !known:
			return nil, fmt.Errorf("unknown argument: %s", arg)
		case takesValue && i+1 == len(args):
			return nil, fmt.Errorf("%s needs a value", arg)
		case takesValue:
			i++
			given[arg] = args[i]
		default:
			given[arg] = ""
		}
	}
	if _, asked := given["--version"]; asked {
		return given, nil
	}
	for _, name := range append([]string{s.port}, s.required...) {
		if given[name] == "" {
			return nil, fmt.Errorf("%s is required", name)
		}
	}
	if words != s.words {
		return nil, fmt.Errorf("%d arguments that are no flags, expected %d", words, s.words)
	}
	return given, nil
}

// run serves until a signal.
func (s *standIn) run(given map[string]string) error {
	caught := make(chan os.Signal, 1)
	if s.onTerm {
		signal.Notify(caught, syscall.SIGTERM)
	}
	if s.onInt {
		signal.Notify(caught, syscall.SIGINT)
	}
	if err := s.claimOthers(given); err != nil {
		return err
	}
	child, err := s.startChild()
	if err != nil {
		return err
	}
	if os.Getenv(standInStranger) != "" && !awaitStranger(given[s.port], caught) {
		return nil
	}
	ready, served := make(chan struct{}), make(chan error, 1)
	serve, err := s.open(given, func(l net.Listener) {
		srv := &http.Server{Handler: s.handler(given, child, ready)}
		go func() {
			if given["--ssl-cert-file"] != "" && given["--ssl-key-file"] != "" {
				served <- srv.ServeTLS(l, given["--ssl-cert-file"], given["--ssl-key-file"])
				return
			}
			served <- srv.Serve(l)
		}()
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(loadTime()):
	case sig := <-caught:
		fmt.Println("ending while it loads:", sig)
		return nil
	}
	close(ready)
	if err := serve(); err != nil {
		return err
	}
	select {
	case sig := <-caught:
		if s.streams && openStreams.Load() > 0 {
			<-caught
			return errors.New("received second interrupt, terminating immediately")
		}
		fmt.Println("ending in order:", sig)
		return nil
	case err := <-served:
		return err
	}
}

// openStreams counts the clients of a stand-in that wait for the end of an answer.
var openStreams atomic.Int32

func loadTime() time.Duration {
	load, err := time.ParseDuration(os.Getenv(standInLoad))
	if err != nil {
		return 100 * time.Millisecond
	}
	return load
}

// startChild returns the PID of the child that the program has; 0: none.
func (s *standIn) startChild() (int, error) {
	if !s.children {
		return 0, nil
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"standin-child"}}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// selfReport is what a stand-in tells about itself at /standin.
type selfReport struct {
	Args  []string          `json:"args"`
	Env   map[string]string `json:"env"`
	Child int               `json:"child"`
}

func (s *standIn) handler(given map[string]string, child int, ready <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	var asked atomic.Bool
	mux.HandleFunc(s.ready, func(w http.ResponseWriter, _ *http.Request) {
		// On a busy machine the first probe may come when all is loaded: it is seen loading all the same.
		if s.order == early && loadTime() > 0 && asked.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-ready:
			fmt.Fprintln(w, `{"status":"ok"}`)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if path := given["--inference-path"]; path != "" {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"text":""}`) })
	}
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		openStreams.Add(1)
		defer openStreams.Add(-1)
		fmt.Fprintln(w, "data: {}")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/standin", func(w http.ResponseWriter, _ *http.Request) {
		report := selfReport{Args: os.Args, Env: map[string]string{}, Child: child}
		for _, kv := range os.Environ() {
			name, value, _ := strings.Cut(kv, "=")
			report.Env[name] = value
		}
		_ = json.NewEncoder(w).Encode(report)
	})
	return mux
}

// programNames are what stand-ins can be started as.
func programNames() []string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(standIns())), func(name string) bool {
		return name == "comfyui" || name == "tabbyapi" || strings.HasPrefix(name, "sglang")
	})
	return append(names, "python")
}
