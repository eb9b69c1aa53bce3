package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/store/plain"
)

// evil is what somebody may put into a name: it sets the title of a terminal, clears it,
// goes back to the beginning of the line, turns the text around, and is not seen.
const evil = "\x1b]0;x\x07\x1b[2J\u009b1m\r\x7f\u202egpj\u200b\U000e0041"

// foul puts it into every text of an answer that is no time.
func foul(t *testing.T, body string) string {
	t.Helper()
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return v + evil
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				if k != "state" { // or a job never ends
					v[k] = walk(v[k])
				}
			}
		}
		return v
	}
	var v any
	require.NoError(t, json.Unmarshal([]byte(body), &v), body)
	raw, err := json.Marshal(walk(v))
	require.NoError(t, err)
	return string(raw)
}

// paints are the only sequences that hivectl itself has in its texts.
var paints = strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "")

func requireHarmless(t *testing.T, text string, args []string) {
	t.Helper()
	for line := range strings.Lines(paints.Replace(text)) {
		require.Empty(t, plain.Flaw(strings.TrimSuffix(line, "\n")), "%q: %q", args, line)
	}
}

// Whatever the texts are that a hive answers with, nothing of them drives a terminal.
func TestNothingHiddenReachesTheTerminal(t *testing.T) {
	job := `{"job_id":"job-1","operation":"worker_spawn","state":"failed","request":{"a":"b"},"result":null,"error":{"code":"c","message":"m","log":["line"]},"created_at":"2026-01-02T11:00:00.000Z"}`
	event := `{"seq":1,"at":"2026-01-02T12:00:00Z","type":"log","job_id":"job-1","worker_id":"w-1","message":"m","data":null}`
	routes := map[string]http.HandlerFunc{}
	for route, body := range map[string]string{
		"GET /v1/hive": hiveJSON, "GET /v1/ports": portsJSON, "GET /v1/leases": `{"leases":[` + lease + `],"next":""}`, "GET /v1/leases/8080": lease,
		"GET /v1/workers": `{"workers":[` + because(worker("w-1", "web", "failed", 8080), "why") + `],"next":""}`, "POST /v1/audit": findings, "GET /v1/audit": findings,
		"GET /v1/doctor": `{"checks":[` + okJSON + `,` + warningJSON + `],"warnings":1}`, "GET /v1/types": typesJSON, "GET /v1/types/chat": typeJSON,
		"GET /v1/jobs": `{"jobs":[` + job + `],"next":"job-1"}`, "GET /v1/jobs/job-1": job, "POST /v1/reload": planJSON,
	} {
		routes[route] = answer(foul(t, body))
	}
	one := because(worker("w-1", "web", "failed", 8080), "why")
	routes["GET /v1/workers/w-1"] = answer(strings.NewReplacer(`w-1`+jsonText(t, evil), "w-1").Replace(foul(t, one)))
	routes["GET /v1/workers/w-1/events"] = answer(`{"events":[` + foul(t, event) + `],"next":""}`)
	stream := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: 1\nevent: log\ndata: %s\n\nid: 2\nevent: end\ndata: %s\n\n", foul(t, event), strings.Replace(foul(t, event), `"log`, `"end`, 1))
	}
	routes["GET /v1/jobs/job-1/events"], routes["GET /v1/events"] = stream, stream
	routes["POST /v1/jobs"] = problem(http.StatusBadRequest, "bad_request", `a`+jsonText(t, evil))
	_, addr := serve(t, routes)

	commands := [][]string{
		{"ps"},
		{"workers", "list"},
		{"workers", "get", "w-1"},
		{"leases", "list"},
		{"leases", "get", "8080"},
		{"ports"},
		{"audit"},
		{"doctor"},
		{"status"},
		{"types", "list"},
		{"types", "explain", "chat"},
		{"jobs", "list"},
		{"jobs", "get", "job-1"},
		{"jobs", "watch", "job-1"},
		{"reload", "--dry-run"},
		{"up", "cpu"},
		{"workers", "get", "nobody" + evil},
		{"no-such-" + evil},
		{"ps", "--no-" + evil},
		{"up", "--wait", evil, "cpu"},
		{"describe", "w-1"},
	}
	for _, args := range commands {
		for _, form := range [][]string{nil, {"-o", "json"}, {"-o", "yaml"}, {"-q"}} {
			args := append(append([]string{"--addr", addr}, args...), form...)
			r := hivectlWith(t, func(e *cli.Env) { e.Width = 100 }, args...)
			requireHarmless(t, r.stdout+"\n"+r.stderr, args)
			if form == nil {
				require.NotEmpty(t, r.stdout+r.stderr, args)
				r = hivectl(t, addr, args...)
				requireHarmless(t, r.stdout+"\n"+r.stderr, args) // a table may be looked at with a pager
			}
		}
	}
}

