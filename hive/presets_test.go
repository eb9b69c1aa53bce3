package hive_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// programs makes a directory with a link to this test binary for each program
// that has a stand-in, and what the Python ones are to run.
func programs(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range programNames() {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	for _, name := range []string{"comfyui", "tabbyapi"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "main.py"), nil, 0o600))
	}
	return dir
}

// standInEntry is an entry of a preset whose program is a stand-in.
func standInEntry(dir, preset, program string) catalog.Entry {
	e := catalog.Entry{
		Name: "x", Preset: preset, Program: filepath.Join(dir, program),
		Ready: catalog.ReadyEntry{Timeout: ref(20 * time.Second)}, Stop: catalog.StopEntry{Grace: ref(5 * time.Second)},
	}
	if preset == "comfyui" || preset == "tabbyapi" {
		e.Params = plain(map[string]string{"main": filepath.Join(dir, preset, "main.py")})
	}
	return e
}

// report asks a stand-in about itself.
func report(t *testing.T, url string) (r selfReport) {
	t.Helper()
	resp, err := http.Get(url + "/standin")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&r))
	return r
}

func (r *rig) log(w store.Worker) string {
	r.Helper()
	text, err := os.ReadFile(w.Log)
	require.NoError(r, err)
	return string(text)
}

// Every row of the presets: a stand-in that takes the program's flags and no
// others becomes ready, sees its device, and is stopped as its row says.
func TestPresets(t *testing.T) {
	t.Parallel()
	type spawn = map[string]any
	for name, c := range map[string]struct {
		preset, program string
		spawn           spawn
		flags           string // part of the command line
		loading         bool   // it listens before it serves
		stopped         string // the line of its log after the stop; empty: the signal just ended it
	}{
		"llama-server": {
			"llama-server", "llama-server",
			spawn{"model": "/m/q.gguf", "device": 1},
			"-m /m/q.gguf", true, "ending in order: terminated",
		},
		"llama-server from the hub": {
			"llama-server", "llama-server",
			spawn{"model": "user/repo:Q4_K_M", "device": "1"},
			"-hf user/repo:Q4_K_M", true, "ending in order: terminated",
		},
		"vllm": {
			"vllm", "vllm",
			spawn{"model": "org/m", "device": "1", "name": "chat"},
			"serve org/m --host 127.0.0.1 --port", false, "ending in order: terminated",
		},
		"sglang": {
			"sglang", "python",
			spawn{"model": "org/m", "device": "1", "params": map[string]string{"nccl_port": "30500"}},
			"-m sglang.launch_server --model-path org/m", true, "ending in order: terminated",
		},
		"tei":            {"tei", "text-embeddings-router", spawn{"model": "org/m", "device": "1"}, "--model-id org/m --hostname 127.0.0.1 -p", false, "ending in order: terminated"},
		"sd-server":      {"sd-server", "sd-server", spawn{"model": "/m/sd", "device": "1"}, "-l 127.0.0.1 --listen-port", false, ""},
		"comfyui":        {"comfyui", "python", spawn{"device": "1"}, "--disable-auto-launch", false, ""},
		"whisper-server": {"whisper-server", "whisper-server", spawn{"model": "/m/w", "device": "1"}, "--inference-path /v1/audio/transcriptions", false, ""},
		"tabbyapi":       {"tabbyapi", "python", spawn{"model": "/m/exl3/qwen", "device": "1"}, "--model-dir /m/exl3 --model-name qwen", false, "ending in order: terminated"},
		"rbee-llm cuda":  {"rbee-llm", "llm-worker-rbee-cuda", spawn{"model": "/m/q", "device": 1}, "--model /m/q --port", false, "ending in order: interrupt"},
		"rbee-llm":       {"rbee-llm", "llm-worker-rbee", spawn{"model": "/m/q", "device": 1}, "--backend cuda --device 0", false, "ending in order: interrupt"},
		"rbee-sd":        {"rbee-sd", "sd-worker-cuda", spawn{"model": "/m/sd", "device": 1}, "--sd-version v1-5", false, "ending in order: interrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, standInEntry(programs(t), c.preset, c.program))
			r.open()
			// A model that is a path has to be there.
			dir := t.TempDir()
			if model, _ := c.spawn["model"].(string); strings.HasPrefix(model, "/m/") {
				c.spawn["model"] = modelFile(t, dir, strings.TrimPrefix(model, "/m/"))
				c.flags = strings.ReplaceAll(c.flags, "/m/", dir+"/")
			}
			res := r.spawn("x", c.spawn)
			require.Equal(t, "ready", res.Status)
			require.Equal(t, r.port(0), res.Port)

			self := report(t, res.URL)
			require.Contains(t, strings.Join(self.Args, " "), c.flags)
			require.Equal(t, "1", self.Env["CUDA_VISIBLE_DEVICES"])
			require.Equal(t, "1", self.Env["HIP_VISIBLE_DEVICES"])
			require.Equal(t, "PCI_BUS_ID", self.Env["CUDA_DEVICE_ORDER"])
			require.Equal(t, res.WorkerID, self.Env["RBEEHIVE_WORKER"])

			events, err := r.h.WorkerEvents(res.WorkerID, 0, 100)
			require.NoError(t, err)
			var story []string
			for _, e := range events {
				story = append(story, e.Message)
			}
			require.Equal(t, c.loading, strings.Contains(strings.Join(story, "\n"), " is loading"), "%q", story)

			r.stopWorker(res.WorkerID)
			require.False(t, alive(res.PID))
			require.Empty(t, r.leases())
			w, err := r.h.Worker(res.WorkerID)
			require.NoError(t, err)
			if c.stopped == "" {
				require.Equal(t, "SIGTERM", w.Exit.Signal)
				return
			}
			require.Contains(t, r.log(w), c.stopped)
			require.Equal(t, 0, *w.Exit.Code)
		})
	}
}

