//go:build unix

package command_test

import (
	"bytes"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

// interrupt is Ctrl-C.
func interrupt(t *testing.T) {
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

func TestCtrlCDetaches(t *testing.T) {
	routes := spawning()
	routes["GET /v1/jobs/job-1/events"] = func(w http.ResponseWriter, r *http.Request) {
		events("port port 8080 leased")(w, r)
		w.(http.Flusher).Flush()
		interrupt(t)
		<-r.Context().Done()
	}
	for _, args := range [][]string{{"up", "cpu"}, {"jobs", "watch", "job-1"}} {
		_, addr := serve(t, routes)
		r := hivectl(t, addr, args...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "detached: job job-1 continues\nwatch it with: hivectl jobs watch job-1\nstop it with:  hivectl jobs cancel job-1\n")
		require.NotContains(t, r.stderr, "hivectl: ")
	}
}

// interruptingWriter is a person who has seen enough.
type interruptingWriter struct {
	t *testing.T
	bytes.Buffer
}

func (w *interruptingWriter) Write(p []byte) (int, error) {
	interrupt(w.t)
	return w.Buffer.Write(p)
}

// Ctrl-C is how one stops looking at a log, and a failure everywhere else.
func TestCtrlCWhileWaiting(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) {
		interrupt(t)
		<-r.Context().Done()
	}
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("w", "", "loading", 8080)),
		"GET /v1/workers/w/logs": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("line\n"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"GET /v1/workers/w": hang,
		"GET /v1/ports":     hang,
	})
	for args, code := range map[string]int{"logs w": 1, "logs w -f": 0} {
		out := &interruptingWriter{t: t}
		r := hivectlWith(t, func(e *cli.Env) { e.Stdout = out }, append([]string{"--addr", addr}, strings.Fields(args)...)...)
		require.Equal(t, code, r.code, args)
		require.Equal(t, "line\n", out.String())
	}
	for _, args := range [][]string{{"workers", "wait", "w"}, {"ports"}} {
		r := hivectl(t, addr, args...)
		require.Equal(t, result{1, "", "hivectl: interrupted\n"}, r, args)
	}
}

// A terminal of a test is none, and a file neither.
func TestSystem(t *testing.T) {
	env := cli.System("v9")
	require.Equal(t, "v9", env.Version)
	require.WithinDuration(t, time.Now(), env.Now(), time.Minute)
	require.NotEmpty(t, cli.System("").Version)
}
