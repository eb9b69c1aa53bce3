package command_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rbeehive/cmd/hivectl/command"
)

func TestYAMLIsTheSameAsJSON(t *testing.T) {
	raw := `{"z":1,"a":"0","b":"true","c":null,"d":[],"e":{},"f":[{"g":1.5},[1,2]],"h":"two\nlines","i":"\ud83d\ude00","j":12345678901234567890,"k":"null","l":"~","m":": x","n":"","o":"2026-01-02T12:00:00.000Z","p":false,"q":"\u0007"}`
	text, err := command.YAMLOf(json.RawMessage(raw))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "z: 1\na: \"0\"\n"), "order is kept:\n%s", text)
	require.Contains(t, string(text), "d: []\ne: {}\n")
	var fromYAML, fromJSON map[string]any
	require.NoError(t, yaml.Unmarshal(text, &fromYAML))
	require.NoError(t, json.Unmarshal([]byte(raw), &fromJSON))
	a, err := json.Marshal(fromYAML)
	require.NoError(t, err)
	b, err := json.Marshal(fromJSON)
	require.NoError(t, err)
	require.JSONEq(t, string(b), string(a))

	_, err = command.YAMLOf(json.RawMessage(`{"a":`))
	require.Error(t, err)
}

func TestTableFitsTheTerminal(t *testing.T) {
	long := worker("cpu-8080-aaaaaa", strings.Repeat("n", 60), "ready", 8080)
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(long, worker("cpu-8081-b", "", "failed", 8081))})
	for _, width := range []int{40, 80} {
		r := hivectlWith(t, func(e *command.Env) { e.Width = width }, "--addr", addr, "workers", "list")
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
		r := hivectlWith(t, func(e *command.Env) {
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