// modelFile makes a file that is a model to whoever only looks whether it is there.
func modelFile(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}

func TestADeviceThatIsNoGPU(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	llama, sglang := standInEntry(dir, "llama-server", "llama-server"), standInEntry(dir, "sglang", "python")
	llama.Name, sglang.Name, sglang.Device = "llama", "sgl", "cpu"
	r := newRig(t, 3, llama, sglang)
	r.open()
	for name, spawn := range map[string]map[string]any{"llama": {"model": "m", "device": "cpu"}, "sgl": {"model": "m"}} {
		self := report(t, r.spawn(name, spawn).URL)
		for _, v := range []string{"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} {
			value, set := self.Env[v]
			require.True(t, set, "%s of %s", v, name)
			require.Empty(t, value)
		}
	}
	pinless := report(t, r.spawn("llama", map[string]any{"model": "m"}).URL)
	require.Equal(t, os.Getenv("CUDA_VISIBLE_DEVICES"), pinless.Env["CUDA_VISIBLE_DEVICES"], "without a device nothing is pinned")
}

// A wrong device is a bad request, not a worker that quietly runs on the CPU.
func TestAWrongDeviceIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.open()
	_, err := r.h.Decode([]byte(`{"operation": "worker_spawn", "worker": "vllm", "model": "m", "device": "cuda:0"}`))
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.EqualError(t, err, `device: unknown device "cuda:0" of worker type vllm: expected numbers as in 0 or 0,1, names as in GPU-8f1c..., or cpu`)
	_, err = r.h.Decode([]byte(`{"operation": "worker_spawn", "worker": "llama-server"}`))
	require.EqualError(t, err, `model: a model is required: the command of worker type llama-server uses {{.Model}}`)
	_, err = r.h.Decode([]byte(`{"operation": "worker_spawn", "worker": "sglang", "model": "m", "params": {"ncclport": "1"}}`))
	require.EqualError(t, err, `params: unknown parameter "ncclport" of worker type sglang; it has nccl_port`)
}

// vLLM's engine does not end because its server has.
func TestChildrenOfAPresetDieWithIt(t *testing.T) {
	t.Parallel()
	e := standInEntry(programs(t), "vllm", "vllm")
	e.Stop.Grace = ref(500 * time.Millisecond)
	r := newRig(t, 1, e)
	r.open()
	res := r.spawn("x", map[string]any{"model": "org/m"})
	child := report(t, res.URL).Child
	require.True(t, alive(child))
	r.stopWorker(res.WorkerID)
	require.False(t, alive(child))
	require.Empty(t, r.leases())
}

// An open stream held llama-server for its whole grace, and then it was killed. What it does
// with a second signal it does in time.
func TestAnOpenStreamDoesNotHoldUpAStop(t *testing.T) {
	t.Parallel()
	e := standInEntry(programs(t), "llama-server", "llama-server")
	e.Stop = catalog.StopEntry{}
	r := newRig(t, 1, e)
	r.open()
	res := r.spawn("x", map[string]any{"model": modelFile(t, t.TempDir(), "q.gguf")})
	resp, err := http.Get(res.URL + "/stream")
	require.NoError(t, err)
	defer resp.Body.Close()
	begun := time.Now()
	r.stopWorker(res.WorkerID)
	require.Less(t, time.Since(begun), 4*time.Second)
	w := r.worker(res.WorkerID)
	require.Equal(t, "stopped on request", w.Reason)
	require.Equal(t, 1, *w.Exit.Code)
	require.Contains(t, r.log(w), "received second interrupt")
}

