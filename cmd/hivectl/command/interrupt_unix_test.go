//go:build unix

package command_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command"
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
		require.Contains(t, r.stderr, "detached: job job-1 goes on\nwatch it with: hivectl jobs watch job-1\nstop it with:  hivectl jobs cancel job-1\n")
		require.NotContains(t, r.stderr, "hivectl: ")
	}
}

// Ctrl-C is how one stops looking at a log, and a failure everywhere else.
func TestCtrlCWhileWaiting(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/logs") {
			_, _ = w.Write([]byte("line\n"))
			w.(http.Flusher).Flush()
		}
		interrupt(t)
		<-r.Context().Done()
	}
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers":        workers(worker("w", "", "loading", 8080)),
		"GET /v1/workers/w/logs": hang,
		"GET /v1/workers/w":      hang,
		"GET /v1/ports":          hang,
	})
	r := hivectl(t, addr, "logs", "-f", "w")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "line\n", r.stdout)
	for _, args := range [][]string{{"logs", "w"}, {"workers", "wait", "w"}, {"ports"}} {
		r := hivectl(t, addr, args...)
		require.Equal(t, 1, r.code, args)
		require.Equal(t, "hivectl: interrupted\n", r.stderr, args)
	}
}

// A terminal of a test is none, and a file neither.
func TestSystem(t *testing.T) {
	env := command.System("v9")
	require.Equal(t, "v9", env.Version)
	require.WithinDuration(t, time.Now(), env.Now(), time.Minute)
	require.NotEmpty(t, command.System("").Version)
}
