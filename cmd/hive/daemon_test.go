package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/store/plain"
)

func TestStartAndSIGTERM(t *testing.T) {
	s := newSite(t, "hive_id: box\n")
	p := s.start(t)
	require.Equal(t, "hive      box at "+p.url, p.banner[0])
	require.Equal(t, "config    "+filepath.Join(s.dir, "hive.yaml"), p.banner[1])
	require.Equal(t, "data      "+filepath.Join(s.dir, "state"), p.banner[2])
	require.Contains(t, p.banner[3], "recovery  0 workers adopted, 0 found dead and freed, in ")
	code, body, err := get(p.url + "/health")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok", strings.TrimSpace(body))
	require.Equal(t, os.FileMode(0o700), mode(t, filepath.Join(s.dir, "state")))

	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"hive stopped; no workers running"}, said)
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
	require.Equal(t, []string{"hive stopped; 1 worker keeps running, and the next start of hive adopts it"}, said)
	require.True(t, w.answers())

	p = s.start(t)
	require.Contains(t, p.banner[3], "1 worker adopted, 0 found dead and freed")
	require.Contains(t, strings.Join(p.banner, "\n"), "worker "+w.WorkerID+" (pid "+strconv.Itoa(w.PID)+")")
	killed := p.cmd.Process.Pid
	require.NotContains(t, p.stderr.String(), "the last hive", "it had ended by itself")
	p.signal(syscall.SIGKILL)
	p.end()
	require.True(t, w.answers(), "also after kill -9")

	p = s.start(t)
	require.Contains(t, p.stderr.String(), "the last hive (PID "+strconv.Itoa(killed)+", since ")
	require.Contains(t, p.banner[3], "1 worker adopted, 0 found dead and freed")
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
	require.Equal(t, []string{"stopping 1 worker", "hive stopped; no workers running"}, said)
	require.False(t, w.answers())
}

func TestOneSIGINTKeepsTheWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits the 5 s in which a second SIGINT may come")
	}
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	p.signal(syscall.SIGINT)
	code, said := p.end() // after the 5 s in which a second one is waited for
	require.Equal(t, 0, code)
	require.Equal(t, []string{
		"1 worker keeps running; Ctrl-C again within 5s stops it too",
		"hive stopped; 1 worker keeps running, and the next start of hive adopts it",
	}, said)
	require.True(t, w.answers())
}

func TestSIGTERMAfterSIGINTDoesNotWait(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	end := func() time.Duration {
		before := time.Now()
		p.signal(syscall.SIGTERM)
		code, said := p.end()
		require.Equal(t, 0, code)
		require.Equal(t, []string{"hive stopped; 1 worker keeps running, and the next start of hive adopts it"}, said)
		return time.Since(before)
	}
	p.signal(syscall.SIGINT)
	_, ok := p.line()
	require.True(t, ok)
	took := end()
	p = s.start(t)
	alone := end()
	require.Less(t, took, alone+4*time.Second, "it has waited 5 s for a second SIGINT")
	require.True(t, w.answers())
}

func TestShutdownStop(t *testing.T) {
	s := newSite(t, "shutdown: stop\n")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	p.signal(syscall.SIGTERM)
	code, said := p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, []string{"stopping 1 worker", "hive stopped; no workers running"}, said)
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
	require.Equal(t, []string{"hive stopped; 1 worker keeps running, and the next start of hive adopts it"}, said)
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