// jsonText is a text as it stands within a string of JSON.
func jsonText(t *testing.T, text string) string {
	t.Helper()
	raw, err := json.Marshal(text)
	require.NoError(t, err)
	return strings.Trim(string(raw), `"`)
}

// A log keeps its colours on a terminal, and drives it no further; a pipe gets it as it is.
func TestALogOnATerminal(t *testing.T) {
	log := ""
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("w-1", "alpha", "failed", 8080), worker("w-2", "", "ready", 8081)),
		"GET /v1/workers/w-1/logs": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			for i := range len(log) { // byte by byte: a sequence comes in pieces
				fmt.Fprint(w, log[i:i+1])
				w.(http.Flusher).Flush()
			}
		},
		"GET /v1/workers/w-2/logs": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "other") },
	})
	logs := func(change func(*cli.Env), workers ...string) string {
		t.Helper()
		r := hivectlWith(t, func(e *cli.Env) { e.Width = 80; change(e) }, append([]string{"--addr", addr, "logs"}, workers...)...)
		require.Zero(t, r.code, r.stderr)
		return r.stdout
	}
	asEver := func(*cli.Env) {}
	for in, want := range map[string]string{
		"one\ntwo":                               "one\ntwo",
		"Grüße 🐝\tתודה\n":                        "Grüße 🐝\tתודה\n",
		"\x1b[1;31mred\x1b[0m\n":                 "\x1b[1;31mred\x1b[0m\x1b[0m\n",
		"\x1b[31mred\nno":                        "\x1b[31mred\x1b[0m\nno",
		"50%\r\x1b[31mred\nplain\n":              "50%\n\x1b[31mred\x1b[0m\nplain\n", // reset although a line was drawn over before
		"\x1b[8mhidden":                          "\x1b[8mhidden\x1b[0m",
		"\x1b]0;x\x07\x1b[2J\n":                  `\x1b]0;x\x07\x1b[2J` + "\n",
		"\x1b[1":                                 `\x1b[1`,
		"\x1b":                                   `\x1b`,
		"\x1b\x1b[31mx":                          `\x1b` + "\x1b[31mx\x1b[0m",
		"\x1b[" + strings.Repeat("1", 100) + "m": `\x1b[` + strings.Repeat("1", 100) + "m",
		"10%\r20%\r30%\r\nend\n":                 "10%\n20%\n30%\nend\n",
		"\r10%\r20%":                             "\n10%\n20%",
		"\u202eevil\u200b\x9b\xe2":               `\u202eevil\u200b\x9b\xe2`,
		"a\x00b\x7f\b\n":                         `a\x00b\x7f\x08` + "\n",
	} {
		log = in
		require.Equal(t, want, logs(asEver, "w-1"), "%q", in)
		require.Equal(t, in, logs(func(e *cli.Env) { e.Width = 0 }, "w-1"), "a pipe")
	}
	log = "\x1b[1;31mred\x1b[0m\x1b[2J\n"
	require.Equal(t, `red\x1b[2J`+"\n", logs(func(e *cli.Env) {
		e.Getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
	}, "w-1"))
	log = "\x1b[31mone\r\ntwo\rw-2   | three\n\x1b[H"
	require.Equal(t, "alpha | \x1b[31mone\x1b[0m\nalpha | two\nalpha | w-2   | three\nalpha | \\x1b[H\nw-2   | other\n", logs(asEver, "w-1", "w-2"), "no line is without its label")
}
