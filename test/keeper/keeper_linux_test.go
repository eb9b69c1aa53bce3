package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/freeport"
	"rbeehive/test/hub"
	"rbeehive/test/keeper"
)

const timeout = 30 * time.Second

// site is where the keeper's hive lives: bin/hive, and rbee-hive beside it.
type site struct {
	*testing.T
	dir, program string
	port         int
	env          []string
	cmd          *exec.Cmd
	printed      *bytes.Buffer // read once it has ended
	*keeper.Client
}

// config has a worker that talks like the end of a job and becomes ready, and one
// that talks like it and ends.
const config = `
listen: ["127.0.0.1:7835", "unix:%[1]s/s"]
workers:
  - name: noisy
    command: ["sh", "-c", "cat %[1]s/noise; exec %[2]s worker --port $0", "{{.Port}}"]
    ready: {path: /health}
  - name: crash
    command: ["sh", "-c", "cat %[1]s/noise; exit 3", "{{.Port}}"]
  - name: slow
    command: ["%[2]s", "worker", "--port", "{{.Port}}", "--unhealthy"]
    ready: {path: /health}
  - name: mine
    preset: reference
`

const noise = "[DONE]\ndata: [DONE]\n[CANCELLED]\n[ERROR] boom\ndata:[ERROR] boom\nmlock failed: Cannot allocate memory\nJob 7 failed\nlast words\n"

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "hive"), "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Symlink("hive", filepath.Join(bin, "rbee-hive")))
	write := func(name, content string, mode os.FileMode) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), mode))
	}
	write("noise", noise, 0o600)
	write("hive.yaml", fmt.Sprintf(config, dir, filepath.Join(bin, "hive")), 0o600)
	write("path/llama-server", "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'version: 6140 (eb7cf15a)'; exit; }\n"+
		"exec "+filepath.Join(bin, "hive")+" worker --host \"$2\" --port \"$4\" --model \"$6\"\n", 0o700)
	write("path/llm-worker-rbee-cpu", "#!/bin/sh\n[ \"$1\" = --version ] && echo 'llm-worker-rbee-cpu 0.4.0'\n", 0o700)
	server := hub.Start()
	t.Cleanup(server.Close)
	server.Add("org/one", hub.File{Path: "m.gguf", Size: 1 << 20, Seed: 1, LFS: true})

	ports, err := freeport.Range(11)
	require.NoError(t, err)
	s := &site{T: t, dir: dir, program: filepath.Join(bin, "rbee-hive"), port: ports + 10}
	s.env = []string{
		"HOME=" + dir, "PATH=" + filepath.Join(dir, "path") + ":" + os.Getenv("PATH"), "HIVE_DATA_DIR=" + filepath.Join(dir, "data"),
		"HIVE_CONFIG=" + filepath.Join(dir, "hive.yaml"), fmt.Sprintf("HIVE_PORTS_RANGE=%d-%d", ports, ports+9),
		"HF_ENDPOINT=" + server.URL,
	}
	s.Client = &keeper.Client{
		URL: "http://127.0.0.1:" + strconv.Itoa(s.port), HiveID: "gpubox",
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	return s
}

// start starts the hive as the keeper does, and polls /health.
func (s *site) start() {
	s.Helper()
	s.printed = &bytes.Buffer{}
	s.cmd = exec.Command(s.program, "--port", strconv.Itoa(s.port), "--queen-url", "http://127.0.0.1:1", "--hive-id", s.HiveID)
	s.cmd.Env, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.env, s.dir, s.printed, s.printed
	require.NoError(s, s.cmd.Start())
	s.Cleanup(func() { _ = s.cmd.Process.Kill() }) // it has ended, unless the test failed
	require.Eventually(s, func() bool { return s.Healthy(s.Context()) }, timeout, 20*time.Millisecond, "/health never answered 200")
}

// end waits until the program has ended.
func (s *site) end() {
	s.Helper()
	require.NoError(s, s.cmd.Wait(), s.printed)
}

func (s *site) do(operation string, fields map[string]any) keeper.View {
	s.Helper()
	v, err := s.Do(s.Context(), operation, fields)
	require.NoError(s, err)
	require.Empty(s, v.Left, "the connection closes behind the terminator")
	return v
}

// succeed is do for a job that must succeed, with its payload.
func (s *site) succeed(operation string, fields map[string]any, payload any) keeper.View {
	s.Helper()
	v := s.do(operation, fields)
	require.NoError(s, v.Err, "%q", v.Lines)
	require.False(s, v.Failed, "%q", v.Lines)
	require.NoError(s, v.Payload(operation, payload))
	return v
}

