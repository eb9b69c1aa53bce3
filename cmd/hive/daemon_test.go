package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
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
	"go.uber.org/goleak"

	main "rbeehive/cmd/hive"
)

// TestMain makes the test binary hive itself when a test, or a hive that a test
// has started, runs it. The second case cannot be told by a variable: workers
// do not inherit HIVE_*.
func TestMain(m *testing.M) {
	if os.Getenv("HIVE_TEST_MAIN") == "1" || len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(main.Run(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second

// site is a place to run hives in: a directory, a configuration, a port range.
type site struct {
	dir string
	env []string
}

func newSite(t *testing.T, yaml string) *site {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "hive.yaml")
	require.NoError(t, os.WriteFile(file, []byte(yaml), 0o600))
	first := freePort(t)
	if first > 65000 {
		first -= 1000
	}
	env := []string{
		"HIVE_TEST_MAIN=1", "HIVE_CONFIG=" + file, "HIVE_DATA_DIR=" + filepath.Join(dir, "state"), "HIVE_PORT=0",
		"HIVE_PORTS_RANGE=" + strconv.Itoa(first) + "-" + strconv.Itoa(first+15), "HOME=" + dir, "PATH=" + os.Getenv("PATH"),
	}
	return &site{dir: dir, env: env}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// process is a hive that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // stdout; closed at its end
	stderr *bytes.Buffer
	banner []string
	url    string
}

// command runs hive to its end.
func (s *site) command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.env, s.dir, &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// start runs hive and waits for its banner.
func (s *site) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 64), stderr: &bytes.Buffer{}}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env, p.cmd.Dir, p.cmd.Stderr = s.env, s.dir, p.stderr
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
	for !strings.HasPrefix(p.lastLine(), "Ctrl-C") {
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
	case <-time.After(patience):
		p.t.Fatal("hive prints nothing")
		return "", false
	}
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
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
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

func TestStartAndSIGTERM(t *testing.T) {
	s := newSite(t, "hive_id: box\n")
	p := s.start(t)
	require.Equal(t, "hive      box at "+p.url, p.banner[0])
	require.Equal(t, "config    "+filepath.Join(s.dir, "hive.yaml"), p.banner[1])
	require.Equal(t, "data      "+filepath.Join(s.dir, "state"), p.banner[2])
	require.Contains(t, p.banner[3], "recovery  0 workers taken back, 0 found dead and freed, in ")
	code, body, err := get(p.url + "/health")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok", strings.TrimSpace(body))
	require.Equal(t, os.FileMode(0o700), mode(t, filepath.Join(s.dir, "state")))

	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"hive stopped; no worker runs"}, said)
	_, _, err = get(p.url + "/health")
	require.Error(t, err)
}

func TestWorkersOutliveHiveAndAreTakenBack(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	require.Equal(t, "ready", w.Status)

	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"hive stopped; 1 worker keeps running, and starting hive again takes it back"}, said)
	require.True(t, w.answers())

	p = s.start(t)
	require.Contains(t, p.banner[3], "1 worker taken back, 0 found dead and freed")
	require.Contains(t, strings.Join(p.banner, "\n"), "worker "+w.WorkerID+" (pid "+strconv.Itoa(w.PID)+")")
	p.signal(syscall.SIGKILL)
	p.end()
	require.True(t, w.answers(), "also after kill -9")

	p = s.start(t)
	require.Contains(t, p.banner[3], "1 worker taken back, 0 found dead and freed")
	p.signal(syscall.SIGINT)
	line, ok := p.line()
	require.True(t, ok)
	require.Equal(t, "1 worker keeps running; Ctrl-C again within 5s stops it too", line)
	_, _, err := get(p.url + "/health")
	require.Error(t, err, "the listener is closed at once")
	require.True(t, w.answers())
	p.signal(syscall.SIGINT)
	code, said = p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"stopping 1 worker", "hive stopped; no worker runs"}, said)
	require.False(t, w.answers())
}

func TestOneSIGINTKeepsTheWorkers(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	p.signal(syscall.SIGINT)
	code, said := p.end() // after the 5 s in which a second one is waited for
	require.Equal(t, 0, code)
	require.Equal(t, []string{
		"1 worker keeps running; Ctrl-C again within 5s stops it too",
		"hive stopped; 1 worker keeps running, and starting hive again takes it back",
	}, said)
	require.True(t, w.answers())
}

func TestSIGTERMAfterSIGINTDoesNotWait(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	p.signal(syscall.SIGINT)
	_, ok := p.line()
	require.True(t, ok)
	before := time.Now()
	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Less(t, time.Since(before), 4*time.Second)
	require.Equal(t, 0, code)
	require.Equal(t, []string{"hive stopped; 1 worker keeps running, and starting hive again takes it back"}, said)
	require.True(t, w.answers())
}

