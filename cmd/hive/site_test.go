package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	main "rbeehive/cmd/hive"
	"rbeehive/hive/host"
	"rbeehive/test/cgroups"
	"rbeehive/test/freeport"
)

// TestMain makes the test binary hive itself when a test, or a hive that a test
// has started, runs it. The second case cannot be told by a variable: workers
// do not inherit HIVE_*.
func TestMain(m *testing.M) {
	if host.ServeThreads() {
		os.Exit(0)
	}
	if file := os.Getenv("HIVE_TEST_STUCK"); file != "" {
		os.Exit(main.RunStuck(os.Args[1:], os.Stdout, os.Stderr, file))
	}
	if os.Getenv("HIVE_TEST_MAIN") == "1" || len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(main.Run(os.Args[1:], os.Stdout, os.Stderr))
	}
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m)
}

const testTimeout = 30 * time.Second

// site is a place to run hives in: a directory, a configuration, a port range.
type site struct {
	dir    string
	env    []string
	passed []*os.File // to hive, as a service manager does it
	exe    string     // hive's program; empty: this test binary, where it is
}

func newSite(t *testing.T, yaml string) *site {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "hive.yaml")
	require.NoError(t, os.WriteFile(file, []byte(yaml), 0o600))
	first, err := freeport.Range(16)
	require.NoError(t, err)
	env := []string{
		"GORACE=atexit_sleep_ms=0", // a race-enabled hive would wait a second at its end
		"HIVE_TEST_MAIN=1", "HIVE_CONFIG=" + file, "HIVE_DATA_DIR=" + filepath.Join(dir, "state"), "HIVE_PORT=0",
		"HIVE_PORTS_RANGE=" + strconv.Itoa(first) + "-" + strconv.Itoa(first+15), "HOME=" + dir, "PATH=" + os.Getenv("PATH"),
	}
	t.Cleanup(func() { cgroups.Prune(filepath.Join(dir, "state")) }) // by now each hive of it has been killed
	return &site{dir: dir, env: env}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Range(1)
	require.NoError(t, err)
	return port
}

// process is a hive that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // stdout; closed at its end
	stderr *shared
	banner []string
	url    string
}

// shared is a buffer that is read while hive writes to it.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// program is hive, which has the sockets of passed from descriptor 3 on.
func (s *site) program(args []string) *exec.Cmd {
	exe := cmp.Or(s.exe, os.Args[0])
	cmd := exec.Command(exe, args...)
	if len(s.passed) > 0 {
		manager := "export LISTEN_PID=$$ LISTEN_FDS=" + strconv.Itoa(len(s.passed)) + "; exec \"$0\" \"$@\""
		cmd = exec.Command("/bin/sh", append([]string{"-c", manager, exe}, args...)...)
		cmd.ExtraFiles = s.passed
	}
	cmd.Env, cmd.Dir = s.env, s.dir
	return cmd
}

// command runs hive to its end.
func (s *site) command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := s.program(args)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// start runs hive and waits for its banner.
func (s *site) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 64), stderr: &shared{}}
	p.cmd = s.program(args)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // mostly gone already
		<-done
		_ = p.cmd.Wait()
	})
	last := "Ctrl-C"
	if slices.ContainsFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "NOTIFY_SOCKET=") }) {
		last = "          hivectl" // the second command to try
	}
	if len(args) > 0 && args[0] == "gateway" {
		last = "models at "
	}
	for !strings.HasPrefix(p.lastLine(), last) {
		line, ok := p.line()
		require.True(t, ok, "hive ended: %s", p.stderr)
		p.banner = append(p.banner, line)
	}
	_, p.url, _ = strings.Cut(p.banner[0], " at ")
	return p
}

func (p *process) lastLine() string {
	if len(p.banner) == 0 {
		return ""
	}
	return p.banner[len(p.banner)-1]
}

func (p *process) line() (string, bool) {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		return line, ok
	case <-time.After(testTimeout):
		p.t.Fatal("hive prints nothing")
		return "", false
	}
}

// logs waits for a line of the log: it comes by another pipe than the banner.
func (p *process) logs(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.stderr.String(), text) }, testTimeout, 5*time.Millisecond, "no %q", text)
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}

// end waits for the exit and returns the code and the lines printed since.
func (p *process) end() (code int, said []string) {
	p.t.Helper()
	for {
		line, ok := p.line()
		if !ok {
			break
		}
		said = append(said, line)
	}
	_ = p.cmd.Wait() // the exit code says it
	return p.cmd.ProcessState.ExitCode(), said
}

// client keeps no connections: they would outlive the test as goroutines.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
}

func get(url string) (int, string, error) {
	resp, err := client().Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// spawned is the result of a worker_spawn.
type spawned struct {
	WorkerID string `json:"worker_id"`
	PID      int    `json:"pid"`
	URL      string `json:"url"`
	Status   string `json:"status"`
}

func (p *process) spawn(body string) spawned {
	p.t.Helper()
	resp, err := client().Post(p.url+"/v1/jobs?wait=20s", "", strings.NewReader(body))
	require.NoError(p.t, err)
	defer resp.Body.Close()
	var job struct {
		State  string          `json:"state"`
		Result spawned         `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&job))
	require.Equal(p.t, "succeeded", job.State, "%s", job.Error)
	p.t.Cleanup(func() { _ = syscall.Kill(job.Result.PID, syscall.SIGKILL) }) // mostly gone already
	return job.Result
}

const spawnCPU = `{"operation": "worker_spawn", "worker": "cpu", "model": "test", "device": 0}`

func (w spawned) answers() bool {
	code, _, err := get(w.URL + "/health")
	return err == nil && code == http.StatusOK
}