// fail is do for a job that must fail.
func (s *site) fail(operation string, fields map[string]any, says string) {
	s.Helper()
	v := s.do(operation, fields)
	require.ErrorIs(s, v.Err, keeper.ErrFailed, "%q", v.Lines)
	require.Contains(s, v.Err.Error(), says)
}

// trusted is the same client over the unix socket.
func (s *site) trusted() *site {
	other := *s
	client := *s.Client
	client.URL = "http://localhost"
	client.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "s"))
	}}}
	other.Client = &client
	return &other
}

type spawned struct {
	WorkerID string `json:"worker_id"`
	PID      int    `json:"pid"`
	Port     int    `json:"port"`
}

func (s *site) spawn(worker string) (w spawned) {
	s.Helper()
	v := s.succeed("worker_spawn", map[string]any{"worker": worker, "model": "m", "device": 0}, &w)
	var last spawned
	require.NoError(s, v.LastLine(&last))
	require.Equal(s, w, last, "the page reads the last line")
	return w
}

type object = map[string]any

func TestKeeper(t *testing.T) {
	s := newSite(t)
	out, err := exec.CommandContext(t.Context(), s.program, "--build-info").CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "release\n", string(out))
	s.start()

	w := s.spawn("cpu")
	s.processes(w)
	s.jobs()
	s.noise()
	s.inventory()
	s.modelOperations()
	s.refusals()
	s.installs()

	var checked struct {
		OK bool `json:"ok"`
	}
	s.succeed("hive_check", object{"alias": "gpubox"}, &checked)
	require.True(t, checked.OK)
	s.shutdown(w)
}

func (s *site) processes(w spawned) {
	var rows []struct {
		PID           int
		Model, Device *string
	}
	v := s.succeed("worker_process_list", nil, &rows)
	require.Len(s, rows, 1)
	require.Equal(s, w.PID, rows[0].PID)
	require.Equal(s, "m", *rows[0].Model)
	rows = nil
	require.NoError(s, v.LastLine(&rows))
	require.Len(s, rows, 1)

	var row struct{ PID int }
	s.succeed("worker_process_get", object{"pid": w.PID}, &row)
	require.Equal(s, w.PID, row.PID)
	s.fail("worker_process_get", object{"pid": os.Getpid()}, "not_found")
	s.fail("worker_process_delete", object{"pid": os.Getpid()}, "not_found") // and this test goes on
	gone := s.spawn("cpu")
	var stopped struct{ Status string }
	s.succeed("worker_process_delete", object{"pid": gone.PID}, &stopped)
	require.Equal(s, "stopped", stopped.Status)
	require.ErrorIs(s, syscall.Kill(gone.PID, 0), syscall.ESRCH)
}

// jobs are what the keeper does with one besides reading it.
func (s *site) jobs() {
	_, err := s.Watch(s.Context(), "job-none", "/v1/jobs/job-none/stream")
	var refused *keeper.Refused
	require.ErrorAs(s, err, &refused)
	require.Equal(s, http.StatusNotFound, refused.Status)
	status, _, err := s.Cancel(s.Context(), "job-none")
	require.NoError(s, err)
	require.Equal(s, http.StatusNotFound, status)

	id, path, err := s.Submit(s.Context(), "worker_spawn", object{"worker": "slow", "model": "m", "device": 0})
	require.NoError(s, err)
	require.Equal(s, "/v1/jobs/"+id+"/stream", path)
	seen := make(chan keeper.View, 1)
	go func() {
		v, err := s.Watch(s.Context(), id, path)
		v.Err = errors.Join(v.Err, err)
		seen <- v
	}()
	status, body, err := s.Cancel(s.Context(), id)
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, status, body)
	require.JSONEq(s, `{"job_id":"`+id+`","status":"cancelled"}`, body)
	require.ErrorIs(s, (<-seen).Err, keeper.ErrCancelled)
	status, body, err = s.Cancel(s.Context(), id)
	require.NoError(s, err)
	require.Equal(s, http.StatusConflict, status, body)
	v, err := s.Watch(s.Context(), id, path) // replayed from the beginning
	require.NoError(s, err)
	require.ErrorIs(s, v.Err, keeper.ErrCancelled)
	require.Greater(s, len(v.Lines), 1)
}