func TestShutdownStop(t *testing.T) {
	s := newSite(t, "shutdown: stop\n")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"stopping 1 worker", "hive stopped; no worker runs"}, said)
	require.False(t, w.answers())
}

func TestPostShutdown(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	resp, err := client().Post(p.url+"/v1/shutdown", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"hive stopped; 1 worker keeps running, and starting hive again takes it back"}, said)
	require.True(t, w.answers())
}

func TestConfiguredWorkerThroughTheWholeDaemon(t *testing.T) {
	s := newSite(t, `
workers:
  - name: cpu
    args: ["--load-time", "{{.Params.load}}"]
    params: {load: 200ms}
    model: from-the-file
`)
	p := s.start(t)
	w := p.spawn(`{"operation": "worker_spawn", "worker": "cpu"}`)
	require.Equal(t, "ready", w.Status)
	_, body, err := get(w.URL + "/v1/models")
	require.NoError(t, err)
	require.Contains(t, body, `"id":"from-the-file"`)
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(w.PID) + "/cmdline")
	require.NoError(t, err)
	require.Contains(t, string(cmdline), "--load-time\x00200ms\x00")
	require.NotContains(t, string(cmdline), "rbee-hive")
	p.signal(syscall.SIGTERM)
	p.end()
}

func TestPortInUseNamesItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s := newSite(t, "")
	code, stdout, stderr := s.command(t, "--port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Regexp(t, `^hive: 127\.0\.0\.1:\d+ is in use by \S+ \(pid `+strconv.Itoa(os.Getpid())+`, user \S+\); stop it, or choose another port with --port: address already in use\n$`, stderr)
	require.NoDirExists(t, filepath.Join(s.dir, "state"), "nothing is touched before")
}

func TestSecondHiveOnOneDirectory(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	code, stdout, stderr := s.command(t)
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "is held by process "+strconv.Itoa(p.cmd.Process.Pid))
	require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
	p.signal(syscall.SIGTERM)
	p.end()
}

func TestUsageAndConfigurationMistakesExit2(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml string
		args []string
		want string
	}{
		"unknown flag":  {args: []string{"--prot", "1"}, want: "hive: unknown flag: --prot; hive --help lists the flags\n"},
		"argument":      {args: []string{"start"}, want: "hive: unexpected argument \"start\"; hive --help lists the flags\n"},
		"unknown key":   {yaml: "hive_di: x\n", want: "hive.yaml:1: unknown key \"hive_di\"; did you mean \"hive_id\"?\n"},
		"wrong value":   {yaml: "shutdown: x\n", want: "hive.yaml: shutdown: \"x\": expected keep or stop\n"},
		"wrong entry":   {yaml: "workers: [{name: web, command: [\"{{.Prot}}\"]}]\n", want: "hive.yaml: workers[0] (web): command[0]: <.Prot>: can't evaluate field Prot"},
		"wrong port":    {args: []string{"--port", "x"}, want: "hive: --port: \"x\": expected a port number from 0 to 65535\n"},
		"missing value": {args: []string{"--port"}, want: "hive: flag needs an argument: --port; hive --help lists the flags\n"},
		"worker":        {args: []string{"worker"}, want: "hive worker: --port is required: the port to listen on\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := newSite(t, tc.yaml).command(t, tc.args...)
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tc.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
		})
	}
}

func TestVersionAndBuildInfo(t *testing.T) {
	s := newSite(t, "unknown: key\n") // must not matter
	code, stdout, _ := s.command(t, "--build-info")
	require.Equal(t, 0, code)
	require.Equal(t, "release\n", stdout)
	code, stdout, _ = s.command(t, "--version")
	require.Equal(t, 0, code)
	require.Regexp(t, `^hive \S+ \(go1\.\S+, linux/\w+\)\n$`, stdout)
	code, stdout, _ = s.command(t, "--help")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "--take-over")
	require.Contains(t, stdout, "the reference worker")
}

func TestQueenURLSaysWhatItDoesNotDo(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t, "--queen-url", "http://127.0.0.1:7833", "--log-format", "json", "--log-level", "warn")
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code)
	var line struct{ Level, Msg, QueenURL string }
	require.NoError(t, json.Unmarshal(p.stderr.Bytes(), &line), "one line of JSON: %s", p.stderr)
	require.Equal(t, "warning", line.Level)
	require.Contains(t, line.Msg, "does not announce itself to a queen")
}

func TestDataDirThatIsNotHives(t *testing.T) {
	s := newSite(t, "")
	require.NoError(t, os.Chmod(s.dir, 0o755))
	code, _, stderr := s.command(t, "--data-dir", s.dir) // holds hive.yaml
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "holds things that are not hive's")
	require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
}
