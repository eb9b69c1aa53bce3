package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/cmd/hivectl/command"
	"rbeehive/cmd/hivectl/command/cli"
)

// systemEnv has this test binary be hivectl itself, with a socket and a TCP address of
// the machine's hive.
const systemEnv = "HIVE_TEST_SYSTEM"

func TestMain(m *testing.M) {
	if socket, addr, found := strings.Cut(os.Getenv(systemEnv), " "); found {
		env := cli.System("v0.0.1")
		env.Socket, env.Addr = socket, addr
		os.Exit(command.Run(env))
	}
	goleak.VerifyTestMain(m)
}

// now is the time of every test's clock.
var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// bodyHeader hands the body of a request on to the handler of its route.
const bodyHeader = "X-Test-Body"

// fake is an API that answers each route with a fixed text and keeps what it was sent.
type fake struct {
	t      *testing.T
	mu     sync.Mutex
	routes map[string]http.HandlerFunc
	posted []string
}

// serve starts a fake API and returns it with its address.
func serve(t *testing.T, routes map[string]http.HandlerFunc) (*fake, string) {
	f := &fake{t: t, routes: routes}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return f, server.URL
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var body bytes.Buffer
		_, err := body.ReadFrom(r.Body)
		require.NoError(f.t, err)
		f.mu.Lock()
		f.posted = append(f.posted, body.String())
		f.mu.Unlock()
		r.Header.Set(bodyHeader, body.String())
	}
	if h, ok := f.routes[r.Method+" "+r.URL.Path]; ok {
		h(w, r)
		return
	}
	problem(404, "not_found", "no "+r.URL.Path)(w, r)
}

func (f *fake) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.posted
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, body)
	}
}

func events(text ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i, e := range text {
			kind, message, _ := strings.Cut(e, " ")
			data, _ := json.Marshal(map[string]any{"seq": i + 1, "at": now, "type": kind, "message": message})
			fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", i+1, kind, data)
		}
	}
}

func problem(status int, code, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":%q,"request_id":"req-7"}`, status, code, detail)
	}
}

// result is what a run of hivectl left.
type result struct {
	code           int
	stdout, stderr string
}

// hivectl runs a command against addr, with output to a pipe.
func hivectl(t *testing.T, addr string, args ...string) result {
	t.Helper()
	return hivectlWith(t, func(e *cli.Env) {}, append([]string{"--addr", addr}, args...)...)
}

func hivectlWith(t *testing.T, change func(*cli.Env), args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := cli.Env{
		Args: args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(string) string { return "" }, Version: "v0.0.1", Now: func() time.Time { return now },
		WatchInterval: 20 * time.Millisecond, // more often than people need
	}
	change(&env)
	code := command.Run(env)
	return result{code, stdout.String(), stderr.String()}
}

// worker is a worker as the API writes it.
func worker(id, name, state string, port int) string {
	pid := "4711"
	if state == "stopped" || state == "failed" {
		pid = "null"
	}
	if name == "" {
		name = "null"
	} else {
		name = `"` + name + `"`
	}
	return fmt.Sprintf(`{"worker_id":%q,"name":%s,"type":"cpu","model":null,"device":null,"port":%d,"ports":[%d],"pid":%s,"url":"http://127.0.0.1:%d","state":%q,"reason":null,"stale":false,"desired":"running","restarts":0,"exit":null,"lease_id":null,"log":"/l","started_at":"2026-01-02T11:59:00.000Z","ready_at":null,"news":true}`,
		id, name, port, port, pid, port, state)
}

func workers(list ...string) http.HandlerFunc {
	return answer(`{"workers":[` + strings.Join(list, ",") + `],"next":""}`)
}
