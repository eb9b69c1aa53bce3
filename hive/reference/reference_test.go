package reference_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/reference"
	"rbeehive/test/freeport"
)

// TestMain makes the test binary the reference worker when a test asks for it:
// what is tested is a process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(reference.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

const timeout = 20 * time.Second

// worker is a running reference worker.
type worker struct {
	cmd    *exec.Cmd
	port   int
	lines  chan string // its stdout; closed at its end
	stderr *bytes.Buffer
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Range(1)
	require.NoError(t, err)
	return port
}

// start runs the worker; port is what it is told, not what it must listen on.
func start(t *testing.T, port int, args ...string) *worker {
	t.Helper()
	w := &worker{port: port, lines: make(chan string, 16), stderr: &bytes.Buffer{}}
	w.cmd = exec.Command(os.Args[0], append([]string{"worker", "--port", strconv.Itoa(port)}, args...)...)
	w.cmd.Stderr = w.stderr
	out, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			w.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // mostly gone already
		<-done
		_ = w.cmd.Wait()
	})
	return w
}

// line waits for the next line of stdout; empty: it has ended.
func (w *worker) line(t *testing.T) string {
	t.Helper()
	select {
	case line := <-w.lines:
		return line
	case <-time.After(timeout):
		t.Fatal("the worker prints nothing")
		return ""
	}
}

// exit waits for the end and returns the exit code.
func (w *worker) exit(t *testing.T) int {
	t.Helper()
	for w.line(t) != "" {
	}
	_ = w.cmd.Wait() // the exit code says it
	return w.cmd.ProcessState.ExitCode()
}

func (w *worker) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", w.port, path) }

// client keeps no connections: they would outlive the test as goroutines.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := client().Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func post(t *testing.T, url, body string) (int, map[string]any) {
	t.Helper()
	resp, err := client().Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	var v map[string]any
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&v))
	return resp.StatusCode, v
}

func TestServesAndDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := start(t, freePort(t), "--model", "test", "--device", "0", "--worker-id", "cpu-1-abc")
		require.Equal(t, fmt.Sprintf("worker cpu-1-abc listening on 127.0.0.1:%d, model test", w.port), w.line(t))

		code, body := get(t, w.url("/health"))
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, `{"status":"healthy"}`, body)

		require.NoError(t, w.cmd.Process.Signal(sig))
		require.Equal(t, 0, w.exit(t))
		require.Empty(t, w.stderr.String())
	}
}

func TestModelsAndCompletions(t *testing.T) {
	w := start(t, freePort(t), "--model", "tiny")
	w.line(t)
	code, body := get(t, w.url("/v1/models"))
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `^\{"data":\[\{"id":"tiny","object":"model","created":\d+,"owned_by":"hive"\}\],"object":"list"\}$`, body)

	code, got := post(t, w.url("/v1/completions"), `{"model":"tiny","prompt":"one two three"}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "text_completion", got["object"])
	require.Equal(t, "tiny", got["model"])
	require.Equal(t, []any{map[string]any{"text": "one two three", "index": 0.0, "logprobs": nil, "finish_reason": "stop"}}, got["choices"])
	require.Equal(t, map[string]any{"prompt_tokens": 3.0, "completion_tokens": 3.0, "total_tokens": 6.0}, got["usage"])

	code, got = post(t, w.url("/v1/completions"), `{"prompt":["a b c","d"],"max_tokens":2}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, []any{
		map[string]any{"text": "a b", "index": 0.0, "logprobs": nil, "finish_reason": "length"},
		map[string]any{"text": "d", "index": 1.0, "logprobs": nil, "finish_reason": "stop"},
	}, got["choices"])

	for body, want := range map[string]string{
		`{`:                            "unexpected EOF",
		`{}`:                           "prompt: expected a string or a list of strings",
		`{"prompt":7}`:                 "prompt: expected a string or a list of strings",
		`{"prompt":"a","stream":true}`: "the reference worker does not stream",
	} {
		code, got := post(t, w.url("/v1/completions"), body)
		require.Equal(t, http.StatusBadRequest, code)
		require.Equal(t, map[string]any{"message": want, "type": "invalid_request_error", "param": nil, "code": nil}, got["error"])
	}
	code, _ = get(t, w.url("/v1/completions"))
	require.Equal(t, http.StatusMethodNotAllowed, code)
}

// A request that is running when SIGTERM comes is answered before the exit.
func TestDrainFinishesARunningRequest(t *testing.T) {
	w := start(t, freePort(t))
	w.line(t)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(timeout)))
	const body = `{"prompt":"late"}`
	// The server answers 100 when its handler reads the body: then the request is running.
	_, err = fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	_, err = in.ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "terminated: draining", w.line(t))
	_, err = io.WriteString(conn, body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, string(answer), `"text":"late"`)
	require.Equal(t, 0, w.exit(t))
}