// What two copies of a program would share, they must not share.
func TestTwoCopiesOfAPreset(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	for _, c := range []struct{ preset, program string }{
		{"llama-server", "llama-server"}, {"vllm", "vllm"}, {"tei", "text-embeddings-router"}, {"sd-server", "sd-server"}, {"whisper-server", "whisper-server"},
	} {
		t.Run(c.preset, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3, standInEntry(dir, c.preset, c.program))
			r.open()
			for n := range 3 {
				require.Equal(t, r.port(n), r.spawn("x", map[string]any{"model": "org/m"}).Port)
			}
		})
	}
	t.Run("comfyui", func(t *testing.T) {
		t.Parallel()
		e := standInEntry(dir, "comfyui", "python")
		one, two := t.TempDir(), t.TempDir()
		e.Params["base_directory"] = catalog.ParamEntry{Pattern: ref(regexp.QuoteMeta(one) + "|" + regexp.QuoteMeta(two))}
		r := newRig(t, 3, e)
		r.open()
		in := func(base string) map[string]any {
			return map[string]any{"params": map[string]string{"base_directory": base}}
		}
		r.spawn("x", in(one))
		r.spawn("x", in(two))
		job := r.do(map[string]any{"operation": "worker_spawn", "worker": "x", "params": in(one)["params"]})
		require.Equal(t, errdefs.CodeExitedEarly, job.Error.Code)
	})
}

// The stand-in refuses what the program would refuse, or the tests above prove
// nothing about flags.
func TestStandInsRefuseForeignFlags(t *testing.T) {
	t.Parallel()
	e := standInEntry(programs(t), "llama-server", "llama-server")
	e.Args = []string{"--served-model-name", "x"}
	r := newRig(t, 1, e)
	r.open()
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "x", "model": "m"})
	require.Equal(t, errdefs.CodeExitedEarly, job.Error.Code)
	require.Equal(t, []string{"error: unknown argument: --served-model-name"}, job.Error.Log)
}

func TestWhisperAnswersWhereOpenAIsClientsAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, standInEntry(programs(t), "whisper-server", "whisper-server"))
	r.open()
	resp, err := http.Post(r.spawn("x", map[string]any{"model": "m"}).URL+"/v1/audio/transcriptions", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// A stranger takes the port after the probe. Whatever the program makes of that
// (it ends with 0 or 1, takes the next port, or shares the port), hive never
// takes the stranger for the worker.
func TestAStrangerOnAPresetsPort(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		preset, program string
		shares          bool
	}{
		"ends with 0":         {preset: "sd-server", program: "sd-server"},
		"ends with 1":         {preset: "llama-server", program: "llama-server"},
		"takes the next port": {preset: "tabbyapi", program: "python"},
		"shares the port":     {preset: "whisper-server", program: "whisper-server", shares: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := standInEntry(programs(t), c.preset, c.program)
			e.Env = []string{standInStranger + "=1", standInLoad + "=0s"}
			e.Ready.Timeout = ref(3 * time.Second) // on another port no stranger comes
			r := newRig(t, 3, e)
			r.open()
			job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "x", "model": modelFile(t, t.TempDir(), "q")})
			r.eventually("the worker runs", func() bool { return len(r.processes()) == 1 })
			var lc net.ListenConfig
			if c.shares {
				lc.Control = reusePort
			}
			l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(r.port(0)))))
			require.NoError(t, err)
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })}
			done := make(chan struct{})
			go func() { defer close(done); _ = srv.Serve(l) }()
			t.Cleanup(func() { _ = srv.Close(); <-done })

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			job, err = r.h.WaitJob(ctx, job.JobID)
			require.NoError(t, err)
			require.Equal(t, store.JobFailed, job.State)
			for _, w := range r.h.Workers() {
				if w.Port == r.port(0) {
					require.Nil(t, w.ReadyAt)
					require.True(t, w.State.Ended())
				}
			}
		})
	}
}

func TestHostOfAnEntry(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	for host, url := range map[string]string{"0.0.0.0": "http://127.0.0.1:", "127.0.0.2": "http://127.0.0.2:", "localhost": "http://localhost:", "::1": "http://[::1]:", "::": "http://[::1]:"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(host, ":") {
				needIPv6(t)
			}
			e := standInEntry(dir, "llama-server", "llama-server")
			e.Host = host
			r := newRig(t, 1, e)
			r.open()
			res := r.spawn("x", map[string]any{"model": "m"})
			require.Equal(t, url+strconv.Itoa(int(res.Port)), res.URL)
			require.Contains(t, strings.Join(report(t, res.URL).Args, " "), "--host "+host+" ")
		})
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		require.NoError(t, l.Close())
		return
	}
	skip.Because(t, "no IPv6 here: "+err.Error())
}