// Any user can give a process a name that drives a terminal. It holds hive's port, its
// socket, and a port of its range.
func TestNamesOfStrangersDoNotDriveTheTerminal(t *testing.T) {
	const foul, shown = "\x1b]0;x\x07", `\x1b]0;x\x07`
	before, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("/proc/self/comm", []byte(foul), 0o600))
	t.Cleanup(func() { require.NoError(t, os.WriteFile("/proc/self/comm", before, 0o600)) })
	require.Empty(t, plain.Flaw(shown))

	s := newSite(t, "")
	i := slices.IndexFunc(s.env, func(kv string) bool { return strings.HasPrefix(kv, "HIVE_PORTS_RANGE=") })
	_, first, _ := strings.Cut(s.env[i], "=")
	first, _, _ = strings.Cut(first, "-")
	inRange, err := net.Listen("tcp", "127.0.0.1:"+first)
	require.NoError(t, err)
	defer inRange.Close()
	p := s.start(t)
	banner := strings.Join(p.banner, " ")
	require.Contains(t, banner, first+" "+shown+" (pid "+strconv.Itoa(os.Getpid()))
	require.Empty(t, plain.Flaw(banner))
	p.signal(syscall.SIGTERM)
	p.end()
	require.NotContains(t, p.stderr.String(), "\x1b")

	_, _, stderr := s.command(t, "--port", first)
	require.Contains(t, stderr, "is in use by "+shown+" (pid ")
	require.NotContains(t, stderr, "\x1b")
	socket := filepath.Join(shortDir(t), "s")
	held, err := main.ListenSocket(t.Context(), socket, private)
	require.NoError(t, err)
	defer held.Close()
	_, err = main.ListenSocket(t.Context(), socket, private)
	require.ErrorContains(t, err, "is held by process "+strconv.Itoa(os.Getpid())+" ("+shown+")")
	require.NotContains(t, err.Error(), "\x1b")
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
		"wrong value":   {yaml: "shutdown: x\n", want: "hive.yaml:1: shutdown: \"x\": expected keep or stop\n"},
		"wrong entry":   {yaml: "workers: [{name: web, command: [\"{{.Prot}}\"]}]\n", want: "hive.yaml:1: workers[0] (web): command[0]: <.Prot>: can't evaluate field Prot"},
		"two commands":  {yaml: "workers: [{name: web, preset: vllm, command: [web]}]\n", want: "hive.yaml:1: workers[0] (web): preset: \"vllm\" and command contradict each other; choose one"},
		"wrong preset":  {yaml: "workers: [{name: web, preset: lama}]\n", want: "hive.yaml:1: workers[0] (web): preset: \"lama\": expected one of comfyui, llama-server,"},
		"wrong host":    {yaml: "workers: [{name: web, preset: vllm, host: gpubox.lan}]\n", want: "hive.yaml:1: workers[0] (web): host: \"gpubox.lan\": expected an IP address"},
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

// queen returns a server, and what it is told.
func queen(t *testing.T) (url string, words <-chan string) {
	t.Helper()
	requests := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			requests <- err.Error()
			return
		}
		requests <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// The queen is told when hive serves, and another one when the configuration says so.
func TestTheQueenIsTold(t *testing.T) {
	first, words := queen(t)
	second, others := queen(t)
	const box = "hive_id: box\nadvertise: http://gpubox.lan:7835\n"
	own := fmt.Sprintf("worker_user: '%d:%d'\n", os.Geteuid(), os.Getegid()) // else root is warned
	s := newSite(t, box+own+"queen_url: "+first+"\n")
	p := s.start(t, "--log-format", "json", "--log-level", "warn")
	const word = `/v1/hive/ready {"hive_id":"box","hive_url":"http://gpubox.lan:7835"}`
	require.Equal(t, word, <-words)
	s.write(t, box+own+"queen_url: "+second+"\n")
	p.signal(syscall.SIGHUP)
	require.Equal(t, word, <-others)
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code)
	require.Empty(t, words, "once")
	require.NotContains(t, p.stderr.String(), "hive_url", "nothing is to be said about its URL")
}

func TestAQueenElsewhereIsToldALoopbackAddress(t *testing.T) {
	s := newSite(t, "")
	// 0.0.0.0 is no loopback address, and a connection to it never leaves this machine.
	p := s.start(t, "--queen-url", "http://0.0.0.0:1", "--log-format", "json", "--log-level", "warn")
	p.logs("advertise")
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code)
	var first string
	for said := range strings.Lines(p.stderr.String()) {
		if strings.Contains(said, "advertise") {
			first = said
			break
		}
	}
	var line struct {
		Level, Msg string
		HiveURL    string `json:"hive_url"`
	}
	require.NoError(t, json.Unmarshal([]byte(first), &line), p.stderr)
	require.Equal(t, "warning", line.Level)
	require.Contains(t, line.Msg, "advertise")
	require.Contains(t, line.HiveURL, "127.0.0.1")
}

func TestDataDirThatIsNotHives(t *testing.T) {
	s := newSite(t, "")
	require.NoError(t, os.Chmod(s.dir, 0o755))
	code, _, stderr := s.command(t, "--data-dir", s.dir) // holds hive.yaml
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "has files that are not hive's")
	require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
}
