package command_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

func TestTableFitsTheTerminal(t *testing.T) {
	long := worker("cpu-8080-aaaaaa", strings.Repeat("n", 60), "ready", 8080)
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(long, worker("cpu-8081-b", "", "failed", 8081))})
	for _, width := range []int{40, 80} {
		r := hivectlWith(t, func(e *cli.Env) { e.Width = width }, "--addr", addr, "workers", "list")
		require.Zero(t, r.code)
		plain := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[0m", "").Replace(r.stdout)
		for line := range strings.Lines(plain) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), width, line)
		}
	}
	r := hivectl(t, addr, "workers", "list")
	require.Contains(t, r.stdout, strings.Repeat("n", 60)+"  ready", "a pipe has no width")
}

func TestColour(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(worker("cpu-8080-a", "", "ready", 8080))})
	for _, c := range []struct {
		width  int
		env    map[string]string
		colour bool
	}{
		{200, nil, true},
		{0, nil, false},
		{200, map[string]string{"NO_COLOR": "1"}, false},
		{200, map[string]string{"NO_COLOR": "0"}, false},
		{200, map[string]string{"TERM": "dumb"}, false},
	} {
		r := hivectlWith(t, func(e *cli.Env) {
			e.Width = c.width
			e.Getenv = func(name string) string { return c.env[name] }
		}, "--addr", addr, "ps")
		require.Zero(t, r.code, r.stderr)
		require.Equal(t, c.colour, strings.Contains(r.stdout, "\x1b[32mready\x1b[0m"), "%+v", c)
		require.Equal(t, c.colour, strings.Contains(r.stdout, "\x1b"), "%+v", c)
	}
}

func TestPsLeavesTheRestAsItWas(t *testing.T) {
	alive := worker("cpu-8080-a", "", "unverified", 8080)
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(worker("cpu-8080-0", "", "failed", 8080), alive)})
	r := hivectl(t, addr, "ps", "-o", "json")
	require.Equal(t, `{"workers":[`+alive+`],"next":""}`+"\n", r.stdout)
}

// What a worker calls itself must not reach the terminal as an escape sequence.
func TestControlCharactersDoNotReachTheTerminal(t *testing.T) {
	evil := strings.Replace(worker("cpu-8080-a", "", "ready", 8080), `"model":null`, `"model":"m\u001b[2J\nx\u009b1m"`, 1)
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers":                   workers(evil),
		"GET /v1/workers/cpu-8080-a":        answer(evil),
		"GET /v1/workers/cpu-8080-a/events": answer(`{"events":[{"seq":1,"at":"2026-01-02T12:00:00Z","type":"log","message":"a\u001b]0;x\u0007\rb"}]}`),
	})
	for _, args := range [][]string{{"ps"}, {"workers", "get", "cpu"}, {"describe", "cpu"}} {
		r := hivectl(t, addr, args...)
		require.Zero(t, r.code, r.stderr)
		require.NotRegexp(t, "[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f]", r.stdout)
	}
}
