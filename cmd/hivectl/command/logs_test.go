package command_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLogs(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("w-1", "", "failed", 8080)),
		"GET /v1/workers/w-1/logs": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "\x1b[1m%s", r.URL.RawQuery)
		},
	})
	for query, args := range map[string][]string{
		"":                   {},
		"tail=0":             {"--tail", "0"},
		"tail=5&follow=true": {"-f", "--tail", "5"},
	} {
		for _, command := range [][]string{{"logs", "w-1"}, {"workers", "logs", "w-1"}} {
			r := hivectl(t, addr, append(command, args...)...)
			require.Equal(t, result{0, "\x1b[1m" + query, ""}, r, "a log is passed on as it is")
		}
	}
	for _, args := range [][]string{{"--tail", "-1"}, {"--tail", "x"}} {
		require.Equal(t, 2, hivectl(t, addr, append([]string{"logs", "w-1"}, args...)...).code, args)
	}
	require.Equal(t, 3, hivectl(t, addr, "logs", "nobody").code)
	require.Equal(t, 3, hivectl(t, addr, "logs", "w-1", "nobody").code)
	require.Equal(t, 2, hivectl(t, addr, "logs").code)
}

// A log that is cut off must not look like one that is complete.
func TestLogsOfAHiveThatDies(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("w-1", "", "ready", 8080)),
		"GET /v1/workers/w-1/logs": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "line")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	})
	r := hivectl(t, addr, "logs", "-f", "w-1")
	require.Equal(t, 4, r.code)
	require.Equal(t, "line\n", r.stdout)
	require.Contains(t, r.stderr, "hivectl: no hive at ")
}

// Several logs: each line says whose it is, and a long one is not held in memory.
func TestLogsOfSeveral(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers":          workers(worker("w-1", "alpha", "failed", 8080), worker("w-2", "", "ready", 8081)),
		"GET /v1/workers/w-1/logs": text("one\n\ntwo"),
		"GET /v1/workers/w-2/logs": text("three\n" + strings.Repeat("x", 100<<10) + "\n"),
	})
	r := hivectl(t, addr, "logs", "alpha", "w-2", "w-1")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "alpha | one\nalpha | \nalpha | two\nw-2   | three\nw-2   | "+strings.Repeat("x", 64<<10)+"\nw-2   | "+strings.Repeat("x", 36<<10)+"\n", r.stdout)
	r = hivectl(t, addr, "logs", "-f", "alpha", "w-2")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "alpha | one\n")
	require.Contains(t, r.stdout, "w-2   | three\n")
}