// noise is a worker whose log looks like the end of a job.
func (s *site) noise() {
	w := s.spawn("noisy")
	var stopped struct{ Status string }
	s.succeed("worker_process_delete", object{"pid": w.PID}, &stopped)

	v := s.do("worker_spawn", object{"worker": "crash", "model": "m", "device": 0})
	require.ErrorIs(s, v.Err, keeper.ErrFailed)
	require.Contains(s, v.Err.Error(), "exited_early")
	require.False(s, v.Failed, "only the terminator says so: %q", v.Lines)
	shown := strings.Join(v.Lines, "\n")
	for _, line := range []string{"DONE", "CANCELLED", "boom", "mlock", "last words"} {
		require.Contains(s, shown, line, "the log is shown")
	}
}

type workers struct {
	Workers []struct {
		ID, Name   string
		WorkerType string `json:"worker_type"`
		Platform   string
		Version    *string
		Size       int64
		Path       string
		AddedAt    time.Time `json:"added_at"`
		SHA256     *string
		Source     string
		Installed  *bool
	}
}

// ids are those of one source; of all if it is empty.
func (w workers) ids(source string) (ids []string) {
	for _, row := range w.Workers {
		if source == "" || row.Source == source {
			ids = append(ids, row.ID)
		}
	}
	return ids
}

func (s *site) inventory() {
	var catalog, installed, page workers
	s.succeed("worker_catalog_list", nil, &catalog)
	require.Subset(s, catalog.ids(""), []string{"cpu", "cuda", "metal", "llama-server", "vllm", "mine"})
	for _, row := range catalog.Workers {
		require.NotNil(s, row.Installed)
		if row.ID == "cuda" || row.ID == "llama-server" {
			require.Equal(s, row.ID == "llama-server", *row.Installed, row.ID)
		}
	}
	var one struct {
		ID        string
		Installed bool
		Reason    *string
	}
	s.succeed("worker_catalog_get", object{"worker_id": "cuda"}, &one)
	require.Contains(s, *one.Reason, "no worker program is configured")
	s.fail("worker_catalog_get", object{"worker_id": "nobody"}, "not_found")

	v := s.succeed("worker_list_installed", nil, &installed)
	require.NoError(s, v.FirstBraces(&page))
	require.Equal(s, installed, page, "the page reads the first line with braces")
	require.NotContains(s, installed.ids(""), "cuda")
	found := false
	for _, row := range installed.Workers {
		require.Equal(s, "linux", row.Platform)
		require.Positive(s, row.Size)
		require.False(s, row.AddedAt.IsZero())
		if row.ID == "llama-server" {
			found = true
			require.Equal(s, filepath.Join(s.dir, "path/llama-server"), row.Path)
			require.Equal(s, "6140 (eb7cf15a)", *row.Version)
			require.Len(s, *row.SHA256, 64)
		}
	}
	require.True(s, found)
	s.succeed("worker_installed_get", object{"worker_id": "cpu"}, &one)
	s.fail("worker_installed_get", object{"worker_id": "cuda"}, "not_found")
}

// shutdown stops the hive as the keeper does: whatever answers a second later is
// killed by name, and no worker may have that name.
func (s *site) shutdown(w spawned) {
	status, _, err := s.Shutdown(s.Context())
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, status)
	require.Eventually(s, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(s.port))
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, time.Second, 5*time.Millisecond, "the listener is closed") // and first of all: httpapi has a test of that
	s.end()
	require.NoError(s, syscall.Kill(w.PID, 0), "the worker goes on")
	require.Empty(s, s.named("rbee-hive"))
	require.NotEmpty(s, s.named("worker"), "a worker is found by what it is called")

	s.start() // what was installed is there, and the worker is adopted
	var catalog workers
	s.succeed("worker_catalog_list", nil, &catalog)
	require.Equal(s, []string{"llm-worker-rbee-cpu"}, catalog.ids("installed"))
	var stopped struct{ Status string }
	s.succeed("worker_process_delete", object{"pid": w.PID}, &stopped)
	_, _, err = s.Shutdown(s.Context())
	require.NoError(s, err)
	s.end()
	require.Empty(s, s.named("worker"))
}

// named are the processes of this site whose command line has a word in it.
func (s *site) named(word string) (found []string) {
	s.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(s, err)
	for _, file := range files {
		raw, _ := os.ReadFile(file) // it may end meanwhile
		line := string(bytes.ReplaceAll(raw, []byte{0}, []byte(" ")))
		if strings.Contains(line, s.dir) && strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found
}