func TestLoadTime(t *testing.T) {
	w := start(t, freePort(t), "--load-time", "400ms")
	w.line(t)
	code, body := get(t, w.url("/health"))
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, `{"status":"loading"}`, body)
	code, _ = post(t, w.url("/v1/completions"), `{"prompt":"a"}`)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Eventually(t, func() bool {
		code, _ := get(t, w.url("/health"))
		return code == http.StatusOK
	}, timeout, 20*time.Millisecond)
}

// Who asks a port can tell which worker answers, whatever the answer is.
func TestAnswersNameTheWorker(t *testing.T) {
	for id, want := range map[string][]string{"cpu-1-abc": {"cpu-1-abc"}, "": nil} {
		w := start(t, freePort(t), "--worker-id", id)
		w.line(t)
		for _, path := range []string{"/health", "/v1/models", "/nowhere"} {
			resp, err := client().Get(w.url(path))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, want, resp.Header.Values(reference.WorkerHeader), path)
		}
	}
}

func TestUnhealthy(t *testing.T) {
	w := start(t, freePort(t), "--unhealthy")
	w.line(t)
	code, body := get(t, w.url("/health"))
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, `{"status":"unhealthy"}`, body)
}

func TestExitFaults(t *testing.T) {
	w := start(t, freePort(t), "--exit-code", "3")
	require.Equal(t, "exiting with code 3, as asked", w.line(t))
	require.Equal(t, 3, w.exit(t))

	w = start(t, freePort(t), "--exit-after", "100ms", "--exit-code", "4")
	require.Contains(t, w.line(t), "listening on")
	require.Equal(t, 4, w.exit(t))

	w = start(t, freePort(t), "--exit-after", "0s")
	require.Equal(t, 0, w.exit(t), "a server that exits 0 is a fault too")
}

func TestListenOffset(t *testing.T) {
	port := freePort(t) - 1
	w := start(t, port, "--listen-offset", "1")
	require.Contains(t, w.line(t), fmt.Sprintf("listening on 127.0.0.1:%d", port+1))
	w.port = port + 1
	code, _ := get(t, w.url("/health"))
	require.Equal(t, http.StatusOK, code)
}

func TestNoListen(t *testing.T) {
	w := start(t, freePort(t), "--no-listen", "--exit-after", "100ms", "--exit-code", "5")
	require.Equal(t, "exiting with code 5, as asked", w.line(t), "it never says that it listens")
	require.Equal(t, 5, w.exit(t))
}

func TestIgnoreTerm(t *testing.T) {
	w := start(t, freePort(t), "--ignore-term", "--exit-after", "500ms", "--exit-code", "6")
	w.line(t)
	require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, w.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, 6, w.exit(t), "it ends by its timer, not by the signals")
}

func TestPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	w := start(t, l.Addr().(*net.TCPAddr).Port)
	require.Equal(t, 1, w.exit(t))
	require.Contains(t, w.stderr.String(), "hive worker: listen: ")
	require.Contains(t, w.stderr.String(), "address already in use")
}

func TestWrongFlags(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no port":        {nil, "hive worker: --port is required: the port to listen on\n"},
		"port 0":         {[]string{"--port", "0"}, "hive worker: --port 0: expected 1 to 65535\n"},
		"port too high":  {[]string{"--port", "65536"}, "hive worker: --port 65536: expected 1 to 65535\n"},
		"port no number": {[]string{"--port", "x"}, `invalid value "x" for flag -port`},
		"offset":         {[]string{"--port", "65535", "--listen-offset", "1"}, "hive worker: --listen-offset 1: port 65536 is none\n"},
		"exit code":      {[]string{"--port", "80", "--exit-code", "256"}, "hive worker: --exit-code 256: expected 0 to 255\n"},
		"argument":       {[]string{"--port", "80", "x"}, "hive worker: unexpected argument \"x\"\n"},
		"unknown flag":   {[]string{"--prot", "80"}, "flag provided but not defined: -prot"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 2, reference.Main(tc.args, &stdout, &stderr))
			require.Contains(t, stderr.String(), tc.want)
			require.Empty(t, stdout.String())
		})
	}
}

func TestHelpNamesTheFaults(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, reference.Main([]string{"--help"}, &stdout, &stderr))
	for _, flag := range []string{"load-time", "exit-after", "exit-code", "listen-offset", "no-listen", "unhealthy", "ignore-term"} {
		require.Regexp(t, `-`+flag+`( \w+)?\n\s+for tests: `, stderr.String())
	}
}
